"""Manifests of the two Jobs, and the names that make each run once.

Every container passes the pod-security level *restricted*; the Job's pod has no service-account token.
"""

import hashlib
import json
from typing import Any

from fpga_operator.api.fpgamodel import ConversionLimits
from fpga_operator.config import Config
from fpga_operator.plan.types import Manifest, Owner, child

# The operator itself repeats what may pass, later and later; meanwhile the slot is somebody else's.
BACKOFF_LIMIT = 0
KEEP_FINISHED_SECONDS = 3600  # long enough for an operator that is down over lunch to read the result
EXIT_TERMINAL = 65
EXIT_OOM = 137
HASH_DIGITS = 10
USER = 65532
REQUESTED_MEMORY = "256Mi"

# Where the containers find what they alone may see. A Secret is mounted as optional: the container itself then says
# which one is missing, where a pod that cannot mount it would wait without a word and keep a Job slot.
SOURCE_SECRET_DIR = "/var/run/accel/source-secret"  # noqa: S105 - a folder's name
SOURCE_CLAIM_DIR = "/var/run/accel/source-claim"
REGISTRY_SECRET_DIR = "/var/run/accel/registry-secret"  # noqa: S105 - as above

SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def stable_hash(payload: Any, digits: int = HASH_DIGITS) -> str:
    """Return the first hexadecimal digits of the SHA-256 of the payload's canonical JSON."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def job_name(owner: Owner, inputs: Any) -> str:
    """Return `<name cut>-<hash>`: equal inputs of one object give one Job, ever.

    The uid is part of it, so that an object applied again does not meet the Job of its predecessor.
    """
    digits = stable_hash({"kind": owner.kind, "uid": owner.uid, "inputs": inputs})
    head = owner.name.replace(".", "-")[: 63 - HASH_DIGITS - 1].rstrip("-")
    return f"{head}-{digits}"


def claim_of(uri: str) -> str | None:
    """Return the PersistentVolumeClaim that a source lies in."""
    return uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else None


def _secret_volume(name: str, secret: str) -> Manifest:
    return {"name": name, "secret": {"secretName": secret, "optional": True, "defaultMode": 0o440}}


def _mounted(container: Manifest, volume: str, path: str, variable: str) -> Manifest:
    """Return the container with a read-only volume, and a variable that tells where it is."""
    return {
        **container,
        "env": [*container["env"], {"name": variable, "value": path}],
        "volumeMounts": [
            *container["volumeMounts"],
            {"name": volume, "mountPath": path, "readOnly": True},
        ],
    }


def _container(
    name: str, image: str, command: str, payload: str, cpu: str, memory: str, request: str = REQUESTED_MEMORY
) -> Manifest:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["accel-toolchain"],
        "args": [command],
        "env": [
            {"name": "ACCEL_JOB", "value": payload},
            {"name": "HOME", "value": "/tmp"},
        ],
        "workingDir": "/work",
        "resources": {
            "requests": {"cpu": "100m", "memory": request},
            "limits": {"cpu": cpu, "memory": memory},
        },
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "work", "mountPath": "/work"}, {"name": "tmp", "mountPath": "/tmp"}],
    }


def _job(
    owner: Owner,
    name: str,
    labels: dict[str, str],
    *,
    init: list[Manifest],
    main: Manifest,
    volume: str,
    volumes: list[Manifest],
    deadline: int,
) -> Manifest:
    rules: list[Manifest] = [
        # A drained or evicted pod says nothing about its input: run it again, without counting.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_TERMINAL]}},
    ]
    if any(container["name"] == "convert" for container in init):
        rules.append(
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": "convert", "operator": "In", "values": [EXIT_OOM]},
            }
        )
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [main],
        "volumes": [
            {"name": "work", "emptyDir": {"sizeLimit": volume}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            *volumes,
        ],
    }
    if init:
        pod["initContainers"] = init
    spec = {
        "backoffLimit": BACKOFF_LIMIT,
        "activeDeadlineSeconds": deadline,
        "ttlSecondsAfterFinished": KEEP_FINISHED_SECONDS,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return child("batch/v1", "Job", owner, name, labels, spec=spec)


def convert_job(
    owner: Owner,
    name: str,
    labels: dict[str, str],
    payload: Manifest,
    config: Config,
    limits: ConversionLimits | None = None,
) -> Manifest:
    """Return the conversion: fetch, then convert without network or secrets, then push.

    The source's Secret or claim is mounted into fetch alone, the registry's Secret into fetch and push. Memory that the
    user asks for is requested as well, so that a node without it is not chosen.
    """
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    tools, jobs = config.images, config.jobs
    asked = limits.memory if limits is not None else None
    fetch = _container("fetch", tools.toolchain, "fetch", text, "1", "1Gi")
    convert = _container(
        "convert",
        tools.converter,
        "convert",
        text,
        jobs.convert_cpu,
        asked or jobs.convert_memory,
        asked or REQUESTED_MEMORY,
    )
    push = _container("push", tools.toolchain, "push", text, "1", "1Gi")
    volumes: list[Manifest] = []
    if secret := payload["source"].get("secret"):
        volumes.append(_secret_volume("source-secret", secret))
        fetch = _mounted(fetch, "source-secret", SOURCE_SECRET_DIR, "ACCEL_SOURCE_SECRET")
    if claim := claim_of(payload["source"]["uri"]):
        volumes.append(
            {"name": "source-claim", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        )
        fetch = _mounted(fetch, "source-claim", SOURCE_CLAIM_DIR, "ACCEL_SOURCE_CLAIM")
    if secret := config.registry.secret_name:
        volumes.append(_secret_volume("registry-secret", secret))
        fetch, push = (_with_registry(container) for container in (fetch, push))
    return _job(
        owner,
        name,
        labels,
        init=[fetch, convert],
        main=push,
        volume=jobs.work_volume,
        volumes=volumes,
        deadline=(limits.deadline_seconds if limits is not None else None) or jobs.deadline_seconds,
    )


def _with_registry(container: Manifest) -> Manifest:
    return _mounted(container, "registry-secret", REGISTRY_SECRET_DIR, "ACCEL_REGISTRY_SECRET")


def build_job(owner: Owner, name: str, labels: dict[str, str], payload: Manifest, config: Config) -> Manifest:
    """Return the image build: base and model layer are mounted in the registry, so it needs little of anything."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    build = _container("build", config.images.toolchain, "build", text, "1", "512Mi")
    secret = config.registry.secret_name
    return _job(
        owner,
        name,
        labels,
        init=[],
        main=_with_registry(build) if secret else build,
        volume="2Gi",
        volumes=[_secret_volume("registry-secret", secret)] if secret else [],
        deadline=config.jobs.deadline_seconds,
    )
