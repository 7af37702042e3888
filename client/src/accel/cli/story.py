"""`kubectl accel status`: how an object is doing, and the objects it stands on, in a few lines each."""

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from accel.errors import AccelError, KubectlError
from accel.kubectl import Kubectl

__all__ = ["describe", "status"]

KINDS = {
    "accelservice": "accelservices.accel.dev",
    "accelimage": "accelimages.accel.dev",
    "fpgamodel": "fpgamodels.accel.dev",
}
_SHORT = {
    "asvc": "accelservice",
    "service": "accelservice",
    "aimg": "accelimage",
    "image": "accelimage",
    "fmodel": "fpgamodel",
    "model": "fpgamodel",
}
_UPSTREAM = {"AccelService": ("accelimage", "imageRef"), "AccelImage": ("fpgamodel", "modelRef")}


def status(kubectl: Kubectl, name: str) -> None:
    """Print the object `name` (or kind/name) and what it refers to; raises AccelError if there is none."""
    found: Mapping[str, Any] | None = _find(kubectl, name)
    while found is not None:
        for line in describe(found):
            typer.echo(line)
        found = _upstream(kubectl, found)


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about one object: state, figures, and each condition that is not as it should be."""
    state = found.get("status", {})
    conditions = {entry["type"]: entry for entry in state.get("conditions", [])}
    ready = conditions.get(
        "Ready", {"status": "Unknown", "reason": "NotSeen", "message": "not seen by the operator"}
    )
    yield f"{found['kind']} {found['metadata']['name']}: {_headline(state, ready)}"
    if ready["status"] != "True" and ready.get("message"):
        yield f"  {ready.get('reason')}: {ready['message']}"
    if ready["status"] == "True" and state.get("observedGeneration") != found["metadata"].get("generation"):
        yield "  edited since; the operator has not seen that yet"
    for key, label in _FIGURES:
        if key in state:
            yield f"  {label}: {state[key]}"
    for device in state.get("devices", []):
        yield f"  device: {device.get('device')} on {device.get('node')}, pod {device.get('pod')}"
    if isinstance(state.get("device"), dict) and "latencyMs" in state["device"]:
        device = state["device"]
        offloaded, host = device.get("offloadedOps", 0), device.get("hostOps", 0)
        yield (
            f"  on the FPGA: {offloaded} of {offloaded + host} operators, {device['latencyMs']} ms simulated, "
            f"bound by {device.get('boundBy')}"
        )
    for kind, entry in conditions.items():
        wrong = entry["status"] == ("True" if kind in ("Stalled", "CapacityLimited") else "False")
        said = entry.get("message") == ready.get("message")  # once is enough
        if kind not in ("Ready", "Available", "Reconciling") and wrong and not said:
            yield f"  {kind}={entry['status']} {entry.get('reason')}: {entry.get('message')}"


_FIGURES = (
    ("scoringUri", "address"),
    ("modelVersion", "model version"),
    ("readyReplicas", "ready replicas"),
    ("image", "image"),
    ("latestVersion", "latest version"),
)


def _headline(state: Mapping[str, Any], ready: Mapping[str, Any]) -> str:
    word = (
        "Suspended"
        if ready.get("reason") == "Suspended"
        else state.get("state") or state.get("creationState")
    )
    verdict = "Ready" if ready["status"] == "True" else "not Ready"
    return f"{verdict} ({word})" if word else verdict


def _find(kubectl: Kubectl, name: str) -> Mapping[str, Any]:
    kind, slash, rest = name.partition("/")
    if slash:
        known = _SHORT.get(kind.lower(), kind.lower().rstrip("s"))
        if known not in KINDS:
            raise AccelError(f"unknown kind {kind!r}; known are {', '.join(KINDS)}")
        return kubectl.get(KINDS[known], rest)
    for full in KINDS.values():
        try:
            return kubectl.get(full, name)
        except KubectlError as error:
            if "NotFound" not in str(error):
                raise
    raise AccelError(f"no AccelService, AccelImage or FpgaModel is named {name!r} in this namespace")


def _upstream(kubectl: Kubectl, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind, field = _UPSTREAM.get(found["kind"], ("", ""))
    reference = found.get("spec", {}).get(field) if field else None
    if not reference:
        return None
    try:
        return kubectl.get(KINDS[kind], reference["name"])
    except KubectlError as error:
        typer.echo(f"{kind} {reference['name']}: {error}")
        return None
