"""Which objects must be looked at when one changes: a table, not handlers."""

from collections.abc import Callable, Iterable

from fpga_operator.plan.devices import devices_of
from fpga_operator.plan.strays import home, is_stray
from fpga_operator.plan.types import IMAGE_LABEL, MODEL_LABEL, SERVICE_LABEL, Manifest
from fpga_operator.run.store import IMAGE_REF, MODEL_REF, Key, Store, key_of

OWN = ("FpgaModel", "AccelImage", "AccelService")
_LABELS = {MODEL_LABEL: "FpgaModel", IMAGE_LABEL: "AccelImage", SERVICE_LABEL: "AccelService"}


def _images_of(store: Store, namespace: str, model: str) -> list[Manifest]:
    return store.labelled("AccelImage", namespace, MODEL_REF, model)


def _services_of(store: Store, namespace: str, image: str) -> list[Key]:
    return [key_of(service) for service in store.labelled("AccelService", namespace, IMAGE_REF, image)]


def _model(store: Store, body: Manifest) -> Iterable[Key]:
    key = key_of(body)
    yield key
    for image in _images_of(store, key.namespace, key.name):
        yield key_of(image)
        # Past the image: its status is a moment late, and a service must not seem done in that moment.
        yield from _services_of(store, key.namespace, image["metadata"]["name"])


def _image(store: Store, body: Manifest) -> Iterable[Key]:
    key = key_of(body)
    yield key
    yield from _services_of(store, key.namespace, key.name)
    # The model keeps the versions that images name, and hears from them when the registry has lost one.
    if model := body.get("spec", {}).get("modelRef", {}).get("name"):
        yield Key("FpgaModel", key.namespace, model)


def _service(_: Store, body: Manifest) -> Iterable[Key]:
    key = key_of(body)
    yield key
    if image := (body.get("spec", {}).get("imageRef") or {}).get(
        "name"
    ):  # it keeps the versions that services name
        yield Key("AccelImage", key.namespace, image)


def _child(_: Store, body: Manifest) -> Iterable[Key]:
    """An owned child, or a pod of one, carries its object's name in a label of ours."""
    for label, value in (body["metadata"].get("labels") or {}).items():
        if label in _LABELS:
            yield Key(_LABELS[label], body["metadata"].get("namespace", ""), value)


def _pod(store: Store, body: Manifest) -> Iterable[Key]:
    """A pod whose labels a hand changed still belongs to the service that it was made for."""
    yield from _child(store, body)
    if is_stray(body):
        yield Key("AccelService", body["metadata"].get("namespace", ""), home(body))


def _unhealthy_services(store: Store) -> Iterable[Key]:
    for service in store.all("AccelService"):
        if (service.get("status") or {}).get("state") != "Healthy":
            yield key_of(service)


def _fpga_node(store: Store, body: Manifest) -> Iterable[Key]:
    yield from _unhealthy_services(store)
    name = body["metadata"]["name"]
    for pod in store.all("Pod"):
        if pod["spec"].get("nodeName") == name:
            yield from _child(store, pod)


def _node(store: Store, _: Manifest) -> Iterable[Key]:
    yield from (key_of(service) for service in store.all("AccelService"))


NODES = ("Node", "FpgaNode")  # a change wakes many: only one that a planner can see does
MAPPING: dict[str, Callable[[Store, Manifest], Iterable[Key]]] = {
    "FpgaModel": _model,
    "AccelImage": _image,
    "AccelService": _service,
    "Job": _child,
    "Pod": _pod,
    "Deployment": _child,
    "Service": _child,
    "ServiceAccount": _child,
    "PodDisruptionBudget": _child,
    "NetworkPolicy": _child,
    "FpgaNode": _fpga_node,
    "Node": _node,
}


def affected(store: Store, body: Manifest) -> set[Key]:
    """Return the keys to work on after a change of this object."""
    return set(MAPPING[body["kind"]](store, body))


def node_matters(before: Manifest | None, after: Manifest) -> bool:
    """Tell whether a change of a Node is more than its heartbeat, of an FpgaNode more than what a device is at."""
    if before is None:
        return True
    if after.get("kind") == "FpgaNode":
        return devices_of(before) != devices_of(after)

    def essence(node: Manifest) -> object:
        status = node.get("status", {})
        ready = [c["status"] for c in status.get("conditions") or [] if c["type"] == "Ready"]
        return (
            node["metadata"].get("labels"),
            node.get("spec", {}).get("taints"),
            node.get("spec", {}).get("unschedulable"),
            status.get("addresses"),
            ready,
        )

    return essence(before) != essence(after)
