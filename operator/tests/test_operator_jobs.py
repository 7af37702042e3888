"""Jobs: what is mounted where, whose limits count, and what is said of a pod that does not begin."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.fpgamodel import ConversionLimits, FpgaModelSpec, FpgaModelStatus, JobRecord
from fpga_operator.config import Registry
from fpga_operator.plan.jobflow import Jobs, follow
from fpga_operator.plan.jobs import build_job, convert_job
from fpga_operator.plan.jobview import JobView, Phase, view
from fpga_operator.plan.model import ModelDesired, payload
from fpga_operator.plan.types import IMAGE_LABEL
from fpga_operator.run.store import Key, Store
from operator_samples import CONFIG, NOW, RUNNING, at, ended, job, job_pod, owner

WITH_SECRET = CONFIG.model_copy(update={"registry": Registry(secret_name="regcred")})


def made(source: dict[str, Any], config: Any = CONFIG, **limits: Any) -> dict[str, Any]:
    """Return the pod of a conversion."""
    conversion = {"limits": limits} if limits else {}
    spec = FpgaModelSpec.model_validate({"source": source, "conversion": conversion})
    desired = ModelDesired(owner("FpgaModel"), spec)
    asked = ConversionLimits.model_validate(limits) if limits else None
    found = convert_job(desired.owner, "x-1", {}, payload(desired, FpgaModelStatus(), config), config, asked)
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod | {"deadline": found["spec"]["activeDeadlineSeconds"]}


def mounts(pod: dict[str, Any]) -> dict[str, list[str]]:
    """Return what each container sees beside its scratch volumes."""
    return {
        c["name"]: [m["name"] for m in c["volumeMounts"] if m["name"] not in ("work", "tmp")]
        for c in [*pod.get("initContainers", []), *pod["containers"]]
    }


MOUNTED: dict[str, tuple[dict[str, Any], Any, dict[str, list[str]]]] = {
    # name: (source, configuration, volumes by container)
    "nothing": ({"uri": "oci:///x:1"}, CONFIG, {"fetch": [], "convert": [], "push": []}),
    "a claim": ({"uri": "pvc://c/x"}, CONFIG, {"fetch": ["source-claim"], "convert": [], "push": []}),
    "a Secret": (
        {"uri": "https://h/x.zip", "secretRef": {"name": "s"}}, CONFIG,
        {"fetch": ["source-secret"], "convert": [], "push": []},
    ),
    "the registry's Secret": (
        {"uri": "oci:///x:1"}, WITH_SECRET,
        {"fetch": ["registry-secret"], "convert": [], "push": ["registry-secret"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "config", "expected"), MOUNTED.values(), ids=MOUNTED)
def test_who_sees_what(source: dict[str, Any], config: Any, expected: dict[str, list[str]]) -> None:
    pod = made(source, config)
    assert mounts(pod) == expected
    for container in [*pod["initContainers"], *pod["containers"]]:
        for mount in container["volumeMounts"]:
            assert mount.get("readOnly", False) is (mount["name"] not in ("work", "tmp"))
    for volume in pod["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["optional"], "the container says what is missing; a pod would hang"
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"] == {"claimName": "c", "readOnly": True}


def test_a_build_sees_the_registrys_secret() -> None:
    found = build_job(owner("AccelImage"), "x-1", {}, {}, WITH_SECRET)["spec"]["template"]["spec"]
    assert mounts(found) == {"build": ["registry-secret"]}
    assert found["volumes"][-1]["secret"]["secretName"] == "regcred"


def test_limits_of_the_user_are_limits_and_requests() -> None:
    pod = made({"uri": "oci:///x:1"}, memory="12Gi", deadlineSeconds=7200)
    assert pod["deadline"] == 7200
    memory = {c["name"]: c["resources"] for c in pod["initContainers"]}["convert"]
    assert (memory["requests"]["memory"], memory["limits"]["memory"]) == ("12Gi", "12Gi")


def test_limits_of_the_configuration_otherwise() -> None:
    pod = made({"uri": "oci:///x:1"})
    assert pod["deadline"] == CONFIG.jobs.deadline_seconds
    convert = {c["name"]: c for c in pod["initContainers"]}["convert"]
    assert convert["resources"]["limits"]["memory"] == CONFIG.jobs.convert_memory


def waiting_pod(
    age: float, why: str = "", claim: str = "", placed: bool = False, **state: Any
) -> dict[str, Any]:
    """Return a pod that has not begun for `age` seconds."""
    pod = job_pod(
        "Pending",
        created=-age,
        fetch={"waiting": state or {"reason": "PodInitializing"}},
        convert={},
        push={},
    )
    scheduled = {"type": "PodScheduled", "status": "True" if placed else "False", "message": why}
    ready = {"type": "PodReadyToStartContainers", "status": "False"}
    pod["status"]["conditions"] = [c | {"lastTransitionTime": at(-age)} for c in (scheduled, ready)]
    pod["metadata"]["namespace"] = "demo"
    pod["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return pod


NOT_FOUND = '0/3 nodes are available: persistentvolumeclaim "models" not found. preemption: not helpful'
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
WAITS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    # name: (pod, reason, words, given up)
    "claim missing": (waiting_pod(5, NOT_FOUND, "models"), "SourceClaimMissing", "models does not exist in", False),
    "claim missing for long": (waiting_pod(121, NOT_FOUND, "models"), "SourceClaimMissing", "kubectl get pvc", True),
    "claim unbound": (waiting_pod(5, UNBOUND, "models"), "SourceClaimUnbound", "kubectl describe pvc models", False),
    "no node": (waiting_pod(300, "0/3 nodes: Insufficient memory"), "JobUnschedulable", "Insufficient memory", False),
    "no node for long": (waiting_pod(601, "0/3 nodes: Insufficient memory"), "JobUnschedulable", "memory", True),
    "mounting": (waiting_pod(5, claim="models", placed=True), "JobStarting", "", False),
    "not mounted": (waiting_pod(11, claim="models", placed=True), "SourceClaimNotMounted", "describe pod", False),
    "not mounted for long": (waiting_pod(301, claim="models", placed=True), "SourceClaimNotMounted", "models", True),
    "no image": (
        waiting_pod(20, placed=True, reason="ImagePullBackOff", message="no"), "ImagePullFailed", "fetch cannot", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pod", "reason", "words", "given_up"), WAITS.values(), ids=WAITS)
def test_a_pod_that_does_not_begin(pod: dict[str, Any], reason: str, words: str, given_up: bool) -> None:
    seen = view(job("x"), [pod], CONFIG, NOW)
    assert seen.given_up is given_up
    if given_up:
        assert seen.failure is not None
        assert (seen.phase, seen.failure.reason, seen.failure.retry) == (Phase.FAILED, reason, True)
        assert words in seen.failure.message
    else:
        assert (seen.phase, seen.progress[0]) == (Phase.ACTIVE, reason)
        assert words in seen.progress[1]
        assert reason == "ImagePullFailed" or seen.look_again is not None


def test_patience_ends_before_the_jobs_own_deadline() -> None:
    short = job("x") | {"spec": {"activeDeadlineSeconds": 20}}
    assert view(short, [waiting_pod(11, NOT_FOUND, "models")], CONFIG, NOW).given_up
    assert not view(short, [waiting_pod(9, NOT_FOUND, "models")], CONFIG, NOW).given_up


def test_a_pod_that_has_begun_waits_for_nothing() -> None:
    pod = waiting_pod(900, placed=True, claim="models")
    pod["status"]["initContainerStatuses"][0]["state"] = RUNNING
    seen = view(job("x"), [pod], CONFIG, NOW + timedelta(hours=1))
    assert (seen.phase, seen.progress[0]) == (Phase.ACTIVE, "Fetching")


def test_a_job_that_outgrows_its_scratch_volume_is_not_repeated() -> None:
    pod = job_pod("Failed", fetch=ended(), convert=RUNNING, push={})
    pod["status"] |= {
        "reason": "Evicted",
        "message": 'Usage of EmptyDir volume "work" exceeds the limit "8Gi". ',
    }
    seen = view(job("x"), [pod], CONFIG, NOW)
    assert seen.failure is not None
    assert (seen.failure.reason, seen.failure.retry, seen.given_up) == ("WorkVolumeFull", False, True)
    assert 'the limit "8Gi"' in seen.failure.message
    assert "operator.jobs.workVolume" in seen.failure.message
    pod["status"]["message"] = "The node was low on resource: memory."
    assert view(job("x"), [pod], CONFIG, NOW).phase is Phase.ACTIVE


def test_what_messages_need_outlives_the_store() -> None:
    """The store keeps little of Jobs and pods; the limits of this very Job, and a pod's claim, are part of it."""
    spec = FpgaModelSpec.model_validate({"source": {"uri": "pvc://models/x"}})
    desired, asked = (
        ModelDesired(owner("FpgaModel"), spec),
        ConversionLimits(memory="3Gi", deadline_seconds=20),
    )
    live = convert_job(desired.owner, "x", {}, payload(desired, FpgaModelStatus(), CONFIG), CONFIG, asked)
    live["metadata"] |= {"uid": "job-uid"}
    live["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}
    pod = waiting_pod(9, UNBOUND, "models")
    store = Store()
    store.put(live)
    store.put(pod)
    kept = store.body(Key("Job", "demo", "x"))
    seen = view(kept, [], CONFIG, NOW)
    assert seen.failure is not None
    assert "20 s" in seen.failure.message
    waiting = store.body(Key("Pod", "demo", pod["metadata"]["name"]))
    assert waiting is not None
    assert view(job("x"), [waiting], CONFIG, NOW).progress[0] == "SourceClaimUnbound"


def failed(reason: str, pod: dict[str, Any] | None = None, **meta: Any) -> JobView:
    limits = {"resources": {"limits": {"memory": "3Gi"}}}
    containers = [{"name": name, **limits} for name in ("fetch", "convert")]
    spec = {"activeDeadlineSeconds": 77, "template": {"spec": {"initContainers": containers}}}
    return view(job("x", "Failed", reason, **meta) | {"spec": spec}, [pod] if pod else [], CONFIG, NOW)


OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("container", "cure"), [("convert", "spec.conversion.limits.memory"), ("fetch", "smaller model")]
)
def test_a_kill_for_memory_names_the_limit_of_this_job(container: str, cure: str) -> None:
    seen = failed("PodFailurePolicy", job_pod("Failed", **{container: OOM, "last": ended()}))
    assert seen.failure is not None
    assert seen.failure.reason == "OOMKilled"
    assert "3Gi" in seen.failure.message
    assert cure in seen.failure.message


