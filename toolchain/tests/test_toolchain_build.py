"""Images: base and model put together without a daemon, reproducibly, and readable by others' tools."""

import gzip
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from accel.oci import Descriptor, Document, Entry, Index, Manifest, Registry, digest_of, write_layer
from accel.oci.manifests import DOCKER_MANIFEST, OCI_CONFIG, canonical_json
from accel_toolchain import jobs
from accel_toolchain.build import build
from accel_toolchain.conditions import Terminal, Transient

HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def put_image(
    registry: Registry, repository: str, tag: str, folder: Path, content: bytes, docker: bool = False
) -> Document:
    layer = write_layer(folder / "layer.tar", [Entry("etc/what", content)])
    stored = gzip.compress(layer.path.read_bytes(), mtime=0) if docker else layer.path.read_bytes()
    registry.put_blob(repository, stored)
    config = canonical_json(
        {
            "architecture": HERE,
            "os": "linux",
            "config": {
                "Env": ["PATH=/bin", "ACCEL_MODEL_NAME=old"],
                "User": "65532",
                "Entrypoint": ["accel-runtime"],
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest]},
        }
    )
    registry.put_blob(repository, config)
    manifest = Manifest(
        Descriptor(
            "application/vnd.docker.container.image.v1+json" if docker else OCI_CONFIG,
            digest_of(config),
            len(config),
        ),
        (
            Descriptor(
                DOCKER_LAYER if docker else layer.descriptor.media_type, digest_of(stored), len(stored)
            ),
        ),
        media_type=DOCKER_MANIFEST if docker else "application/vnd.oci.image.manifest.v1+json",
    )
    document = Document(manifest.media_type, manifest.to_bytes())
    registry.put_manifest(repository, tag, document)
    return document


@pytest.fixture
def registry(endpoint: str) -> Any:
    with Registry(endpoint) as client:
        yield client


def build_job(
    endpoint: str, model: str, base: str, repository: str, version: int = 1, **image: Any
) -> jobs.BuildJob:
    document = {
        "schema": "accel.dev/build-job/v1",
        "image": {
            "namespace": "test",
            "name": "digits",
            "description": "Digits",
            "tags": {"team": "a"},
            **image,
        },
        "model": {"repository": "models/build/digits", "version": version, "digest": model},
        "base": base,
        "baseInsecure": True,
        "registry": {"endpoint": endpoint},
        "target": {"repository": repository},
        "reason": "Model",
    }
    return jobs.parse_build(json.dumps(document))


def test_an_image_is_its_base_and_its_model(endpoint: str, registry: Registry, tmp_path: Path) -> None:
    host = endpoint.removeprefix("http://")
    base = put_image(registry, "build/base", "1", tmp_path, b"base")
    model = put_image(registry, "models/build/digits", "v1", tmp_path, b"model")
    job = build_job(
        endpoint, model.digest, f"{host}/build/base@{base.digest}", "images/build/whole", version=3
    )
    first = build(job)
    assert first["image"] | {"createdTime": ""} == {
        "version": 1,
        "digest": first["image"]["digest"],
        "modelVersion": 3,
        "modelDigest": model.digest,
        "reason": "Model",
        "createdTime": "",
        "sizeBytes": first["image"]["sizeBytes"],
    }
    assert build(job) == first, "the same input is the same version and digest"
    image = f"docker://{host}/images/build/whole:v1"
    subprocess.run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            "-q",
            "--src-tls-verify=false",
            image,
            f"oci:{tmp_path}/copy:v1",
        ],
        check=True,
    )
    seen = json.loads(subprocess.check_output(["skopeo", "inspect", "--tls-verify=false", image]))
    assert seen["Digest"] == first["image"]["digest"]
    assert seen["Architecture"] == HERE
    assert set(seen["Env"]) == {"PATH=/bin", "ACCEL_MODEL_NAME=digits", "ACCEL_MODEL_VERSION=3"}
    assert seen["Labels"]["accel.dev/model-digest"] == model.digest
    assert seen["Labels"]["org.opencontainers.image.description"] == "Digits"
    manifest = registry.get_manifest("images/build/whole", "v1").manifest()
    config = json.loads(registry.read_blob("images/build/whole", manifest.config))
    assert config["config"]["User"] == "65532"
    assert config["config"]["Entrypoint"] == ["accel-runtime"]
    contents = [registry.read_blob("images/build/whole", layer) for layer in manifest.layers]
    assert config["rootfs"]["diff_ids"] == [digest_of(content) for content in contents]
    with tarfile.open(fileobj=io.BytesIO(contents[1])) as tar:
        assert tar.extractfile("etc/what").read() == b"model"  # type: ignore[union-attr]


