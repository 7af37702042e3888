"""Bad input: each fault has its own reason and a message with the cure, and a spec edit alone heals it."""

from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, KubectlError, condition, is_ready
from networks import cnn, dense
from objects import fpga_model

Push = Callable[[Any, str], str]


@pytest.fixture(scope="module")
def good(push: Push) -> str:
    return push(cnn(31), "bad:good")


@pytest.fixture(scope="module")
def sources(
    push: Push, good: str, accel: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """One source for each fault that lies in the source."""
    unknown = cnn(32)
    unknown.graph.node[-1].domain = "example.com"
    unknown.graph.node[-1].op_type = "Sorcery"
    unknown.opset_import.add(domain="example.com", version=1)
    text = tmp_path_factory.mktemp("text")
    (text / "readme.txt").write_text("not a model")
    accel("push", str(text), "oci:///sources/bad:text")
    return {
        "good": good,
        "dense": push(dense(33), "bad:dense"),
        "unknown operator": push(unknown, "bad:unknown"),
        "text": "oci:///sources/bad:text",
    }


CASES: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    # name: (source, more of spec, reason, words of the message)
    "source not found": ("oci:///sources/nowhere:1", {}, "SourceNotFound", ["spec.source.uri", "nowhere"]),
    "wrong digest": ("good", {"source": {"sha256": "0" * 64}}, "DigestMismatch", ["spec.source.sha256"]),
    "not a SavedModel": (
        "text", {"conversion": {"format": "SavedModel"}}, "NotASavedModel", ["saved_model.pb"],
    ),
    "unknown tensor name": (
        "good", {"conversion": {"outputs": ["nope"]}}, "UnknownTensor", ["nope", "probabilities"],
    ),
    "an operator nobody knows": ("unknown operator", {}, "UnsupportedOperator", ["Sorcery"]),
    "nothing to offload": ("dense", {}, "NothingToOffload", ["MatMul", "requireFpga"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def applied(kube: Kube, sources: dict[str, str]) -> dict[str, str]:
    """All bad models at once, as in life; returns their names."""
    names = {case: f"bad-{number}" for number, case in enumerate(CASES)}
    kube.apply(
        *(
            fpga_model(
                names[case], sources.get(source, source), **{key: dict(value) for key, value in spec.items()}
            )
            for case, (source, spec, _, _) in CASES.items()
        )
    )
    return names


@pytest.mark.parametrize("case", CASES)
def test_a_bad_model_says_what_is_wrong_and_heals_by_an_edit(
    kube: Kube, applied: dict[str, str], good: str, case: str
) -> None:
    name, (_, _, reason, words) = applied[case], CASES[case]
    stalled = kube.until(
        f"{name} is Stalled",
        lambda: (
            condition(kube.get("fpgamodel", name), "Stalled").get("status") == "True"
            and condition(kube.get("fpgamodel", name), "Stalled")
        ),
        timeout=240,
        story=("fpgamodel", name),
    )
    assert stalled["reason"] == reason, stalled["message"]
    for word in words:
        assert word in stalled["message"]
    status = kube.get("fpgamodel", name)["status"]
    assert status["state"] == "Failed"
    assert condition({"status": status}, "Ready")["status"] == "False"
    assert condition({"status": status}, "Reconciling").get("status") != "True"

    cure: dict[str, Any] = {"source": {"uri": good, "sha256": None}, "conversion": None}
    kube.patch("fpgamodel", name, {"spec": cure})
    assert is_ready(kube.wait_ready("fpgamodel", name))


UNKNOWN_FIELDS = {
    "a typo in the model": ({"kind": "FpgaModel", "spec": {"source": {"url": "oci:///x:1"}}}, "url"),
    "replica instead of replicas": (
        {"kind": "AccelService", "spec": {"imageRef": {"name": "x"}, "replica": 2}},
        "replica",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_an_unknown_field_is_refused_by_name(kube: Kube, case: tuple[dict[str, Any], str]) -> None:
    body, field = case
    with pytest.raises(KubectlError, match=field):
        kube.apply({"apiVersion": "accel.dev/v1alpha1", "metadata": {"name": "typo"}, **body})


def test_a_registry_that_is_down_is_waited_for(kube: Kube, system: Kube, good: str) -> None:
    system("scale", "deployment", "registry", "--replicas=0")
    system("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=registry", "--timeout=60s")
    try:
        kube.apply(fpga_model("patient", good))
        reason = kube.until(
            "the model says that it waits for the registry",
            lambda: (
                (ready := condition(kube.get("fpgamodel", "patient"), "Ready")).get("reason")
                in ("RegistryUnavailable", "SourceUnavailable")
                and ready["message"]
            ),
            timeout=180,
            story=("fpgamodel", "patient"),
        )
        assert "registry" in reason
        assert condition(kube.get("fpgamodel", "patient"), "Stalled").get("status") != "True"
    finally:
        system("scale", "deployment", "registry", "--replicas=1")
        system("rollout", "status", "deployment/registry", "--timeout=90s")
    kube.wait_ready("fpgamodel", "patient", timeout=240)
