"""Values that the planners' tables are made of: a fixed time, a configuration, Jobs and pods as they look live."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from fpga_operator.config import Config, Images
from fpga_operator.plan.types import REVISION_LABEL, SERVICE_LABEL, Owner, format_time

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CONFIG = Config(images=Images(toolchain="r/toolchain:1", converter="r/converter:1", runtime="r/runtime:1"))
D1, D2, D3 = ("sha256:" + digit * 64 for digit in "123")
I1, I2 = ("sha256:" + digit * 64 for digit in "ab")
FPGA = CONFIG.resource_name


def at(seconds: float) -> str:
    """Return the time that many seconds from NOW."""
    return format_time(NOW + timedelta(seconds=seconds))


def owner(kind: str, name: str = "digits", generation: int = 1, **more: Any) -> Owner:
    return Owner(kind=kind, namespace="demo", name=name, uid=f"uid-{name}", generation=generation, **more)


def job(name: str, end: str = "", reason: str = "", uid: str = "job-uid", **meta: Any) -> dict[str, Any]:
    conditions = [{"type": end, "status": "True", "reason": reason}] if end else []
    return {
        "kind": "Job",
        "metadata": {"name": name, "namespace": "demo", "uid": uid, **meta},
        "status": {"conditions": conditions},
    }


def job_pod(phase: str, uid: str = "job-uid", created: float = 0, **containers: Any) -> dict[str, Any]:
    statuses = [{"name": name, "state": state} for name, state in containers.items()]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"pod{created}",
            "uid": f"pod{created}",
            "creationTimestamp": at(created),
            "ownerReferences": [{"uid": uid}],
        },
        "spec": {},
        "status": {
            "phase": phase,
            "initContainerStatuses": statuses[:-1],
            "containerStatuses": statuses[-1:],
        },
    }


def ended(code: int = 0, because: str = "Completed", **message: Any) -> dict[str, Any]:
    text = json.dumps({"schema": "accel.dev/job-result/v1", "ok": code == 0, **message}) if message else ""
    return {"terminated": {"exitCode": code, "reason": because, "message": text}}


RUNNING: dict[str, Any] = {"running": {}}


def server_pod(
    name: str,
    revision: str,
    *,
    node: str = "",
    ready: bool = False,
    placed: float = -5,
    why: str = "",
    phase: str = "Running",
    service: str = "digits",
    unready: float | None = None,
    sandboxed: bool = True,
    terminating: bool = False,
    container: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a model server's pod as the store holds it; times in seconds from NOW."""
    flag = {True: "True", False: "False"}
    conditions: list[dict[str, Any]] = [
        {
            "type": "PodScheduled",
            "status": flag[bool(node)],
            "lastTransitionTime": at(placed),
            "message": why,
        },
        {
            "type": "Ready",
            "status": flag[ready],
            "lastTransitionTime": at(placed if unready is None else unready),
        },
        {
            "type": "PodReadyToStartContainers",
            "status": flag[sandboxed and bool(node)],
            "lastTransitionTime": at(placed),
        },
    ]
    meta: dict[str, Any] = {
        "name": name,
        "namespace": "demo",
        "uid": f"uid-{name}",
        "labels": {SERVICE_LABEL: service, REVISION_LABEL: revision},
    }
    if terminating:
        meta["deletionTimestamp"] = at(0)
    statuses = [{"name": "server", **container}] if container else []
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses},
    }
