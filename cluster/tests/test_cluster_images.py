"""Images of the cluster's own parts: digests, content, and what is told apart before it is pushed."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from accel_cluster import addons
from accel_cluster.errors import Refused
from accel_cluster.oci import Image, write_layout
from accel_cluster.transport import source_name


@pytest.fixture
def image(tmp_path: Path) -> Image:
    program = tmp_path / "program"
    program.write_bytes(b"#!program")
    return Image(
        "test",
        {"bin/program": program},
        ["/bin/program"],
        links={"bin/other": "program"},
        folders={"tmp": 0o1777},
    )


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    content: bytes = (layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
    assert len(content) == descriptor["size"]
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    return content


def test_a_layout_holds_what_was_asked(image: Image, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(image, layout)
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]))
    config = json.loads(blob(layout, manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]], "the layer is not compressed"
    assert config["config"]["Entrypoint"] == ["/bin/program"]
    with tarfile.open(fileobj=io.BytesIO(blob(layout, manifest["layers"][0]))) as layer:
        entries = {entry.name: entry for entry in layer}
        assert list(entries) == ["bin", "bin/other", "bin/program", "tmp"], (
            "sorted, with the folders in between"
        )
        assert entries["bin/other"].linkname == "program"
        assert entries["tmp"].mode == 0o1777
        assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 0)}


def test_the_same_files_give_the_same_digest(image: Image, tmp_path: Path) -> None:
    write_layout(image, tmp_path / "first")
    image.files["bin/program"].touch()
    write_layout(image, tmp_path / "second")
    assert (tmp_path / "first/index.json").read_bytes() == (tmp_path / "second/index.json").read_bytes()


def archive(path: Path, name: str) -> Path:
    with tarfile.open(path, "w") as made:
        made.addfile(tarfile.TarInfo(name))
    return path


def test_a_layout_folder_is_recognised(image: Image, tmp_path: Path) -> None:
    write_layout(image, tmp_path / "layout")
    assert source_name(tmp_path / "layout") == f"oci:{tmp_path}/layout"


@pytest.mark.parametrize(
    ("entry", "kind"),
    [("oci-layout", "oci-archive"), ("./oci-layout", "oci-archive"), ("manifest.json", "docker-archive")],
)
def test_an_archive_is_recognised(entry: str, kind: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "image.tar", entry)
    assert source_name(path) == f"{kind}:{path}"


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "folder").mkdir()
    cases = {
        "missing": "no such file",
        "text": "is no image archive",
        "folder": "has no file oci-layout",
        archive(tmp_path / "other.tar", "README").name: "neither oci-layout nor manifest.json",
    }
    for name, message in cases.items():
        with pytest.raises(Refused, match=message):
            source_name(tmp_path / name)


def test_manifests_are_whole() -> None:
    objects = [found for found in yaml.safe_load_all(addons.manifests()) if found]
    assert {"Deployment", "StorageClass", "ConfigMap", "Service"} <= {found["kind"] for found in objects}
    scripts = next(found for found in objects if found["metadata"]["name"] == "local-path-config")["data"]
    assert '"$VOL_DIR"' in scripts["setup"], "a shell variable survives the templates"
    images = [
        container["image"]
        for found in objects
        if found["kind"] == "Deployment"
        for container in found["spec"]["template"]["spec"]["containers"]
    ]
    assert all(image.startswith("10.89.0.1:5000/cluster/") for image in images), "nothing comes from outside"
