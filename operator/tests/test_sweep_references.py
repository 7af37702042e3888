"""What objects refer to, as they lie in the API."""

import json
from typing import Any

import pytest
from fpga_operator.plan.sweeprefs import References, read, settled

D = "sha256:" + "1" * 64
E = "sha256:" + "2" * 64
IMAGE = "images/shop/net"

REFERENCES = {
    # name: (reference, (repository, digest), (repository, tag))
    "by a node's name": (f"localhost:5000/{IMAGE}@{D}", (IMAGE, D), None),
    "canonical": (f"oci:///{IMAGE}@{D}", (IMAGE, D), None),
    "by another host": (f"registry.accel-system.svc:5000/{IMAGE}@{D}", (IMAGE, D), None),
    "below a prefix": (f"example.com/project/{IMAGE}@{D}", (IMAGE, D), None),
    "as docker writes it": (f"docker-pullable://localhost:5000/{IMAGE}@{D}", (IMAGE, D), None),
    "tag and digest": (f"localhost:5000/{IMAGE}:v3@{D}", (IMAGE, D), (IMAGE, "v3")),
    "a tag": (f"localhost:5000/{IMAGE}:v3", None, (IMAGE, "v3")),
    "neither": (f"localhost:5000/{IMAGE}", None, (IMAGE, "latest")),
}


@pytest.mark.parametrize(("text", "by_digest", "by_tag"), REFERENCES.values(), ids=REFERENCES)
def test_references(text: str, by_digest: tuple[str, str] | None, by_tag: tuple[str, str] | None) -> None:
    found = References()
    found.refer(text)
    assert by_digest is None or by_digest in found.digests
    assert by_tag is None or by_tag in found.tags
    assert bool(found.digests) is bool(by_digest)
    assert bool(found.tags) is bool(by_tag)


@pytest.mark.parametrize("text", ["", "@", ":", "https://example.com/a.zip", "oci://", "pvc://claim/x"])
def test_what_is_no_reference_harms_nothing(text: str) -> None:
    References().refer(text)


def body(kind: str, spec: Any = None, status: Any = None, **meta: Any) -> dict[str, Any]:
    metadata = {"name": "net", "namespace": "shop", "generation": 2, **meta}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": status or {}}


def template(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": list(containers), **more}}}


JOB = {
    "target": {"repository": IMAGE},
    "model": {"repository": "models/shop/net", "version": 1, "digest": E},
}
AT_WORK = {"name": "build", "image": "t", "env": [{"name": "ACCEL_JOB", "value": json.dumps(JOB)}]}
RUNS = {"image": f"localhost:5000/{IMAGE}@{D}"}
DONE = {"observedGeneration": 2, "versions": [{"version": 1, "digest": D}]}
OBJECTS = {
    # name: (kind, spec, status, field, what must be in it)
    "a model's versions": ("FpgaModel", {}, DONE, "digests", {("models/shop/net", D)}),
    "a model's log": (
        "FpgaModel",
        {},
        {**DONE, "log": f"oci:///models/shop/net@{E}"},
        "digests",
        {("models/shop/net", E)},
    ),
    "a model's source": (
        "FpgaModel",
        {"source": {"uri": "oci:///sources/net:1"}},
        DONE,
        "tags",
        {("sources/net", "1")},
    ),
    "a model that is not settled": ("FpgaModel", {}, {"observedGeneration": 1}, "whole", {"models/shop/net"}),
    "a model whose Job runs": (
        "FpgaModel",
        {},
        {**DONE, "job": {"outcome": "Running"}},
        "whole",
        {"models/shop/net"},
    ),
    "a status of another release": (
        "FpgaModel",
        {},
        {**DONE, "versions": [{"number": 1}]},
        "whole",
        {"models/shop/net"},
    ),
    "an image's versions": ("AccelImage", {}, DONE, "digests", {(IMAGE, D)}),
    "an image's own repository": ("AccelImage", {"repository": "a/b"}, DONE, "digests", {("a/b", D)}),
    "an image's base": (
        "AccelImage",
        {},
        {**DONE, "runtimeBase": f"localhost:5000/base/runtime@{E}"},
        "digests",
        {("base/runtime", E)},
    ),
    "an image that moves": (
        "AccelImage",
        {"repository": "a/b"},
        {**DONE, "repository": "c/d"},
        "whole",
        {"c/d"},
    ),
    "an image's pin": (
        "AccelImage",
        {"modelRef": {"name": "m", "version": 3}},
        DONE,
        "tags",
        {("models/shop/m", "v3")},
    ),
    "a service's image": ("AccelService", {"image": f"oci:///{IMAGE}@{D}"}, {}, "digests", {(IMAGE, D)}),
    "a service's pin": (
        "AccelService",
        {"imageRef": {"name": "net", "version": 2}},
        {},
        "tags",
        {(IMAGE, "v2")},
    ),
    "a service's last good": (
        "AccelService",
        {},
        {"lastGood": {"image": f"oci:///{IMAGE}@{D}"}},
        "digests",
        {(IMAGE, D)},
    ),
    "a deployment": ("Deployment", template(RUNS), {}, "digests", {(IMAGE, D)}),
    "an old replica set": ("ReplicaSet", template(RUNS), {"replicas": 0}, "digests", {(IMAGE, D)}),
    "an image volume": (
        "Deployment",
        template(volumes=[{"name": "m", "image": {"reference": f"localhost:5000/models/shop/net@{D}"}}]),
        {},
        "digests",
        {("models/shop/net", D)},
    ),
    "a pod": ("Pod", {"initContainers": [RUNS]}, {}, "digests", {(IMAGE, D)}),
    "a pod's image id": (
        "Pod",
        {},
        {"containerStatuses": [{"imageID": f"localhost:5000/{IMAGE}@{D}"}]},
        "digests",
        {(IMAGE, D)},
    ),
    "a job at work": ("Job", template(AT_WORK), {}, "whole", {IMAGE}),
    "what a job reads": ("Job", template(AT_WORK), {}, "digests", {("models/shop/net", E)}),
    "a pod of a job that is gone": ("Pod", {"containers": [AT_WORK]}, {"phase": "Running"}, "whole", {IMAGE}),
}


@pytest.mark.parametrize(("kind", "spec", "status", "where", "there"), OBJECTS.values(), ids=OBJECTS)
def test_objects(kind: str, spec: Any, status: Any, where: str, there: set[Any]) -> None:
    found = References()
    read(found, kind, body(kind, spec, status))
    assert there <= getattr(found, where)


def test_a_finished_job_keeps_no_repository_whole() -> None:
    found = References()
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    read(found, "Job", body("Job", template(AT_WORK), done))
    assert not found.whole


SETTLED = {
    "done": (DONE, True),
    "no status": ({}, False),
    "of the generation before": ({"observedGeneration": 1}, False),
    "a Job ran": ({**DONE, "job": {"outcome": "Succeeded"}}, True),
    "a Job failed": ({**DONE, "job": {"outcome": "Failed"}}, True),
    "a Job is tried again": ({**DONE, "job": {"outcome": "Retrying"}}, False),
}


@pytest.mark.parametrize(("status", "expected"), SETTLED.values(), ids=SETTLED)
def test_settled(status: Any, expected: bool) -> None:
    assert settled(body("FpgaModel", {}, status)) is expected


def test_who_needs_what_is_known() -> None:
    found = References()
    read(found, "FpgaModel", body("FpgaModel", {}, DONE))
    assert found.needed == {("models/shop/net", D): {("FpgaModel", "shop", "net")}}
