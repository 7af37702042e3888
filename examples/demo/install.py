"""A cluster with the product on it: `python -m examples.demo.install` (the demo's middle, and the tests'
beginning).

Idempotent: what is there and unchanged is left alone.
"""

import json
import sys
import tempfile

from accel_cluster import Cluster, ClusterError
from accel_cluster.images import __main__ as images
from accel_cluster.images.catalog import IMAGES
from accel_cluster.images.store import ImageError

from examples.demo.cluster import SYSTEM, Kubectl, story
from examples.demo.models import ROOT
from examples.demo.phases import Phases, StepFailed

CHART = ROOT / "charts" / "fpga-operator"
DEVICES = (2, 1)  # emulated FPGAs on the first worker, on the second


def bring_up(phases: Phases) -> Cluster:
    """Bring the throw-away cluster up."""
    phases.run([sys.executable, "-m", "accel_cluster", "up"], cwd=ROOT, show=str.strip)
    return Cluster()


def push_images(phases: Phases, cluster: Cluster) -> dict[str, str]:
    """Build what has changed and make it available to the nodes; return the references by name."""
    references = {}
    for image in IMAGES:
        phases.doing(f"building the image {image.name}")
        made = images.build(image, phases.say)
        phases.doing(f"pushing the image {image.name}")
        references[image.name] = images.push(made, cluster, phases.say)
    return references


def devices(cluster: Cluster) -> dict[str, int]:
    """Return the emulated FPGAs by node: two on the first worker, one on the second, none on the control
    plane.
    """
    return dict(zip(cluster.nodes[1:], DEVICES, strict=False))


def values(references: dict[str, str], cluster: Cluster) -> dict[str, object]:
    """Return the chart's values for this cluster."""
    return {
        "images": {("fpgaNode" if name == "fpga-node" else name): ref for name, ref in references.items()},
        "emulator": {"nodes": devices(cluster)},
        "operator": {"externalAddress": "127.0.0.1"},  # the cluster's NodePorts are forwarded there
    }


def helm(phases: Phases, kubectl: Kubectl, cluster: Cluster, references: dict[str, str]) -> None:
    """Install or upgrade the chart and wait until everything of it runs."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": SYSTEM, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values(references, cluster), file)
        file.flush()
        command = [str(kubectl.helm), "upgrade", "--install", "accel", str(CHART), "--namespace", SYSTEM]
        command += ["--values", file.name, "--wait", "--timeout", "5m"]
        try:
            phases.run(command, env=kubectl.environment, show=_first_lines)
        except StepFailed as error:
            raise StepFailed(
                f"{error}\n\n{story(kubectl, SYSTEM)}\n\n{story(kubectl, 'accel-node')}"
            ) from None
    phases.doing("waiting for the nodes to advertise their FPGAs")
    for node, count in devices(cluster).items():
        path = r"jsonpath={.status.allocatable.fpga\.intel\.com/arria10}"
        kubectl("wait", f"node/{node}", f"--for={path}={count}", "--timeout=180s")
    phases.say(kubectl("get", "fpganodes").replace("\n", "\n   ").rstrip())


def _first_lines(line: str) -> str | None:
    """Leave out the notes, which are for people at a shell."""
    return line if line.startswith(("Release", "STATUS", "REVISION")) else None


def install(phases: Phases) -> Kubectl:
    """Do all of it, phase by phase."""
    try:
        with phases.phase("Cluster: three real Kubernetes nodes, two of them with FPGAs"):
            cluster = bring_up(phases)
        with phases.phase("Images: built without a daemon, pushed into the cluster's registry"):
            references = push_images(phases, cluster)
    except (ClusterError, ImageError) as error:
        raise StepFailed(str(error)) from error
    kubectl = Kubectl(cluster.kubeconfig, cluster.kubectl, cluster.helm)
    with phases.phase("Helm: operator, registry, emulated FPGAs and device plugin"):
        helm(phases, kubectl, cluster, references)
    return kubectl


def main() -> int:
    """Run from the command line; return the exit code."""
    try:
        install(Phases())
    except StepFailed as error:
        print(f"\ninstallation failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
