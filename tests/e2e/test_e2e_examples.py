"""The examples as users get them: JPEG strings into SavedModels, through three YAML objects, to answers."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml
from accel import PredictionClient
from clients import client_of
from kube import Kube, is_ready

from examples.demo import models
from examples.demo.phases import Phases
from examples.demo.score import agreement, deviation, score


def served(kube: Kube, example: models.Example, accel: Callable[..., str]) -> PredictionClient:
    """Push, apply the example's own three files in the wrong order, wait, connect."""
    accel("push", str(example.saved_model), f"oci:///sources/{example.name}:1")
    for file in ("service.yaml", "image.yaml", "model.yaml"):
        kube.apply(*yaml.safe_load_all((example.objects / file).read_text()))
    for kind in ("fpgamodel", "accelimage", "accelservice"):
        assert is_ready(kube.wait_ready(kind, example.name, timeout=600))
    return client_of(kube, example.name)


@pytest.fixture(scope="module")
def digits() -> models.Example:
    return models.make(Phases(), "digits", "examples.digits.train")


@pytest.fixture(scope="module")
def client(kube: Kube, digits: models.Example, accel: Callable[..., str]) -> PredictionClient:
    return served(kube, digits, accel)


@pytest.fixture(scope="module")
def jpegs(digits: models.Example) -> list[bytes]:
    with (digits.folder / "labels.csv").open() as file:
        return [(digits.folder / "pictures" / row["picture"]).read_bytes() for row in csv.DictReader(file)]


def test_200_held_out_digits(client: PredictionClient, digits: models.Example, jpegs: list[bytes]) -> None:
    with (digits.folder / "labels.csv").open() as file:
        labels = np.array([int(row["label"]) for row in csv.DictReader(file)])
    scores = score(client, jpegs, lambda _: None)
    float32 = np.load(digits.folder / "float32.npy")

    assert len(jpegs) == 200
    assert (scores.answers.argmax(axis=1) == labels).mean() >= 0.95
    assert agreement(scores.answers, float32) >= 0.97
    assert 1e-4 < deviation(scores.answers, float32) < 0.2, "the device quantises, and only that"
    assert (scores.simulated > 0).all()
    assert (scores.device_wall > scores.simulated).all(), "an emulator on a CPU is slower than the card"


BAD_PICTURES: dict[str, tuple[Callable[[bytes], bytes], list[str]]] = {
    "truncated": (lambda jpeg: jpeg[: len(jpeg) // 2], ["images"]),
    "empty string": (lambda _: b"", ["images", "empty"]),
    "not a picture": (lambda _: b"hello", ["images", "JPEG"]),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_bad_picture_is_an_argument_error(client: PredictionClient, jpegs: list[bytes], case: str) -> None:
    spoil, words = BAD_PICTURES[case]
    with pytest.raises(grpc.RpcError) as refused:
        client.score_image(spoil(jpegs[0]), "images", "output_alias")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.value.details()
    for word in words:
        assert word in refused.value.details()
    client.score_image(jpegs[0], "images", "output_alias")


def test_tls_with_a_secret_that_the_user_brings(
    kube: Kube, client: PredictionClient, jpegs: list[bytes], tmp_path: Path
) -> None:
    plain = client.score_image(jpegs[0], "images", "output_alias")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=digits",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    kube("create", "secret", "tls", "mine", f"--cert={tmp_path}/tls.crt", f"--key={tmp_path}/tls.key")
    kube.patch("accelservice", "digits", {"spec": {"tls": {"secretRef": {"name": "mine"}}}})
    kube.wait_ready("accelservice", "digits")
    with client_of(kube, "digits", tmp_path / "tls.crt") as secure:
        answer = secure.score_image(jpegs[0], "images", "output_alias", timeout=60)
    np.testing.assert_array_equal(answer, plain)


def test_resnet50_answers_a_picture(kube: Kube, accel: Callable[..., str]) -> None:
    resnet = models.make(Phases(), "resnet50", "examples.resnet50.build")
    files = sorted((resnet.folder / "pictures").glob("*.jpg"))
    with served(kube, resnet, accel) as client:
        scores = score(client, [file.read_bytes() for file in files], lambda _: None)
    float32 = np.load(resnet.folder / "float32.npy")
    assert 1e-4 < deviation(scores.answers, float32) < 0.5
    device = kube.get("fpgamodel", "resnet50")["status"]["device"]
    assert device["tiles"] == 1461  # the firmware's own count of ResNet-50's weight tiles
    assert 1.5 < float(device["latencyMs"]) < 2.5
