"""One network through the three objects: push, apply, wait; then a client that holds the service's key."""

import re
import time

import yaml
from accel import PredictionClient
from accel.kubectl import Kubectl as UsersKubectl
from accel.service import client_of

from examples.demo.cluster import Kubectl, story
from examples.demo.models import Example
from examples.demo.phases import Phases, StepFailed

NAMESPACE = "demo"
TIMEOUT_S = 900
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
KINDS = {"fpgamodel": "converted", "accelimage": "built", "accelservice": "serving"}


def serve(phases: Phases, kubectl: Kubectl, example: Example) -> PredictionClient:
    """Return a client of the service that serves `example`; everything that is already done is left alone."""
    manifest = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
"""
    kubectl("apply", "--filename", "-", stdin=manifest)
    uri = f"oci:///sources/{example.name}:1"
    phases.doing(f"kubectl accel push … {uri}")
    pushed = DIGEST.search(kubectl.accel("push", str(example.saved_model), uri))
    if pushed is None:
        raise StepFailed("`kubectl accel push` did not print the digest of what it pushed")
    phases.say(f"kubectl accel push saved_model {uri}")
    for line in kubectl(
        "apply", "--namespace", NAMESPACE, "--filename", "-", stdin=_objects(example, pushed.group(1))
    ).splitlines():
        phases.say(f"kubectl apply: {line}")
    for kind, done in KINDS.items():
        _wait(phases, kubectl, kind, example.name, done)
    return client_of(
        UsersKubectl(NAMESPACE, program=str(kubectl.kubectl), kubeconfig=kubectl.kubeconfig), example.name
    )


def _objects(example: Example, digest: str) -> str:
    """Return the three YAML files, the model's source pinned to what was pushed.

    The tag may have got other bytes since an earlier run (another TensorFlow, an edited network): a changed
    pin is a changed spec, which `kubectl wait` keeps apart from the old one.
    """
    documents = [yaml.safe_load(file.read_text()) for file in sorted(example.objects.glob("*.yaml"))]
    for document in documents:
        if document["kind"] == "FpgaModel":
            document["spec"]["source"]["sha256"] = digest
    return str(yaml.safe_dump_all(documents))


def _wait(phases: Phases, kubectl: Kubectl, kind: str, name: str, done: str) -> None:
    started = time.monotonic()
    phases.doing(f"kubectl wait --for=condition=Ready {kind}/{name}")
    try:
        kubectl("wait", "--namespace", NAMESPACE, "--for=condition=Ready", f"{kind}/{name}",
                f"--timeout={TIMEOUT_S}s")  # fmt: skip
    except StepFailed as error:
        raise StepFailed(f"{error}\n\n{story(kubectl, NAMESPACE)}") from None
    phases.say(f"{kind}/{name} {done} after {time.monotonic() - started:.1f} s")


def devices(kubectl: Kubectl, name: str) -> list[str]:
    """Return the FPGAs that the service holds, as node/device."""
    status = kubectl.get(NAMESPACE, f"accelservice/{name}")["status"]
    return [f"{entry['node']}/{entry['device']}" for entry in status.get("devices", [])]
