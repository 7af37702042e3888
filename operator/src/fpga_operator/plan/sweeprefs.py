"""What the cluster refers to in the registry: read from objects as they lie in the API, whoever made them.

Generous on purpose: a reference too many keeps a few bytes, one too few takes an image away from what runs. So
statuses are read as plain JSON (another release may have written them), hosts are ignored, and an object of ours
that cannot be understood keeps its whole repository.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fpga_operator.plan.types import Manifest

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}\Z")
_DONE = ("Succeeded", "Failed")


@dataclass
class References:
    """Collected from all objects. Names are repositories without a host."""

    digests: set[tuple[str, str]] = field(default_factory=set)  # repository and digest
    tags: set[tuple[str, str]] = field(default_factory=set)  # repository and tag
    anywhere: set[str] = field(default_factory=set)  # digests without a repository
    whole: set[str] = field(default_factory=set)  # somebody is at work there: all of it is kept
    owned: dict[str, str] = field(default_factory=dict)  # repository of a live object, and that object's name
    needed: dict[tuple[str, str], set[tuple[str, str, str]]] = field(default_factory=dict)
    """Digests that statuses promise, and the objects (kind, namespace, name) that do."""

    def refer(self, reference: str) -> None:
        """Take in an image reference of any form; what is none is ignored."""
        text = reference.removeprefix("docker-pullable://").removeprefix("oci://").strip()
        if _DIGEST.match(text):
            self.anywhere.add(text)
            return
        name, _, digest = text.partition("@")
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:  # the colon of a port
            head, tag = name, ("" if digest else "latest")
        path = [part for part in head.split("/") if part]
        # Whatever the registry is called here, and whatever prefix it has: every tail may be the repository.
        for start in range(len(path)):
            repository = "/".join(path[start:])
            if _DIGEST.match(digest):
                self.digests.add((repository, digest))
            if tag:
                self.tags.add((repository, tag))

    def promise(self, repository: str, digest: str, owner: tuple[str, str, str]) -> None:
        """Note a digest in the status of an object of ours."""
        self.digests.add((repository, digest))
        self.needed.setdefault((repository, digest), set()).add(owner)


def read(found: References, kind: str, body: Manifest) -> None:
    """Add what one object refers to."""
    match kind:
        case "FpgaModel":
            _model(found, body)
        case "AccelImage":
            _image(found, body)
        case "AccelService":
            _service(found, body)
        case "Pod":
            _pod(found, body)
        case _:  # Deployment, ReplicaSet, Job
            template = (body.get("spec") or {}).get("template") or {}
            _containers(found, template.get("spec") or {}, active=kind == "Job" and not _finished(body))


def settled(body: Manifest) -> bool:
    """Tell whether an object's status is about its present spec and no Job is under way for it."""
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"].get("generation", 1):
        return False
    job = status.get("job") or {}
    return not job or job.get("outcome") in _DONE


def image_repository(namespace: str, name: str, spec: Manifest) -> str:
    """Return the repository of an AccelImage."""
    return str(spec.get("repository") or f"images/{namespace}/{name}")


def _model(found: References, body: Manifest) -> None:
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    status = body.get("status") or {}
    _own(found, body, f"models/{namespace}/{name}", "FpgaModel")
    found.refer(str(((body.get("spec") or {}).get("source") or {}).get("uri") or ""))
    found.refer(str(status.get("log") or ""))


def _image(found: References, body: Manifest) -> None:
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    spec, status = body.get("spec") or {}, body.get("status") or {}
    repository = image_repository(namespace, name, spec)
    _own(found, body, repository, "AccelImage")
    previous = status.get("repository")
    if previous and previous != repository:
        found.whole.add(previous)  # on its way to another one
    model = spec.get("modelRef") or {}
    if model.get("version"):
        found.tags.add((f"models/{namespace}/{model.get('name')}", f"v{model['version']}"))
    for reference in (status.get("image"), status.get("buildLog"), status.get("runtimeBase")):
        found.refer(str(reference or ""))


def _own(found: References, body: Manifest, repository: str, kind: str) -> None:
    owner = (kind, body["metadata"]["namespace"], body["metadata"]["name"])
    found.owned[repository] = "{} {}/{}".format(*owner)
    try:
        for version in (body.get("status") or {}).get("versions") or []:
            found.promise(repository, str(version["digest"]), owner)
        if not settled(body):
            found.whole.add(repository)
    except (KeyError, TypeError, AttributeError):
        found.whole.add(repository)  # written by another release: understood by that one


def _service(found: References, body: Manifest) -> None:
    namespace = body["metadata"]["namespace"]
    spec, status = body.get("spec") or {}, body.get("status") or {}
    for reference in (spec.get("image"), status.get("image"), (status.get("lastGood") or {}).get("image")):
        found.refer(str(reference or ""))
    image = spec.get("imageRef") or {}
    if image.get("version"):
        # Below images/ only; an AccelImage with a repository of its own keeps its versions itself.
        found.tags.add((f"images/{namespace}/{image.get('name')}", f"v{image['version']}"))


def _finished(job: Manifest) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def _pod(found: References, body: Manifest) -> None:
    status = body.get("status") or {}
    _containers(found, body.get("spec") or {}, active=status.get("phase") not in _DONE)
    for each in _lists(status, "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        found.refer(str(each.get("imageID") or ""))


def _containers(found: References, spec: Manifest, *, active: bool) -> None:
    for container in _lists(spec, "initContainers", "containers", "ephemeralContainers"):
        found.refer(str(container.get("image") or ""))
        for variable in container.get("env") or []:
            if variable.get("name") == "ACCEL_JOB":
                _payload(found, str(variable.get("value") or ""), active=active)
    for volume in spec.get("volumes") or []:
        found.refer(str((volume.get("image") or {}).get("reference") or ""))


def _payload(found: References, text: str, *, active: bool) -> None:
    """Read a Job of ours: it writes one repository, and a build reads a model."""
    try:
        job = json.loads(text)
        target, model, base = job["target"]["repository"], job.get("model") or {}, job.get("base")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if active:
        found.whole.add(str(target))
    if model.get("repository") and model.get("digest"):
        found.digests.add((str(model["repository"]), str(model["digest"])))
    if base:
        found.refer(str(base))


def _lists(body: Manifest, *names: str) -> Iterator[Manifest]:
    for name in names:
        entries: Iterable[Manifest] = body.get(name) or []
        yield from entries