def test_a_deadline_names_the_field_that_raises_it() -> None:
    convert, build = failed("DeadlineExceeded"), failed("DeadlineExceeded", labels={IMAGE_LABEL: "x"})
    assert convert.failure is not None
    assert build.failure is not None
    assert "77 s: raise spec.conversion.limits.deadlineSeconds" in convert.failure.message
    assert "operator.jobs.deadlineSeconds" in build.failure.message


def test_a_raised_deadline_gives_the_source_more_time() -> None:
    spec = FpgaModelSpec.model_validate(
        {"source": {"uri": "oci:///x:1"}, "conversion": {"limits": {"deadlineSeconds": 7200}}}
    )
    desired = ModelDesired(owner("FpgaModel"), spec)
    assert payload(desired, FpgaModelStatus(), CONFIG)["limits"]["fetchSeconds"] == 3600
    plain = replace(desired, spec=FpgaModelSpec.model_validate({"source": {"uri": "oci:///x:1"}}))
    assert payload(plain, FpgaModelStatus(), CONFIG)["limits"]["fetchSeconds"] == 900


def test_a_job_is_told_the_numbers_that_there_were() -> None:
    spec = FpgaModelSpec.model_validate({"source": {"uri": "oci:///sources/x:1"}})
    digests = [f"sha256:{number:064x}" for number in range(1, 41)]
    known = tuple(
        {"version": number, "digest": digest} for number, digest in reversed(list(enumerate(digests, 1)))
    )
    status = FpgaModelStatus.model_validate({"versions": known})
    told = payload(ModelDesired(owner("FpgaModel"), spec), status, CONFIG)["target"]["versions"]
    assert told == {digest: number for number, digest in enumerate(digests, 1) if number > 8}


