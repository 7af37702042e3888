"""Images that a service may not run, and numbers that are not there any more: refused with the cure."""

from typing import Any

import pytest
from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.config import Config
from fpga_operator.plan.jobview import view
from fpga_operator.plan.serving import ImageSeen, choose
from operator_samples import CONFIG, I1, NOW, ended, job, job_pod, owner

REMOTE = CONFIG.model_copy(
    update={"registry": CONFIG.registry.model_copy(update={"endpoint": "https://registry.example.com:5000"})}
)
REFERENCES: dict[str, tuple[str, Config, bool]] = {
    # name: (spec.image of a service in namespace demo, configuration, whether it may be run)
    "the own namespace's": (f"oci:///images/demo/net@{I1}", CONFIG, True),
    "a name of nobody's": (f"oci:///teams/net@{I1}", CONFIG, True),
    "another namespace's": (f"oci:///images/other/net@{I1}", CONFIG, False),
    "another one's whose name begins alike": (f"oci:///images/demo2/net@{I1}", CONFIG, False),
    "by the node's name of the registry": (f"localhost:5000/images/other/net@{I1}", CONFIG, False),
    "by that name with a scheme": (f"oci://localhost:5000/images/other/net@{I1}", CONFIG, False),
    "by the registry's own address": (f"oci://registry.example.com:5000/images/other/net@{I1}", REMOTE, False),
    "by a loopback address": (f"127.0.0.1:5000/images/other/net@{I1}", CONFIG, False),
    "by another loopback address": (f"oci://127.1.2.3:5000/images/other/net@{I1}", CONFIG, False),
    "by the Service's longest name": (
        f"oci://registry.accel-system.svc.cluster.local:5000/images/other/net@{I1}", CONFIG, False,
    ),
    "by the Service's shortest name": (f"oci://registry.accel-system:5000/images/other/net@{I1}", CONFIG, False),
    "the same path elsewhere": (f"oci://registry.example.com:5000/images/other/net@{I1}", CONFIG, True),
    "a model": (f"oci:///models/demo/net@{I1}", CONFIG, False),
    "another registry's": (f"docker.io/library/net@{I1}", CONFIG, True),
}  # fmt: skip


def service(image: str) -> AccelServiceSpec:
    return AccelServiceSpec.model_validate({"image": image})


@pytest.mark.parametrize(("image", "config", "allowed"), REFERENCES.values(), ids=REFERENCES)
def test_a_service_runs_only_what_is_its_namespaces_or_nobodys(
    image: str, config: Config, allowed: bool
) -> None:
    choice = choose(owner("AccelService"), service(image), AccelServiceStatus(), None, config)
    assert choice.reference == (image if allowed else None)
    if not allowed:
        assert choice.verdict is not None
        assert choice.verdict.reason == "ImageDenied"
        assert choice.verdict.message.startswith(f"spec.image {image}")
        assert "spec.imageRef" in choice.verdict.message


def test_what_runs_goes_on_running_when_an_edit_is_denied() -> None:
    good, bad = f"oci:///images/demo/net@{I1}", f"oci:///images/other/net@{I1}"
    me = owner("AccelService")
    assert choose(me, service(bad), AccelServiceStatus(image=good), None, CONFIG).reference == good
    assert choose(me, service(bad), AccelServiceStatus(image=bad), None, CONFIG).reference is None


def test_a_number_that_was_dropped_says_what_to_do() -> None:
    versions = [{"version": number, "digest": I1} for number in (4, 3)]
    conditions: list[dict[str, Any]] = []
    status = AccelImageStatus.model_validate({"versions": versions, "conditions": conditions})
    spec = AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "historyLimit": 1})
    stalled = {
        "type": "Stalled", "status": "True", "observedGeneration": 1, "reason": "x", "message": "x",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    status = AccelImageStatus.model_validate(
        {**status.dump(), "observedGeneration": 1, "conditions": [stalled]}
    )
    image = ImageSeen(owner("AccelImage"), spec, status)
    pins = AccelServiceSpec.model_validate({"imageRef": {"name": "digits", "version": 2}})
    choice = choose(owner("AccelService"), pins, AccelServiceStatus(), image, CONFIG)
    assert choice.verdict is not None
    assert choice.verdict.reason == "VersionNotFound"
    assert choice.verdict.message == (
        "spec.imageRef.version 2 is not kept any more: AccelImage digits keeps 1 version that nothing uses (its "
        "spec.historyLimit) and has 3, 4. Take one of them; or have the registry asked whether it still has it: "
        'kubectl annotate accelimage digits accel.dev/requestedAt="$(date -Is)" --overwrite'
    )


def test_a_fetch_that_failed_is_not_told_as_converting() -> None:
    """Between the container's end and the Job's."""
    pod = job_pod(
        "Pending",
        fetch=ended(65, step="fetch", reason="SourceNotFound"),
        convert={"waiting": {"reason": "PodInitializing"}},
        push={},
    )
    assert view(job("x"), [pod], CONFIG, NOW).progress == ("Fetching", "fetch has failed")


def test_a_job_whose_last_container_has_ended_is_not_told_as_starting() -> None:
    pod = job_pod("Running", fetch=ended(), convert=ended(), push=ended())
    assert view(job("x"), [pod], CONFIG, NOW).progress[0] == "Pushing"
