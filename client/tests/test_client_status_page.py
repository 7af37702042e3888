"""`kubectl accel status`: the page of one object with its chain."""

from typing import Any

import pytest
from accel.status import chain, jobs, quotes, words
from accel.status.snapshot import Object
from status_samples import (
    BUSY,
    CONVERT_JOB,
    DI,
    DONE,
    DONE_IMAGE,
    DONE_MODEL,
    DONE_SERVICE,
    NOW,
    SERVES,
    condition,
    converting,
    image,
    lines,
    model,
    node,
    pod,
    ready,
    seen,
    service,
    thing,
    told,
    waits,
)


def test_the_whole_chain_in_one_look() -> None:
    assert lines(DONE) == [
        "FpgaModel net         Ready      version 2, sha256:dddddddddddd, 84 MB, 12 of 17 operators on the FPGA,",
        "                                 0.0483 ms simulated (bound by memory)",
        "  AccelImage net      Ready      image 3, model version 2, sha256:111111111111",
        "    AccelService net  Ready      1 of 1 replicas serve, model version 2, revision r1, 10.0.0.5:30123",
        "      pod net-1  serves     a/fpga0, Healthy, device ready",
    ]


def test_progress_stands_where_it_is_made_and_nowhere_else() -> None:
    log = "noise\naccel: exported 2 of 5 steps\naccel: exported 3 of 5 steps\nWARNING\n"
    assert lines(BUSY, log=log) == [
        "FpgaModel net         Working",
        "    convert (step 1 of 2) runs for 12s: exported 3 of 5 steps",
        "  AccelImage net      Waiting",
        "      WaitingForModel: waits for FpgaModel net",
        "    AccelService net  Waiting    0 of 1 replicas serve",
        "        WaitingForImage: waits for AccelImage net",
    ]


def test_a_failure_says_the_cure_and_the_command() -> None:
    job = {**CONVERT_JOB, "status": {"conditions": [condition("Failed", "True", "", "")]}}
    failed = model(
        waits("UnsupportedOp", "use Relu"), condition("Stalled", "True", "UnsupportedOp", "use Relu")
    )
    snapshot = seen(failed, jobs=(job,), pods=(converting(terminated={"exitCode": 65}),))
    assert lines(snapshot) == [
        "FpgaModel net  Failed",
        "    UnsupportedOp: use Relu",
        "    kubectl logs -n demo net-j-x -c convert",
    ]
    assert told(snapshot).stalled


GONE = "convert ended with exit code 1 without saying why; see kubectl logs net-j-x -c convert"
LATE = "net-j-x was not ready within 60 s; see kubectl logs net-j-x, then correct spec.imageRef"
OUTLIVED = {
    # name: (message, pods, rights that are missing) -> message on the page
    "there": (GONE, ["net-j-x"], (), GONE),
    "not known": (GONE, [], ("list pods",), GONE),
    "gone": (GONE, ["net-j-y"], (), "convert ended with exit code 1 without saying why"),
    "gone, with a cure": (LATE, [], (), "net-j-x was not ready within 60 s; correct spec.imageRef"),
}


@pytest.mark.parametrize("name", OUTLIVED)
def test_the_log_of_a_pod_that_is_gone_is_not_named(name: str) -> None:
    message, pods, lacking, expected = OUTLIVED[name]
    job = {**CONVERT_JOB, "status": {"conditions": [condition("Failed", "True", "", "")]}}
    failed = model(waits("JobFailed", message), condition("Stalled", "True", "JobFailed", message))
    (entry,) = told(seen(failed, jobs=(job,), pods=tuple(map(pod, pods)), lacking=lacking)).entries
    assert (entry.message, entry.more) == (expected, "kubectl describe -n demo fpgamodel net")


def test_the_command_names_no_pod_that_goes_or_was_not_seen() -> None:
    job = {**CONVERT_JOB, "status": {"conditions": [condition("Failed", "True", "", "")]}}
    failed = model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"))
    going = converting(terminated={"exitCode": 65})
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:59Z"
    (entry,) = told(seen(failed, jobs=(job,), pods=(going,))).entries
    assert entry.more == "kubectl describe -n demo fpgamodel net"
    late = service(
        waits("ProgressDeadlineExceeded", "late"),
        condition("Stalled", "True", "ProgressDeadlineExceeded", "late"),
        devices=DONE_SERVICE["status"]["devices"],
    )
    assert told(seen(late, lacking=("list pods",))).named.more == "kubectl describe -n demo accelservice net"


def stalled(message: str) -> tuple[Object, Object]:
    return waits("VersionNotFound", message), condition("Stalled", "True", "VersionNotFound", message)