REFUSED: dict[str, tuple[dict[str, Any], str, bool]] = {
    # name: (the Job's status, reason, given up)
    "not looked at yet": ({}, "JobStarting", False),
    "just begun": ({"startTime": at(-5)}, "JobStarting", False),
    "no pod": ({"startTime": at(-20)}, "JobPodRefused", False),
    "no pod for long": ({"startTime": at(-121)}, "JobPodRefused", True),
    "a pod that the watch has not shown": ({"startTime": at(-121), "active": 1}, "JobStarting", False),
}


@pytest.mark.parametrize(("status", "reason", "given_up"), REFUSED.values(), ids=REFUSED)
def test_a_job_whose_pod_is_refused_gives_its_slot_up(status: Any, reason: str, given_up: bool) -> None:
    seen = view(job("x") | {"status": status}, [], CONFIG, NOW)
    assert seen.given_up is given_up
    told = (seen.failure.reason, seen.failure.message) if seen.failure is not None else seen.progress
    assert told[0] == reason
    assert seen.failure is None or seen.failure.retry
    assert reason == "JobStarting" or "kubectl describe job x -n demo" in told[1]


@pytest.mark.parametrize(
    ("later", "deleted"), [(0, []), (60, ["x"])], ids=["queued from the start", "by a hand"]
)
def test_a_job_that_a_hand_suspended_is_made_again(later: float, deleted: list[str]) -> None:
    stopped = job("x", creationTimestamp=at(0)) | {"spec": {"suspend": True}}
    stopped["status"]["conditions"] = [
        {"type": "Suspended", "status": "True", "lastTransitionTime": at(later)}
    ]
    flow = follow(owner("FpgaModel"), JobRecord(name="x", outcome="Running"), Jobs((stopped,)), CONFIG, NOW)
    assert [ref.name for ref in flow.deletes] == deleted
    assert flow.progress is not None
    assert flow.progress[0] == ("JobStarting" if deleted else "JobSuspended")