def test_a_new_model_or_base_is_the_next_version(endpoint: str, registry: Registry, tmp_path: Path) -> None:
    host = endpoint.removeprefix("http://")
    put_image(registry, "build/base", "2", tmp_path, b"base")
    models = [put_image(registry, "models/build/digits", f"v{n}", tmp_path, b"model %d" % n) for n in (1, 2)]
    results = [
        build(build_job(endpoint, m.digest, f"{host}/build/base:2", "images/build/next")) for m in models
    ]
    assert [r["image"]["version"] for r in results] == [1, 2]
    back = build(build_job(endpoint, models[0].digest, f"{host}/build/base:2", "images/build/next"))
    assert back["image"] == results[0]["image"], "going back builds nothing"
    assert [entry["version"] for entry in back["versions"]] == [2, 1]
    put_image(registry, "build/base", "2", tmp_path, b"base with a fix")
    patched = build(build_job(endpoint, models[0].digest, f"{host}/build/base:2", "images/build/next"))
    assert patched["image"]["version"] == 3


def test_a_docker_base_of_another_registry_in_an_index(
    endpoint: str, registry: Registry, tmp_path: Path
) -> None:
    """The same server under another name is another registry: layers are copied, not mounted."""
    host = endpoint.removeprefix("http://").replace("127.0.0.1", "localhost")
    base = put_image(registry, "build/docker", "here", tmp_path, b"docker", docker=True)
    other = put_image(registry, "build/docker", "other", tmp_path, b"another platform", docker=True)
    index = Index(
        (
            Descriptor(
                other.media_type,
                other.digest,
                len(other.body),
                platform={"architecture": "s390x", "os": "linux"},
            ),
            Descriptor(
                base.media_type, base.digest, len(base.body), platform={"architecture": HERE, "os": "linux"}
            ),
        )
    )
    registry.put_manifest("build/docker", "all", Document(index.media_type, index.to_bytes()))
    model = put_image(registry, "models/build/digits", "v1", tmp_path, b"model")
    result = build(build_job(endpoint, model.digest, f"{host}/build/docker:all", "images/build/docker"))
    manifest = registry.get_manifest("images/build/docker", result["image"]["digest"]).manifest()
    assert manifest.layers[0].digest == base.manifest().layers[0].digest
    assert manifest.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert manifest.annotations["org.opencontainers.image.base.digest"] == base.digest


def test_what_is_missing_is_named(endpoint: str, registry: Registry, tmp_path: Path) -> None:
    host = endpoint.removeprefix("http://")
    model = put_image(registry, "models/build/digits", "v1", tmp_path, b"model")
    absent = "sha256:" + "0" * 64
    with pytest.raises(Terminal, match=r"spec\.modelRef: version 1") as raised:
        build(build_job(endpoint, absent, f"{host}/build/base:1", "images/build/none"))
    assert raised.value.reason == "ModelNotFound"
    for base in (f"{host}/build/base@{absent}", f"{host}/Build:1", "nothing"):
        with pytest.raises(Terminal, match=r"images\.runtime") as raised:
            build(build_job(endpoint, model.digest, base, "images/build/none"))
        assert raised.value.reason == "BaseNotFound"
    index = Index(
        (
            Descriptor(
                model.media_type,
                model.digest,
                len(model.body),
                platform={"architecture": "s390x", "os": "linux"},
            ),
        )
    )
    registry.put_manifest("models/build/digits", "alien", Document(index.media_type, index.to_bytes()))
    with pytest.raises(Terminal, match=f"linux/{HERE}"):
        build(build_job(endpoint, model.digest, f"{host}/models/build/digits:alien", "images/build/none"))
    for registry_url, base in (
        ("http://127.0.0.1:9", f"{host}/build/base:1"),
        (endpoint, "127.0.0.1:9/base:1"),
    ):
        with pytest.raises(Transient) as again:
            build(build_job(registry_url, model.digest, base, "images/build/none"))
        assert again.value.reason == "RegistryUnavailable"