def test_a_version_that_is_not_there_names_those_that_are_and_what_runs() -> None:
    wrong_model = stalled("spec.modelRef.version 9 does not exist; versions of FpgaModel net: 2")
    runs = condition("Available", "True", "Available", f"oci:///images/demo/net@{DI} can be run")
    held = image(
        *wrong_model, runs, pin=9, imageVersion=3, modelVersion=2, versions=[{"version": 3, "digest": DI}]
    )
    wrong_image = stalled("spec.imageRef.version 77 does not exist; versions of AccelImage net: 3")
    spec = {"imageRef": {"name": "net", "version": 77}}
    above = thing(
        "AccelService", "net", spec, *wrong_image, image=f"oci:///images/demo/net@{DI}", modelVersion=2
    )
    assert [line for line in lines(seen(DONE_MODEL, held, above))[2:] if "kubectl" not in line] == [
        "  AccelImage net      Failed     image 3, model version 2 (9 is asked for), sha256:111111111111",
        "      VersionNotFound: spec.modelRef.version 9 does not exist; versions of FpgaModel net: 2",
        "      meanwhile: oci:///images/demo/net@sha256:111111111111 can be run",
        "    AccelService net  Failed     0 of 1 replicas serve, model version 2, image 3 (77 is asked for)",
        "        VersionNotFound: spec.imageRef.version 77 does not exist; versions of AccelImage net: 3",
    ]
    alone = lines(seen(above))
    assert "model version 2, asks for image 77" in alone[0]
    # It names the model and does not wait for it.
    failed = model(*stalled("other"), name="net")
    assert told(seen(failed, held), "image/net").cause.title == "AccelImage net"


def test_what_is_held_says_so_once_it_is_there() -> None:
    held = image(ready(), pin=2, imageVersion=3, modelVersion=2, versions=[{"version": 3, "digest": DI}])
    spec = {"imageRef": {"name": "net", "version": 3}}
    above = thing("AccelService", "net", spec, ready(), image=f"oci:///images/demo/net@{DI}", modelVersion=2)
    printed = lines(seen(held, above))
    assert "image 3, model version 2 (pinned)" in printed[0]
    assert "model version 2, image 3 (pinned)" in printed[1]


