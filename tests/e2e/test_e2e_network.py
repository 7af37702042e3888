"""The converter reaches no network, whatever the CNI enforces: tried in its own image, on the cluster."""

import json

import pytest
import yaml
from kube import Kube

# What a hostile graph's native code would do, run as the child that `accel-toolchain convert` starts.
TRIES = """
import socket
reached = []
attempts = [lambda: socket.create_connection(("ADDRESS", 5000), 5), lambda: socket.socket(socket.AF_INET6)]
for attempt in attempts:
    try:
        attempt()
        reached.append("yes")
    except PermissionError:
        reached.append("no")
    except OSError as error:
        reached.append(f"no route: {error}")
print("RESULT", reached, flush=True)
"""
CONFINED = f"""
import sys
from accel_toolchain import convert, sandbox
sandbox.install()
import subprocess
subprocess.run([sys.executable, "-c", {TRIES!r}], check=True)
"""


def converter_pod(kube: Kube, system: Kube, name: str, code: str) -> str:
    """Run Python code in the converter's image as tenants' Jobs run it; return its output."""
    text = system("get", "configmap", "-o", "json")
    (config,) = [
        data
        for entry in json.loads(text)["items"]
        for data in entry.get("data", {}).values()
        if "converter" in data
    ]
    image = yaml.safe_load(config)["images"]["converter"]
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "convert",
                        "image": image,
                        "command": ["python3", "-c", code],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        }
    )
    kube.until(
        f"pod {name} ended",
        lambda: kube.get("pod", name)["status"].get("phase") in ("Succeeded", "Failed"),
        story=("pod", name),
    )
    return kube("logs", name)


@pytest.mark.parametrize(
    ("name", "code", "answers"),
    [
        (
            "free",
            TRIES,
            ["yes", "yes"],
        ),  # without the filter the same code gets through: the trial means something
        ("confined", CONFINED, ["no", "no"]),
    ],
)
def test_the_network(kube: Kube, system: Kube, name: str, code: str, answers: list[str]) -> None:
    address = system.get("service", "registry")["spec"][
        "clusterIP"
    ]  # a name would fail for want of a resolver
    told = converter_pod(kube, system, name, code.replace("ADDRESS", address))
    assert f"RESULT {answers}" in told
