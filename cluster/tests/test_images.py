"""What images are made of: pinned as the development environment is, keyed by content, no registry's name."""

import json
import re
from pathlib import Path, PurePosixPath

import pytest
from accel_cluster.images import builders, locks, plan, store
from accel_cluster.images.catalog import IMAGES, LOCKS, Image, Lock, find

ROOT = store.repository_root()
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ]+) \\$", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return dict(PIN.findall(path.read_text()))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.requirements))
def test_images_carry_the_versions_that_are_tested(lock: Lock) -> None:
    tested = pins(ROOT / "requirements" / "dev.txt")
    shipped = pins(ROOT / lock.requirements)
    assert shipped
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.requirements))
def test_locks_are_whole_and_name_no_registry(lock: Lock) -> None:
    text = (ROOT / lock.requirements).read_text()
    wanted = {locks._canonical(requirement) for requirement in locks.inputs(lock, ROOT)}
    assert wanted <= set(pins(ROOT / lock.requirements)), "run `make lock`"
    assert "://" not in text
    assert not wanted & locks.OWN


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_dockerfiles(image: Image) -> None:
    text = (ROOT / image.dockerfile).read_text()
    assert "ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm" in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "65532:65532"
    if image.rooms:
        assert "--no-index" in text
        assert "--require-hashes" in text


def test_unknown_image_lists_those_that_exist() -> None:
    with pytest.raises(KeyError, match="registry, operator"):
        find("oprator")


def made(
    tmp_path: Path, dockerfile: str = "FROM x", requirements: str = "a==1", wheel: bytes = b"w"
) -> plan.Plan:
    files = {"Dockerfile": dockerfile.encode(), "requirements.txt": requirements.encode(), "a.whl": wheel}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    image = Image("x", PurePosixPath("Dockerfile"))
    return plan.Plan(image, tmp_path / "Dockerfile", tmp_path / "requirements.txt", (tmp_path / "a.whl",))


CHANGES = {
    "the Dockerfile": {"dockerfile": "FROM y"},
    "a requirement": {"requirements": "a==2"},
    "our own wheel": {"wheel": b"v"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_ingredient_changes_the_key(tmp_path: Path, change: dict[str, str]) -> None:
    before = made(tmp_path).key
    assert made(tmp_path).key == before
    assert made(tmp_path, **change).key != before  # type: ignore[arg-type]


def test_tree_digest_sees_names_and_contents_only(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    before = store.tree_digest([tmp_path / "src"], tmp_path)
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("2")
    assert store.tree_digest([tmp_path / "src"], tmp_path) == before
    (tmp_path / "src" / "a.py").rename(tmp_path / "src" / "b.py")
    assert store.tree_digest([tmp_path / "src"], tmp_path) != before


def test_unfinished_folders_vanish(tmp_path: Path) -> None:
    def half() -> None:
        with store.new_folder(tmp_path / "final") as folder:
            (folder / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_blobs_of_a_layout(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {
        "config": {"digest": "sha256:c"},
        "layers": [{"digest": "sha256:l1"}, {"digest": "sha256:l2"}],
    }
    (blobs / "m").write_text(json.dumps(manifest))
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:m"}]}))
    assert builders._blobs(tmp_path) == {"m", "c", "l1", "l2"}


def test_a_failing_tool_is_quoted() -> None:
    with pytest.raises(store.ImageError, match="ended with 3:\nno luck"):
        store.run(["sh", "-c", "echo no luck; exit 3"])