CUT = {
    # name: (message about FpgaModel net, what is left of it)
    "a state": ("waits for FpgaModel net: Converting: it", "waits for FpgaModel net"),
    "a version": ("waits for version 3: FpgaModel net: Converting: it", "waits for version 3: FpgaModel net"),
    "after figures": ("1 of 2 serve; waits for FpgaModel net: A: b", "1 of 2 serve; waits for FpgaModel net"),
    "no state": ("waits for FpgaModel net, which has no version", "waits for FpgaModel net, which has no version"),
    "another": ("waits for FpgaModel net-2: Converting", "waits for FpgaModel net-2: Converting"),
    "a list": ("versions of FpgaModel net: 2, 3", "versions of FpgaModel net: 2, 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_only_what_is_waited_for_is_cut(name: str) -> None:
    message, expected = CUT[name]
    assert quotes.cut(message, "FpgaModel net") == expected
    assert quotes.cut(message, "") == message


def test_a_stalled_model_is_why_the_service_is_not_ready() -> None:
    failed = model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"))
    waiting = image(waits("WaitingForModel", "waits for FpgaModel net: BadSource: fix it"))
    above = service(
        waits("WaitingForImage", "waits for AccelImage net: WaitingForModel: waits for FpgaModel net")
    )
    found = told(seen(failed, waiting, above))
    assert (found.named.kind, found.cause.title, found.stalled) == ("AccelService", "FpgaModel net", True)
    pinned = image(ready(), pin=1)
    starting = service(waits("RollingOut", "0 of 1 replicas serve"))
    assert not told(seen(failed, pinned, starting)).stalled


PODS = {
    # name: (pod's status, device) -> line after the name
    "flashing": ({}, node("flashing"), "starting   a/fpga0, Healthy, device flashing"),
    "sick": (
        {"conditions": [condition("Ready", "True", "", "")]},
        node("faulted", "Unhealthy", "too hot"),
        "serves     a/fpga0, Unhealthy (too hot), device faulted",
    ),
    "crashing": (
        {"containerStatuses": [{"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        node(),
        "starting   a/fpga0, Healthy, device ready, CrashLoopBackOff, restarted 3 times",
    ),
}


@pytest.mark.parametrize("name", PODS)
def test_pods_and_devices(name: str) -> None:
    status, device, expected = PODS[name]
    below = service(waits("RollingOut", "0 of 1 replicas serve"))
    printed = lines(seen(below, pods=(pod("net-1", **status),), nodes=(device,)))
    assert f"pod net-1  {expected}" in printed[-1]


def test_without_the_right_to_see_pods_the_services_own_words_remain() -> None:
    printed = lines(seen(DONE_SERVICE, lacking=("list pods", "list fpganodes")))
    assert printed[1:] == [
        "  pod net-1  holds      a/fpga0, Healthy",
        "",
        "Not all is shown: you may not list pods, list fpganodes.",
    ]


STATES = {
    # name: object -> state
    "not seen": (model(), "New"),
    "edited": (model(ready(), observedGeneration=0), "Edited"),
    "degraded": (service(waits("ReplicasNotReady", "1 of 2"), state="Unhealthy"), "Degraded"),
    "no device": (service(waits("WaitingForDevice", "…"), state="Unschedulable"), "Waiting"),
    "suspended": (service(condition("Ready", "True", "Suspended", "")), "Suspended"),
    "deleting": (model(waits("Deleting", "")), "Deleting"),
}


@pytest.mark.parametrize("name", STATES)
def test_states(name: str) -> None:
    found, expected = STATES[name]
    named = told(seen(found)).named
    assert (named.state, named.ready) == (expected, expected == "Suspended")


def event(reason: str, message: str, time: str, about: str = "FpgaModel-net", **more: Any) -> Object:
    kind, _, name = about.partition("-")
    involved = {"kind": kind, "name": name, "uid": about}
    return {
        "metadata": {},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "lastTimestamp": time,
        **more,
    }


def test_events_are_the_newest_and_each_once() -> None:
    raw = (
        event("Fetching", "fetching", "2026-01-01T00:00:10Z"),
        event("Fetching", "fetching", "2026-01-01T00:00:50Z"),
        event("Done", "done", "2026-01-01T00:00:55Z"),  # stands on the page already
        event("Pulled", "image", "2026-01-01T00:00:56Z"),  # the kubelet's chatter
        event("Other", "stranger", "2026-01-01T00:00:57Z", about="FpgaModel-other"),
        event("BackOff", "pulls", "2026-01-01T00:00:40Z", about="FpgaModel-net", count=4, type="Warning"),
    )
    printed = lines(seen(DONE_MODEL, events=raw))
    assert printed[printed.index("Last events") + 1 :] == [
        "  10s  FpgaModel net  Fetching: fetching",
        "  20s  FpgaModel net  BackOff: pulls (4 times)",
    ]
    assert len(told(seen(DONE_MODEL, events=raw), events=1).events) == 1


def test_what_a_pod_had_while_it_started_is_past_when_it_serves() -> None:
    probe = event(
        "Unhealthy", "Readiness probe failed", "2026-01-01T00:00:10Z", about="Pod-net-1", type="Warning"
    )
    probe["involvedObject"]["uid"] = "pod-net-1"
    assert not told(seen(DONE_SERVICE, pods=(SERVES,), events=(probe,))).events
    assert told(seen(DONE_SERVICE, pods=(pod("net-1"),), events=(probe,))).events


def test_down_from_a_model_to_everything_that_stands_on_it() -> None:
    snapshot = seen(
        DONE_MODEL, DONE_IMAGE, image(name="old", pin=1), DONE_SERVICE, service(name="b", of="old")
    )
    titles = [entry.title for entry in told(snapshot, "model/net").entries]
    assert titles == [
        "FpgaModel net",
        "AccelImage net",
        "AccelService net",
        "AccelImage old",
        "AccelService b",
    ]
    assert [entry.title for entry in told(snapshot, "b").entries] == [
        "FpgaModel net",
        "AccelImage old",
        "AccelService b",
    ]


def test_small_words() -> None:
    assert [words.size(n) for n in (None, 5, 84_000_000)] == ["", "5 B", "84 MB"]
    assert words.age("2025-12-31T23:00:00Z", NOW) == "61m"
    assert words.clip("a b\nc", 4) == "a b…"
    assert jobs.last_line("accel: one\nrest") == "one"
    assert chain.parse("fpgamodels.accel.dev/net") == ("FpgaModel", "net")


UNFIT = {"sku": "bw-a10", "fits": False, "hostOps": 9}
FIGURES = {
    "sku": "bw-cnn-a10", "fits": True, "tiles": 1461, "vectors": 422, "latencyMs": 1.8012, "boundBy": "dram",
    "inferencesPerSecond": 559.2, "offloadedOps": 120, "hostOps": 9,
    "hostReasons": [
        {"operator": name, "count": count, "reason": reason}
        for reason, entries in (
            ("the device has no such operator", (("Reshape", 4), ("Softmax", 2))),
            ("behind the last product", (("Gemm", 1), ("Mean", 1), ("Sin", 1))),
        )
        for name, count in entries
    ],
}  # fmt: skip


def test_what_the_compiler_said_before_any_device_is_used() -> None:
    assert lines(seen(model(ready(), latestVersion=2, device=FIGURES))) == [
        "FpgaModel net  Ready      version 2, 120 of 129 operators on the FPGA (bw-cnn-a10),",
        "                          fits with 1461 tiles and 422 vectors, 1.8 ms simulated (bound by dram),",
        "                          559 pictures/s",
        "    on the host: 4 Reshape, 2 Softmax (the device has no such operator); 1 Gemm, 1 Mean (behind the last",
        "      product); and 1 more",
    ]


def test_what_the_host_computes_alone() -> None:
    alone = {
        "offloadedOps": 0,
        "hostOps": 1,
        "hostReasons": [{"operator": "Sin", "count": 1, "reason": "unknown"}],
    }
    assert lines(seen(model(ready(), device=alone))) == [
        "FpgaModel net  Ready      the host computes everything",
        "    on the host: 1 Sin (unknown)",
    ]


def test_what_does_not_fit_its_card() -> None:
    why = stalled("spec.conversion.sku bw-a10: layer 'c' needs 9 vectors")
    printed = lines(seen(model(*why, device=UNFIT)))
    assert printed[0] == "FpgaModel net  Failed     does not fit bw-a10"
    assert "layer 'c' needs 9 vectors" in printed[1]
