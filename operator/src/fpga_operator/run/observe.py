"""Reads what each planner needs out of the store; the only place that knows both."""

from typing import TypeVar

from pydantic import ValidationError

from fpga_operator.api import (
    AccelImageSpec,
    AccelImageStatus,
    AccelServiceSpec,
    AccelServiceStatus,
    FpgaModelSpec,
    FpgaModelStatus,
)
from fpga_operator.api.base import StatusBase
from fpga_operator.plan.devices import DeviceView, NodeView, ServingPod, devices_of
from fpga_operator.plan.fleet import ServiceObserved
from fpga_operator.plan.image import ImageObserved
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.jobline import JobHolder
from fpga_operator.plan.model import ModelObserved
from fpga_operator.plan.modelref import ModelSeen
from fpga_operator.plan.serving import ImageSeen
from fpga_operator.plan.strays import is_stray, strays_of
from fpga_operator.plan.types import (
    IMAGE_LABEL,
    MODEL_LABEL,
    REVISION_LABEL,
    SERVICE_LABEL,
    Fault,
    Manifest,
    Owner,
    Ref,
)
from fpga_operator.run import references
from fpga_operator.run.store import Key, Store

S = TypeVar("S", bound=StatusBase)


def read_status(model: type[S], body: Manifest) -> S:
    """Read a status; one that does not read is as good as none, for the next write replaces it whole."""
    try:
        return model.model_validate(body.get("status") or {})
    except ValidationError:
        return model()


def job_holders(store: Store) -> tuple[JobHolder, ...]:
    """Return whose Jobs run now."""
    kinds = {MODEL_LABEL: "FpgaModel", IMAGE_LABEL: "AccelImage"}
    return tuple(
        JobHolder(kinds[label], job["metadata"]["namespace"], name)
        for job in store.running_jobs()
        for label, name in (job["metadata"].get("labels") or {}).items()
        if label in kinds
    )


def job_world(store: Store, owner: Owner, label: str, *, slot: bool) -> Jobs:
    """Return the Jobs of an object and their pods."""
    return Jobs(
        jobs=tuple(store.owned(owner.uid, "Job")),
        pods=tuple(store.labelled("Pod", owner.namespace, label, owner.name)),
        slot=slot,
        holders=() if slot else job_holders(store),
    )


def observe_model(
    store: Store,
    owner: Owner,
    body: Manifest,
    *,
    slot: bool,
    fault: Fault | None,
    lost: frozenset[str] = frozenset(),
) -> ModelObserved:
    """Return a model's world."""
    jobs = job_world(store, owner, MODEL_LABEL, slot=slot)
    return ModelObserved(
        status=read_status(FpgaModelStatus, body),
        jobs=jobs,
        fault=fault,
        lost=lost,
        missed=references.missed_versions(store, owner.namespace, owner.name),
        pinned=references.model_versions_in_use(store, owner.namespace, owner.name),
    )


def model_seen(store: Store, namespace: str, name: str) -> ModelSeen | None:
    """Return a model as an image sees it."""
    body = store.body(Key("FpgaModel", namespace, name))
    if body is None:
        return None
    try:
        spec = FpgaModelSpec.model_validate(body["spec"])
    except ValidationError:
        return None
    return ModelSeen(Owner.of(body), spec, read_status(FpgaModelStatus, body))


def observe_image(
    store: Store,
    owner: Owner,
    spec: AccelImageSpec,
    body: Manifest,
    *,
    slot: bool,
    fault: Fault | None,
    lost: frozenset[str] = frozenset(),
) -> ImageObserved:
    """Return an image's world."""
    return ImageObserved(
        status=read_status(AccelImageStatus, body),
        model=model_seen(store, owner.namespace, spec.model_ref.name),
        jobs=job_world(store, owner, IMAGE_LABEL, slot=slot),
        fault=fault,
        lost=lost,
        pinned=references.images_named(store, owner.namespace, owner.name),
        used=references.digests_served(store),
    )


def image_seen(store: Store, namespace: str, name: str) -> ImageSeen | None:
    """Return an image as a service sees it, with the model that it follows."""
    body = store.body(Key("AccelImage", namespace, name))
    if body is None:
        return None
    try:
        spec = AccelImageSpec.model_validate(body["spec"])
    except ValidationError:
        return None
    follows = spec.model_ref.version is None
    model = model_seen(store, namespace, spec.model_ref.name) if follows else None
    upstream = model.upstream if model is not None else None
    return ImageSeen(Owner.of(body), spec, read_status(AccelImageStatus, body), upstream)


def serving_pods(store: Store) -> tuple[ServingPod, ...]:
    """Return the pods of all services that have a node, and with it a device."""
    found = []
    for pod in store.all("Pod"):
        service = (pod["metadata"].get("labels") or {}).get(SERVICE_LABEL)
        node = pod["spec"].get("nodeName")
        if service and node and pod["status"].get("phase") not in ("Failed", "Succeeded"):
            meta = pod["metadata"]
            found.append(ServingPod(meta["namespace"], meta["name"], service, node))
    return tuple(sorted(found, key=lambda pod: (pod.namespace, pod.name)))


def all_devices(store: Store) -> tuple[DeviceView, ...]:
    """Return the devices of all nodes."""
    return tuple(device for node in store.all("FpgaNode") for device in devices_of(node))


def stray_pods(store: Store, namespace: str) -> list[Manifest]:
    """Return the strays of a namespace; hardly ever is there one."""
    all_strays = store.derived("strays", ("Pod",), lambda: tuple(filter(is_stray, store.all("Pod"))))
    return [pod for pod in all_strays if pod["metadata"].get("namespace") == namespace]


def left_pods(store: Store, service: Key) -> tuple[Ref, ...]:
    """Return the pods that a hand had taken out of the set of a service that is gone."""
    return tuple(
        Ref("Pod", service.namespace, pod["metadata"]["name"], pod["metadata"]["uid"])
        for pod in strays_of(stray_pods(store, service.namespace), service.name)
        if REVISION_LABEL in (pod["metadata"].get("labels") or {})
    )


def observe_service(
    store: Store, owner: Owner, spec: AccelServiceSpec, body: Manifest, *, fault: Fault | None
) -> ServiceObserved:
    """Return a service's world."""
    here = (owner.namespace, owner.name)
    image = image_seen(store, owner.namespace, spec.image_ref.name) if spec.image_ref is not None else None
    deployment = store.body(Key("Deployment", *here))
    if deployment is not None and all(
        reference["uid"] != owner.uid for reference in deployment["metadata"].get("ownerReferences") or []
    ):
        deployment = None  # of a predecessor; the garbage collector is about to take it
    return ServiceObserved(
        status=read_status(AccelServiceStatus, body),
        image=image,
        deployment=deployment,
        service=store.body(Key("Service", *here)),
        pods=tuple(
            pod
            for pod in store.labelled("Pod", owner.namespace, SERVICE_LABEL, owner.name)
            if not is_stray(pod)
        ),
        strays=strays_of(stray_pods(store, owner.namespace), owner.name),
        nodes=store.derived("nodes", ("Node",), lambda: tuple(map(NodeView.of, store.all("Node")))),
        devices=store.derived("devices", ("FpgaNode",), lambda: all_devices(store)),
        serving_pods=store.derived("serving pods", ("Pod",), lambda: serving_pods(store)),
        fault=fault,
    )
