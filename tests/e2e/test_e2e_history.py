"""requestedAt looks at a source again, and the history limit never drops what is in use."""

from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, condition
from networks import cnn
from objects import accel_image, chain

Push = Callable[[Any, str], str]
NAME = "past"


def request(kube: Kube, when: str) -> None:
    """Have the source looked at again, and await the answer."""
    kube("annotate", "fpgamodel", NAME, f"accel.dev/requestedAt={when}", "--overwrite")
    kube.until(
        f"the request of {when} is answered",
        lambda: (
            kube.get("fpgamodel", NAME)["status"]["job"].get("requestedAt") == when
            and condition(kube.get("fpgamodel", NAME), "Ready").get("status") == "True"
        ),
        story=("fpgamodel", NAME),
    )


def numbers(kube: Kube) -> list[int]:
    return [entry["version"] for entry in kube.get("fpgamodel", NAME)["status"]["versions"]]


def until_numbers(kube: Kube, wanted: list[int]) -> None:
    kube.until(f"versions {wanted}", lambda: numbers(kube) == wanted, story=("fpgamodel", NAME))


@pytest.fixture(scope="module")
def uri(kube: Kube, push: Push) -> str:
    """A chain that serves the first bytes of a tag that will move."""
    uri = push(cnn(21), "history:1")
    kube.apply(*chain(NAME, uri))
    kube.wait_ready("accelservice", NAME)
    return uri


def test_a_text_runs_no_job_and_the_same_bytes_roll_nothing_out(kube: Kube, uri: str) -> None:
    before = [kube.get(kind, NAME) for kind in ("fpgamodel", "accelimage", "deployment")]
    kube.patch("fpgamodel", NAME, {"spec": {"description": "words"}})
    model = kube.wait_ready("fpgamodel", NAME)
    assert model["status"]["job"] == before[0]["status"]["job"]

    request(kube, "monday")
    image = kube.wait_ready("accelimage", NAME)
    kube.wait_ready("accelservice", NAME)
    model = kube.get("fpgamodel", NAME)
    assert model["status"]["versions"] == before[0]["status"]["versions"]
    assert image["status"]["image"] == before[1]["status"]["image"]
    after = kube.get("deployment", NAME)["metadata"]["generation"]
    assert after == before[2]["metadata"]["generation"], "no rollout"


def test_other_bytes_behind_the_same_tag_are_the_next_version(kube: Kube, uri: str, push: Push) -> None:
    kube.apply(accel_image("keeps", NAME, version=1))
    kube.wait_ready("accelimage", "keeps")
    assert push(cnn(22), "history:1") == uri
    request(kube, "tuesday")
    assert numbers(kube) == [2, 1]
    kube.wait_ready("accelimage", NAME)
    service = kube.wait_ready("accelservice", NAME)
    assert service["status"]["modelVersion"] == 2


def test_versions_beyond_the_limit_leave_and_pinned_ones_stay(kube: Kube, uri: str, push: Push) -> None:
    kube.patch("fpgamodel", NAME, {"spec": {"historyLimit": 0}})
    kube.wait_ready("fpgamodel", NAME)
    assert numbers(kube) == [2, 1], "one is the latest, the other is pinned"
    push(cnn(23), "history:1")
    request(kube, "wednesday")
    kube.wait_ready("accelimage", NAME)
    until_numbers(kube, [3, 1])

    kube("delete", "accelimage", "keeps")
    until_numbers(kube, [3])
    kube.apply(accel_image("late", NAME, version=2))
    told = kube.until(
        "the image says that its version was dropped",
        lambda: (
            condition(kube.get("accelimage", "late"), "Ready").get("reason") == "VersionNotFound"
            and condition(kube.get("accelimage", "late"), "Ready")["message"]
        ),
    )
    assert "spec.modelRef.version 2 is not kept any more" in told
    assert "spec.historyLimit" in told

    request(kube, "thursday")
    kube.wait_ready("accelimage", "late")
    until_numbers(kube, [3, 2])
