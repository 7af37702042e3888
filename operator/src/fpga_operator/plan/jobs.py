"""Manifests of the two Jobs, and the names that make each run once.

Every container passes the pod-security level *restricted*; the Job's pod has no service-account token.
"""

import hashlib
import json
from typing import Any

from fpga_operator.config import Config
from fpga_operator.plan.types import Manifest, Owner, child

# The operator itself repeats what may pass, later and later; meanwhile the slot is somebody else's.
BACKOFF_LIMIT = 0
KEEP_FINISHED_SECONDS = 3600  # long enough for an operator that is down over lunch to read the result
EXIT_TERMINAL = 65
EXIT_OOM = 137
HASH_DIGITS = 10
USER = 65532

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


def _container(name: str, image: str, command: str, payload: str, cpu: str, memory: str) -> Manifest:
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
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": cpu, "memory": memory},
        },
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "work", "mountPath": "/work"}, {"name": "tmp", "mountPath": "/tmp"}],
    }


def _job(
    owner: Owner,
    name: str,
    labels: dict[str, str],
    config: Config,
    *,
    init: list[Manifest],
    main: Manifest,
    volume: str,
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
        ],
    }
    if init:
        pod["initContainers"] = init
    spec = {
        "backoffLimit": BACKOFF_LIMIT,
        "activeDeadlineSeconds": config.jobs.deadline_seconds,
        "ttlSecondsAfterFinished": KEEP_FINISHED_SECONDS,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return child("batch/v1", "Job", owner, name, labels, spec=spec)


def convert_job(
    owner: Owner, name: str, labels: dict[str, str], payload: Manifest, config: Config
) -> Manifest:
    """Return the conversion: fetch, then convert without network or secrets, then push."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    tools, jobs = config.images, config.jobs
    return _job(
        owner,
        name,
        labels,
        config,
        init=[
            _container("fetch", tools.toolchain, "fetch", text, "1", "1Gi"),
            _container("convert", tools.converter, "convert", text, jobs.convert_cpu, jobs.convert_memory),
        ],
        main=_container("push", tools.toolchain, "push", text, "1", "1Gi"),
        volume=jobs.work_volume,
    )


def build_job(owner: Owner, name: str, labels: dict[str, str], payload: Manifest, config: Config) -> Manifest:
    """Return the image build: base and model layer are mounted in the registry, so it needs little of anything."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return _job(
        owner,
        name,
        labels,
        config,
        init=[],
        main=_container("build", config.images.toolchain, "build", text, "1", "512Mi"),
        volume="2Gi",
    )
