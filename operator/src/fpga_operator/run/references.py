"""Who refers to a version of a model or an image: what the history limit must not drop."""

from fpga_operator.plan.asked import Loss
from fpga_operator.plan.types import Manifest
from fpga_operator.run.store import IMAGE_REF, MODEL_REF, Store


def _images_of(store: Store, namespace: str, model: str) -> list[Manifest]:
    return store.labelled("AccelImage", namespace, MODEL_REF, model)


def model_versions_in_use(store: Store, namespace: str, model: str) -> frozenset[int]:
    """Return the numbers that images of the namespace name, or are built from at present."""
    found: set[int | None] = set()
    for image in _images_of(store, namespace, model):
        found.add(image["spec"]["modelRef"].get("version"))
        found.add((image.get("status") or {}).get("modelVersion"))
    return frozenset(number for number in found if number is not None)


def missed_versions(store: Store, namespace: str, model: str) -> tuple[Loss, ...]:
    """Return the versions that builds of images did not find in the registry."""
    records = [(image.get("status") or {}).get("job") or {} for image in _images_of(store, namespace, model)]
    return tuple(Loss.parse(record["missed"]) for record in records if record.get("missed"))


def images_named(store: Store, namespace: str, image: str) -> frozenset[int]:
    """Return the numbers that services of the namespace name."""
    services = store.labelled("AccelService", namespace, IMAGE_REF, image)
    found = {service["spec"]["imageRef"].get("version") for service in services}
    return frozenset(number for number in found if number is not None)


def digests_served(store: Store) -> frozenset[str]:
    """Return the digests that services of any namespace run, name, or could fall back to."""
    return store.derived("digests served", ("AccelService",), lambda: _digests_served(store))


def _digests_served(store: Store) -> frozenset[str]:
    found = set()
    for service in store.all("AccelService"):
        status = service.get("status") or {}
        for reference in (
            service["spec"].get("image"),
            status.get("image"),
            (status.get("lastGood") or {}).get("image"),
        ):
            found.add((reference or "").rpartition("@")[2])
    return frozenset(found - {""})
