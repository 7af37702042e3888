"""Which image a service runs, and what keeps it from being the newest."""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.config import Config
from fpga_operator.plan.conditions import Situation
from fpga_operator.plan.history import dropped_story
from fpga_operator.plan.types import Owner
from fpga_operator.plan.upstream import Upstream, Verdict, waiting_for


@dataclass(frozen=True)
class ImageSeen:
    """The image that a service names, and the model that this image follows (None: pinned, or not there)."""

    owner: Owner
    spec: AccelImageSpec
    status: AccelImageStatus
    model: Upstream | None = None

    @property
    def upstream(self) -> Upstream:
        """The image as something to wait for."""
        return Upstream("AccelImage", self.owner.name, self.owner.generation, self.status)


@dataclass(frozen=True)
class Choice:
    """The image to run (canonical; None: none yet) and what is still to come, if anything."""

    reference: str | None
    model_version: int | None
    verdict: Verdict | None = None
    sku: str | None = None  # kind of card that the program in it is for; None: not known, or none


def node_reference(canonical: str, config: Config) -> str:
    """Return the name by which a node pulls a canonical reference."""
    if canonical.startswith("oci:///"):
        return f"{config.registry.node_name}/{canonical.removeprefix('oci:///')}"
    return canonical.removeprefix("oci://")


def _is_configured(host: str, config: Config) -> bool:
    """Tell whether a host is the configured registry: by a name of the settings, a loopback address, a Service's name.

    Of the node's own ports only the proxy of that registry answers with images.
    """
    endpoint = urlsplit(config.registry.endpoint)
    name = urlsplit(f"//{host}").hostname or ""
    if host in ("", config.registry.node_name, endpoint.netloc) or name == endpoint.hostname:
        return True
    if name == "localhost" or name == "::1" or name.startswith("127."):
        return True
    service = (endpoint.hostname or "").partition(".svc")
    return bool(service[1]) and name in (service[0], f"{service[0]}.svc.cluster.local")


def denial(owner: Owner, reference: str, config: Config) -> Verdict | None:
    """Refuse what belongs to another namespace: in the configured registry, by whatever name it is written."""
    host, _, rest = reference.removeprefix("oci://").partition("/")
    parts = rest.partition("@")[0].split("/")
    if (
        not _is_configured(host, config)
        or parts[0] not in ("images", "models")
        or parts[:2] == ["images", owner.namespace]
    ):
        return None
    if parts[0] == "models":
        message = (
            f"spec.image {reference}: what is below models/ is a model and not an image; make an AccelImage of it and "
            "name that with spec.imageRef"
        )
    else:
        message = (
            f"spec.image {reference} belongs to namespace {parts[1]}: names below images/ belong to the namespace that "
            f"follows. Use an AccelImage of namespace {owner.namespace} (spec.imageRef), or have the image built with "
            "spec.repository of its AccelImage set to a name that is not below images/"
        )
    return Verdict(Situation.FAILED, "ImageDenied", message)


def choose(
    owner: Owner, spec: AccelServiceSpec, status: AccelServiceStatus, image: ImageSeen | None, config: Config
) -> Choice:
    """Decide what to run. What runs goes on running while an upstream object is missing or moves."""
    if spec.image is not None:
        if (denied := denial(owner, spec.image, config)) is None:
            return Choice(spec.image, None)
        runs = status.image if status.image and denial(owner, status.image, config) is None else None
        return Choice(runs, status.model_version if runs else None, denied)
    assert spec.image_ref is not None
    ref, running = spec.image_ref, Choice(status.image, status.model_version)
    if image is not None:
        running = replace(running, sku=_sku(image, running.reference))
    if image is None or image.owner.deleting:
        gone = f"waits for AccelImage {ref.name}, which does not exist in namespace {owner.namespace}"
        verdict = Verdict(Situation.WAITING, "WaitingForImage", gone)
        return replace(running, verdict=verdict)
    if ref.version is not None:
        return _pinned(ref.version, image, running)
    found = image.status.image
    held: Verdict | None = None
    if not image.upstream.settled:
        reason, message = waiting_for(image.upstream, "WaitingForImage")
        held = Verdict(Situation.WAITING, reason if found else "WaitingForImage", message)
    elif image.model is not None and not image.model.settled:
        # The image has not looked yet; saying so here closes the gap in which this service would seem done.
        reason, message = waiting_for(image.model, "WaitingForImage")
        held = Verdict(Situation.WAITING, reason, message)
    if found is None and held is None:
        held = Verdict(Situation.WAITING, "WaitingForImage", f"waits for AccelImage {ref.name}")
    if found is None:
        return replace(running, verdict=held)
    return Choice(found, image.status.model_version, held, _sku(image, found))


def _pinned(version: int, image: ImageSeen, running: Choice) -> Choice:
    entry = next((v for v in image.status.versions if v.version == version), None)
    if entry is not None:
        reference = f"oci:///{image.status.repository}@{entry.digest}"
        return Choice(reference, entry.model_version, sku=entry.sku)
    if not image.upstream.settled and not image.upstream.stalled:
        message = f"waits for version {version}: {image.upstream.story()}"
        verdict = Verdict(Situation.WAITING, "WaitingForImage", message)
    else:
        story = dropped_story(
            "AccelImage", image.owner.name, version, image.status.versions, image.spec.history_limit
        )
        verdict = Verdict(Situation.FAILED, "VersionNotFound", f"spec.imageRef.version {version} {story}")
    return replace(running, verdict=verdict)


def _sku(image: ImageSeen, reference: str | None) -> str | None:
    """Return the kind of card that an image of this AccelImage is for, as far as its status says."""
    digest = (reference or "").rpartition("@")[2]
    return next((v.sku for v in image.status.versions if v.digest == digest), None)
