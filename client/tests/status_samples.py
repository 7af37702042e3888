"""Objects as the operator writes them, and the page and report that are made of them."""

from datetime import UTC, datetime
from typing import Any

from accel.kubectl import Kubectl
from accel.status import report
from accel.status.page import page
from accel.status.snapshot import KINDS, Object, Snapshot, key_of
from client_harness import Cluster

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


PLURALS = {**KINDS, "Pod": "pods", "Job": "jobs"}


def put(cluster: Cluster, *objects: Object) -> None:
    for found in objects:
        rest = {key: value for key, value in found.items() if key != "metadata"}
        cluster.put(PLURALS[found["kind"]], found["metadata"]["name"], metadata={**found["metadata"]}, **rest)
