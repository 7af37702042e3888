"""`kubectl accel status`: the page, the table, JSON, rights, exit codes, on objects as the operator writes them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from accel.kubectl import Kubectl
from accel.status import chain, jobs, quotes, report, table, watch, words
from accel.status.page import page
from accel.status.snapshot import KINDS, Object, Snapshot, key_of
from client_harness import Cluster, run

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
D, DI = "sha256:" + "d" * 64, "sha256:" + "1" * 64


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def thing(kind: str, name: str, spec: Object, *conditions: Object, **status: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "demo",
        "generation": 1,
        "uid": f"{kind}-{name}",
        "resourceVersion": "1",
    }
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z"
    whole = {"observedGeneration": 1, "conditions": list(conditions), **status} if conditions else {}
    return {"kind": kind, "metadata": meta, "spec": spec, "status": whole}


def ready(message: str = "done") -> Object:
    return condition("Ready", "True", "Done", message)


def waits(reason: str, message: str) -> Object:
    return condition("Ready", "False", reason, message)


def model(*conditions: Object, name: str = "net", **status: Any) -> dict[str, Any]:
    return thing("FpgaModel", name, {}, *conditions, **status)


def image(
    *conditions: Object, name: str = "net", of: str = "net", pin: int | None = None, **status: Any
) -> Object:
    ref = {"name": of} | ({"version": pin} if pin else {})
    return thing("AccelImage", name, {"modelRef": ref}, *conditions, **status)


def service(*conditions: Object, name: str = "net", of: str = "net", **status: Any) -> Object:
    return thing("AccelService", name, {"imageRef": {"name": of}}, *conditions, **status)


DONE_MODEL = model(
    ready(),
    latestVersion=2,
    versions=[{"version": 2, "digest": D, "sizeBytes": 84_000_000}],
    device={"latencyMs": 0.0483, "offloadedOps": 12, "hostOps": 5, "boundBy": "memory"},
)
DONE_IMAGE = image(ready(), imageVersion=3, modelVersion=2, versions=[{"version": 3, "digest": DI}])
DONE_SERVICE = service(
    ready(),
    state="Healthy",
    scoringUri="10.0.0.5:30123",
    modelVersion=2,
    readyReplicas=1,
    image=f"oci:///images/demo/net@{DI}",
    devices=[{"pod": "net-1", "node": "a", "device": "fpga0", "health": "Healthy"}],
)


def pod(name: str, owner: str = "", **status: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "demo", "uid": f"pod-{name}"}
    meta["labels"] = {"accel.dev/revision": "r1"} | ({} if owner else {"accel.dev/service": "net"})
    meta["ownerReferences"] = [{"uid": owner}] if owner else []
    return {"kind": "Pod", "metadata": meta, "spec": {"nodeName": "a"}, "status": status}


SERVES = pod("net-1", conditions=[condition("Ready", "True", "", "")])


def node(state: str = "ready", health: str = "Healthy", reason: str = "") -> Object:
    device = {"id": "fpga0", "state": state, "health": health, "reason": reason}
    device["holder"] = {"namespace": "demo", "pod": "net-1"}  # type: ignore[assignment]
    return {"kind": "FpgaNode", "metadata": {"name": "a"}, "status": {"devices": [device]}}


def seen(*objects: Object, **rest: Any) -> Snapshot:
    return Snapshot(objects={key_of(found): found for found in objects}, **rest)


def told(snapshot: Snapshot, name: str = "net", log: str = "", events: int = 5) -> report.Report:
    return report.report_on(snapshot, name, Kubectl("demo"), events=events, tail=lambda *_: log)


def lines(snapshot: Snapshot, name: str = "net", log: str = "") -> list[str]:
    return page(told(snapshot, name, log), NOW)


DONE = seen(DONE_MODEL, DONE_IMAGE, DONE_SERVICE, pods=(SERVES,), nodes=(node(),))


def test_the_whole_chain_in_one_look() -> None:
    assert lines(DONE) == [
        "FpgaModel net         Ready      version 2, sha256:dddddddddddd, 84 MB, 12 of 17 operators on the FPGA,",
        "                                 0.0483 ms simulated (bound by memory)",
        "  AccelImage net      Ready      image 3, model version 2, sha256:111111111111",
        "    AccelService net  Ready      1 of 1 replicas serve, model version 2, revision r1, 10.0.0.5:30123",
        "      pod net-1  serves     a/fpga0, Healthy, device ready",
    ]


CONVERT_JOB: Object = {
    "kind": "Job",
    "metadata": {"name": "net-j", "uid": "j", "ownerReferences": [{"uid": "FpgaModel-net"}]},
}


def converting(**state: Any) -> Object:
    made = pod("net-j-x", owner="j", initContainerStatuses=[{"name": "convert", "state": state}])
    made["spec"] = {"initContainers": [{"name": "convert"}], "containers": [{"name": "push"}]}
    return made


RUNNING = converting(running={"startedAt": "2026-01-01T00:00:48Z"})
BUSY = seen(
    model(waits("Converting", "converting and compiling the model")),
    image(
        waits("WaitingForModel", "waits for FpgaModel net: Converting: converting and compiling the model")
    ),
    service(
        waits(
            "WaitingForImage", "waits for AccelImage net: WaitingForModel: waits for FpgaModel net: Convert"
        )
    ),
    jobs=(CONVERT_JOB,),
    pods=(RUNNING,),
)


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


def test_the_table_has_one_chain_per_row() -> None:
    snapshot = seen(
        DONE_MODEL,
        image(ready(), modelVersion=1),
        service(ready(), modelVersion=1, readyReplicas=1, devices=DONE_SERVICE["status"]["devices"]),
        model(waits("Fetching", "…"), name="new"),
        image(waits("WaitingForModel", "waits for FpgaModel new: Fetching: …"), name="new", of="new"),
        service(waits("WaitingForImage", "waits for AccelImage gone, which does not exist"), name="lost", of="gone"),
    )  # fmt: skip
    found = table.rows(snapshot)
    printed = [" ".join(line.split()) for line in table.table(found, NOW, everywhere=False)]
    assert printed == [
        "SERVICE IMAGE MODEL VERSION STATE READY DEVICES AGE WAITS FOR",
        "lost gone - - Waiting 0/1 - 60s AccelImage gone, which does not exist",
        "net net net 1>2 Ready 1/1 a/fpga0 60s -",
        "- new new - Waiting - - 60s FpgaModel new: Fetching",
    ]
    assert all(len(line) <= 110 for line in table.table(found, NOW, everywhere=True))


def test_a_row_names_the_object_that_failed() -> None:
    failed = model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"))
    (row,) = table.rows(
        seen(failed, image(waits("WaitingForModel", "waits for FpgaModel net: BadSource: fix it")))
    )
    assert (row.state, row.waits_for) == ("Waiting", "FpgaModel net failed: BadSource")


def test_documents_hold_no_age_and_nothing_empty() -> None:
    text = json.dumps(report.document(told(DONE)))
    assert text == json.dumps(report.document(told(DONE)))
    found = json.loads(text)
    assert (found["schema"], found["kind"], found["ready"]) == ("accel.dev/status/v1", "AccelService", True)
    assert found["objects"][0]["device"] == {
        "offloadedOps": 12,
        "hostOps": 5,
        "latencyMs": 0.0483,
        "boundBy": "memory",
    }
    assert found["objects"][2]["pods"][0]["device"]["node"] == "a"
    assert all(value not in ("", None, []) for entry in found["objects"] for value in entry.values())


DURATIONS = {"90": 90, "90s": 90, "10m": 600, "1h30m": 5400, "0.5s": 0.5}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations(text: str) -> None:
    assert watch.seconds_of(text) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "soon", "m", "1d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        watch.seconds_of(text)


def test_small_words() -> None:
    assert [words.size(n) for n in (None, 5, 84_000_000)] == ["", "5 B", "84 MB"]
    assert words.age("2025-12-31T23:00:00Z", NOW) == "61m"
    assert words.clip("a b\nc", 4) == "a b…"
    assert jobs.last_line("accel: one\nrest") == "one"
    assert chain.parse("fpgamodels.accel.dev/net") == ("FpgaModel", "net")


# From here on the command itself; its kubectl is a program that knows the test's objects.


PLURALS = {**KINDS, "Pod": "pods", "Job": "jobs"}


def put(cluster: Cluster, *objects: Object) -> None:
    for found in objects:
        rest = {key: value for key, value in found.items() if key != "metadata"}
        cluster.put(PLURALS[found["kind"]], found["metadata"]["name"], metadata={**found["metadata"]}, **rest)


def test_the_command_reads_with_two_calls(cluster: Cluster) -> None:
    put(cluster, DONE_MODEL, DONE_IMAGE, DONE_SERVICE, SERVES)
    done = run("status", "net", "-n", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pod net-1  serves     a/fpga0, Healthy" in done.stdout
    assert len(cluster.calls()) == 2


def test_the_command_shows_the_log_of_what_runs(cluster: Cluster) -> None:
    put(cluster, *BUSY.objects.values(), CONVERT_JOB, RUNNING)
    cluster.log("net-j-x", "accel: exported 3 of 5 steps")
    done = run("status", "net")
    assert done.returncode == 1
    assert "exported 3 of 5 steps" in done.stdout
    cluster.log("net-j-x", "accel: reading \x1b]0;title\x07")
    assert "reading ?]0;title?" in run("status", "net").stdout, "a log does not steer the terminal"
    cluster.deny("logs", "events")
    assert "you may not list events, get pods/log." in run("status", "net").stdout


EXITS = {
    # name: (arguments, code, words on standard error)
    "no object": (["nobody"], 2, "is named 'nobody'"),
    "no kind": (["pods/nobody"], 2, "unknown kind 'pods'"),
    "a name and -A": (["net", "-A"], 2, "leave out the name"),
    "nothing to wait for": (["--until-ready"], 2, "name it"),
    "no duration": (["net", "--until-ready", "--timeout", "soon"], 2, "write 90s, 10m or 1h30m"),
    "a timeout alone": (["net", "--timeout", "1m"], 2, "belongs to --watch"),
    "not ready in time": (["busy", "--until-ready", "--timeout", "0s"], 1, "error: not Ready within 0 s\n"),
    "a person must act": (["bad", "--until-ready"], 1, "not become Ready by itself: mend FpgaModel bad\n"),
    "ready": (["net", "--until-ready"], 0, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", EXITS)
def test_exit_codes(cluster: Cluster, name: str) -> None:
    arguments, code, said = EXITS[name]
    put(
        cluster,
        DONE_MODEL,
        model(waits("Converting", "converting"), name="busy"),
        model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"), name="bad"),
    )
    done = run("status", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)
    if code == 1:
        assert done.stdout.count("BadSource: fix it") + done.stdout.count("Converting: converting") == 1


def test_no_right_at_all(cluster: Cluster) -> None:
    cluster.deny("fpgamodels.accel.dev", "accelimages.accel.dev", "accelservices.accel.dev")
    done = run("status")
    assert done.returncode == 2
    assert "you may not list fpgamodels, list accelimages, list accelservices: ask for" in done.stderr


def test_the_table_of_nothing(cluster: Cluster) -> None:
    done = run("status")
    assert (done.returncode, done.stdout) == (
        0,
        "No FpgaModel, AccelImage or AccelService in this namespace (-A looks in all).\n",
    )
    assert len(cluster.calls()) == 1, "a table needs the objects only"
    found = json.loads(run("status", "-o", "json").stdout)
    assert found == {"schema": "accel.dev/status-table/v1", "chains": [], "missingRights": []}


@contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("kubectl-accel"))
    # A shell in the background has its children ignore Ctrl-C; the one in these tests is a user's.
    command = ["env", "--default-signal=INT", program, "status", "net", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


UNTIL = ("--until-ready", "--timeout", "60s", "-o", "json")
CHANGED = {**DONE_MODEL, "metadata": {**DONE_MODEL["metadata"], "resourceVersion": "2"}}


def test_watching_prints_changes_only_and_ends_when_ready(cluster: Cluster) -> None:
    put(cluster, model(waits("Fetching", "fetching the source")))
    with watching(*UNTIL) as process:
        first = json.loads(line_of(process.stdout))
        put(cluster, CHANGED)
        second = json.loads(line_of(process.stdout))
        rest = process.communicate()
    assert (process.returncode, *rest) == (0, "", "")
    assert [found["objects"][0]["state"] for found in (first, second)] == ["Working", "Ready"]


def test_watching_outlives_the_api_server_and_says_so_once(cluster: Cluster) -> None:
    put(cluster, model(waits("Fetching", "fetching the source")))
    with watching(*UNTIL) as process:
        line_of(process.stdout)
        cluster.broken("The connection to the server was refused")
        assert line_of(process.stderr) == "The connection to the server was refused; asked again\n"
        put(cluster, CHANGED)
        cluster.broken("")
        assert json.loads(line_of(process.stdout))["ready"]
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_ctrl_c_ends_watching_without_a_word(cluster: Cluster) -> None:
    put(cluster, DONE_MODEL)
    with watching("--watch") as process:
        assert line_of(process.stdout).startswith("--- 20")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, "")
