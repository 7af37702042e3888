"""The demo: `make demo`. Ends with exit code 0 only if everything worked and the accuracy is at least 95
%.
"""

import csv
import sys

import numpy as np

from examples.demo import models, report, serve
from examples.demo.cluster import Kubectl
from examples.demo.install import install
from examples.demo.phases import Phases, StepFailed
from examples.demo.score import score

LEAST_ACCURACY = 0.95


def digits(phases: Phases, kubectl: Kubectl, example: models.Example) -> float:
    """Serve and score the digits network; return its accuracy."""
    with phases.phase("Digits: FpgaModel, AccelImage, AccelService"):
        client = serve.serve(phases, kubectl, example)
        for line in kubectl("get", "accel", "--namespace", serve.NAMESPACE).splitlines():
            phases.say(line)
    with (example.folder / "labels.csv").open() as file:
        entries = list(csv.DictReader(file))
    files = [example.folder / "pictures" / entry["picture"] for entry in entries]
    labels = np.array([int(entry["label"]) for entry in entries])
    with phases.phase(f"Digits: {len(files)} held-out JPEG pictures over gRPC"), client:
        scores = score(client, [file.read_bytes() for file in files], phases.say)
        float32 = np.load(example.folder / "float32.npy")
        for line in ["", *report.pictures(files, scores.answers, labels)]:
            phases.say(line)
        for line in report.digits(scores, float32, labels, serve.devices(kubectl, example.name)):
            phases.say(line)
    return float((scores.answers.argmax(axis=1) == labels).mean())


def resnet(phases: Phases, kubectl: Kubectl, example: models.Example) -> None:
    """Serve ResNet-50 and score its pictures."""
    with phases.phase("ResNet-50: the same three objects"):
        client = serve.serve(phases, kubectl, example)
    files = sorted((example.folder / "pictures").glob("*.jpg"))
    with phases.phase(f"ResNet-50: {len(files)} photographs over gRPC"), client:
        scores = score(client, [file.read_bytes() for file in files], phases.say)
        float32 = np.load(example.folder / "float32.npy")
        held = serve.devices(kubectl, example.name)
        for line in report.resnet([file.name for file in files], scores, float32, held):
            phases.say(line)


def main() -> int:
    """Run the demo; return the exit code."""
    phases = Phases()
    try:
        with phases.phase("Networks: trained or built with TensorFlow, exported as SavedModels"):
            small = models.make(phases, "digits", "examples.digits.train")
            large = models.make(phases, "resnet50", "examples.resnet50.build")
        kubectl = install(phases)
        accuracy = digits(phases, kubectl, small)
        resnet(phases, kubectl, large)
    except StepFailed as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    print()
    for line in report.times(phases.times):
        phases.say(line)
    verdict = (
        "passed" if accuracy >= LEAST_ACCURACY else f"FAILED: at least {LEAST_ACCURACY:.0%} is asked for"
    )
    print(
        f"\nThe demo {verdict}: {accuracy:.1%} of the held-out digits were read right, on an emulated FPGA."
    )
    print("The cluster stays up: `make -s kubeconfig` prints its kubeconfig, `make cluster-down` ends it.")
    return 0 if accuracy >= LEAST_ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main())
