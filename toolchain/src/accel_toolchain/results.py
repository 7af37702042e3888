"""What a Job says at its end: one JSON document of at most 4096 bytes in the pod's termination message."""

import json
import os
from pathlib import Path
from typing import Any, Final

from accel_toolchain.conditions import Failure

SCHEMA: Final = "accel.dev/job-result/v1"
LIMIT_BYTES: Final = 4096  # the kubelet keeps no more of a termination message
TERMINATION_LOG: Final = "/dev/termination-log"


def failure(step: str, error: Failure) -> dict[str, Any]:
    """Return the result of a step that failed."""
    return {
        "schema": SCHEMA,
        "step": step,
        "ok": False,
        "reason": error.reason,
        "message": error.message,
        "retry": error.retry,
    }


def success(step: str, **fields: Any) -> dict[str, Any]:
    """Return the result of a step that worked."""
    return {"schema": SCHEMA, "step": step, "ok": True, **fields}


def fit(result: dict[str, Any], limit: int = LIMIT_BYTES) -> bytes:
    """Return the result as JSON of at most `limit` bytes.

    Cut in this order: the oldest versions (then `versionsCut` is true), the rarest reasons of `device` why operators
    stay on the host (`device.hostReasonsCut`), the tail of the list of outputs and inputs (then `outputsCut`,
    `inputsCut`), the message's tail. The full lists lie in the registry.
    """
    result = dict(result)
    if "versions" in result:
        result["versionsCut"] = False
    if result.get("device"):
        result["device"] = dict(result["device"])
    encoded = _encode(result)
    for key in ("versions", "hostReasons", "outputs", "inputs"):
        holder = result.get("device") or {} if key == "hostReasons" else result
        keep = 1 if key == "versions" else 0
        while len(encoded) > limit and len(holder.get(key) or ()) > keep:
            holder[key] = holder[key][:-1]
            holder[f"{key}Cut"] = True
            encoded = _encode(result)
    message = result.get("message")
    while len(encoded) > limit and message:
        message = message[: len(message) - max(16, (len(encoded) - limit) // 4)]
        result["message"] = f"{message}…"
        encoded = _encode(result)
    if len(encoded) > limit:
        raise ValueError(f"a result of {len(encoded)} bytes cannot be cut to {limit}")
    return encoded


def write(result: dict[str, Any]) -> None:
    """Write the result where the kubelet reads it (`ACCEL_TERMINATION_LOG` names another place)."""
    path = Path(os.environ.get("ACCEL_TERMINATION_LOG") or TERMINATION_LOG)
    path.write_bytes(fit(result))


def _encode(result: dict[str, Any]) -> bytes:
    return json.dumps(result, separators=(",", ":"), ensure_ascii=False).encode()
