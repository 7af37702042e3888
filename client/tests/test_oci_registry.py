"""The registry client against a real registry: Debian's docker-registry on a free port of 127.0.0.1."""

import io
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from accel.oci import (
    Denied,
    Descriptor,
    Document,
    Entry,
    InvalidContent,
    Manifest,
    NotFound,
    Reference,
    Registry,
    Rejected,
    TooLarge,
    Unavailable,
    digest_of,
    push_source,
    write_layer,
)
from accel.oci.local import LocalRegistry
from accel.oci.manifests import OCI_CONFIG


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as local:
        yield local.endpoint


@pytest.fixture
def registry(endpoint: str) -> Iterator[Registry]:
    with Registry(endpoint) as client:
        yield client


def push_image(registry: Registry, repository: str, tag: str, layer: bytes) -> Document:
    config = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
    registry.put_blob(repository, config)
    registry.put_blob(repository, layer)
    manifest = Manifest(
        Descriptor(OCI_CONFIG, digest_of(config), len(config)),
        (Descriptor("application/octet-stream", digest_of(layer), len(layer)),),
        {"who": "test"},
    )
    document = Document(manifest.media_type, manifest.to_bytes())
    registry.put_manifest(repository, tag, document)
    return document


def test_a_manifest_comes_back_as_it_was_put(registry: Registry) -> None:
    put = push_image(registry, "round/trip", "v1", b"layer")
    for target in ("v1", put.digest):
        got = registry.get_manifest("round/trip", target)
        assert got == put
        assert got.manifest().annotations == {"who": "test"}


def test_blobs_stream_from_and_to_files(registry: Registry, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "in").write_bytes(content)
    digest = registry.put_blob("blobs", tmp_path / "in")
    assert digest == digest_of(content)
    descriptor = Descriptor("application/octet-stream", digest, len(content))
    with (tmp_path / "out").open("wb") as file:
        registry.get_blob("blobs", descriptor, file)
    assert (tmp_path / "out").read_bytes() == content
    with (tmp_path / "out").open("wb") as file, pytest.raises(TooLarge):
        registry.get_blob("blobs", descriptor, file, max_bytes=1000)


def test_a_blob_that_is_longer_than_it_says_is_refused(registry: Registry) -> None:
    digest = registry.put_blob("short", b"four")
    with pytest.raises(InvalidContent, match="longer than its 3 bytes"):
        registry.get_blob("short", Descriptor("x", digest, 3), io.BytesIO())


def test_a_blob_is_mounted_within_a_registry_and_copied_between_two(
    registry: Registry, endpoint: str
) -> None:
    digest = registry.put_blob("mount/from", b"shared")
    assert registry.mount_blob("mount/to", digest, "mount/from")
    assert registry.has_blob("mount/to", digest)
    assert not registry.mount_blob("mount/to", digest_of(b"absent"), "mount/from")
    # The same server under another name is another registry to the client: no mount, a copy.
    with Registry(endpoint.replace("127.0.0.1", "localhost")) as other:
        other.copy_blob("copy/to", Descriptor("x", digest, 6), registry, "mount/from")
    assert registry.has_blob("copy/to", digest)


def test_tags_are_all_listed_and_a_strange_repository_has_none(registry: Registry) -> None:
    for tag in ("v2", "v10", "v1"):
        push_image(registry, "tagged", tag, b"layer")
    assert registry.tags("tagged") == ["v1", "v10", "v2"]
    assert registry.tags("never/seen") == []


def test_a_pushed_source_has_one_digest_and_unpacks_to_itself(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model" / "variables" / "variables.index").write_bytes(b"index")
    first = push_source(registry, tmp_path / "model", Reference.parse("oci:///sources/m:1"))
    (tmp_path / "model" / "saved_model.pb").chmod(0o600)
    second = push_source(registry, tmp_path / "model", Reference.parse("oci:///sources/m:2"))
    assert first == second
    manifest = registry.get_manifest("sources/m", "1").manifest()
    assert manifest.artifact_type == "application/vnd.accel.source.v1"
    with tarfile.open(fileobj=io.BytesIO(registry.read_blob("sources/m", manifest.layers[0]))) as tar:
        assert tar.getnames() == ["saved_model.pb", "variables", "variables/variables.index"]
        assert {(m.uid, m.gid, m.mtime, m.uname) for m in tar} == {(0, 0, 0, "")}


def test_a_link_is_not_pushed(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to("/etc/hostname")
    with pytest.raises(InvalidContent, match="'key' is a link"):
        push_source(registry, tmp_path, Reference.parse("oci:///sources/link:1"))


def test_what_is_missing_is_told_from_who_is_away(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.get_manifest("round/trip", "v99")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        with (
            Registry(f"http://127.0.0.1:{taken.getsockname()[1]}") as away,
            pytest.raises(Unavailable, match="cannot be reached"),
        ):
            away.tags("any")


ANSWERS = {
    # name: (status, error)
    "no credentials": (401, Denied),
    "not allowed": (403, Denied),
    "bad request": (400, Rejected),
    "overloaded": (429, Unavailable),
    "broken": (503, Unavailable),
}


@pytest.mark.parametrize(("status", "error"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_becomes_an_error_of_the_tree(status: int, error: type[Exception]) -> None:
    body = {"errors": [{"code": "CODE", "message": "what the registry said"}]}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with (
        Registry("http://registry:5000", transport=transport) as client,
        pytest.raises(error, match="what the registry said") as raised,
    ):
        client.get_manifest("repo", "v1")
    assert type(raised.value) is error


def test_a_token_is_fetched_when_the_registry_asks_and_the_upload_is_sent_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        if request.url.path == "/token":
            assert request.url.params["scope"] == "repository:repo:pull,push"
            return httpx.Response(200, json={"token": "secret"})
        if request.headers.get("Authorization") != "Bearer secret":
            challenge = (
                'Bearer realm="https://auth.example/token",service="s",scope="repository:repo:pull,push"'
            )
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        if request.method == "PUT":
            assert request.read() == b"payload"
            return httpx.Response(201)
        return httpx.Response(
            404 if request.method == "HEAD" else 202, headers={"Location": "/upload?state=1"}
        )

    (tmp_path / "blob").write_bytes(b"payload")
    with Registry("https://registry.example", transport=httpx.MockTransport(answer)) as client:
        client.put_blob("repo", tmp_path / "blob")
    assert seen.count("GET /token") == 1
    assert seen[-1] == "PUT /upload"


def test_a_manifest_with_another_digest_is_refused() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"{}"))
    with Registry("http://registry:5000", transport=transport) as client, pytest.raises(InvalidContent):
        client.get_manifest("repo", digest_of(b"other"))


def test_layers_are_equal_whatever_the_order_times_and_owners(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"file")
    one = write_layer(tmp_path / "1.tar", [Entry("opt/b", b"b"), Entry("opt/a", tmp_path / "f")])
    two = write_layer(tmp_path / "2.tar", [Entry("opt/a", b"file"), Entry("opt/b", b"b")])
    assert one.descriptor == two.descriptor
    assert digest_of((tmp_path / "1.tar").read_bytes()) == one.descriptor.digest


BAD_PATHS = {"absolute": "/etc/passwd", "upwards": "a/../../b", "empty": "."}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
def test_a_layer_refuses_a_path_that_leaves_it(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidContent):
        write_layer(tmp_path / "t.tar", [Entry(path, b"")])
