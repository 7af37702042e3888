"""Unpacking hostile archives: each is refused with a reason, and nothing is written outside of the target."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from accel_toolchain.archives import Bounds, is_archive, unpack
from accel_toolchain.conditions import Terminal

LIMIT = 1 << 20


def tar(*members: tuple[str, bytes | str | None], compress: bool = False, kind: bytes | None = None) -> bytes:
    """A tar of files (bytes), links to a target (str) and folders (None)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz" if compress else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                info.type = kind or tarfile.REGTYPE
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.DIRTYPE if content is None else kind or tarfile.SYMTYPE
                info.linkname = content or ""
                archive.addfile(info)
    return stream.getvalue()


def zipped(*members: tuple[str, bytes], link: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if link else 0o100644) << 16
            archive.writestr(info, content)
    return stream.getvalue()


def huge_header() -> bytes:
    """A tar.gz whose extended header claims, and has, 64 MiB: small on the wire, large in memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 64 << 20
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(64 << 20), 1)


def many() -> bytes:
    """A tar.gz with one folder 20001 times."""
    info = tarfile.TarInfo("d")
    info.type = tarfile.DIRTYPE
    return gzip.compress(info.tobuf() * 20_001, 1)


GOOD: dict[str, Callable[[], bytes]] = {
    "tar": lambda: tar(("m", None), ("m/saved_model.pb", b"x")),
    "tar.gz": lambda: tar(("m/saved_model.pb", b"x"), compress=True),
    "zip": lambda: zipped(("m/saved_model.pb", b"x")),
}

BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    # name: (archive, reason, what the message says)
    "upwards": (lambda: tar(("../evil", b"x")), "ArchivePathEscapes", "outside"),
    "upwards in the middle": (lambda: tar(("a/../../evil", b"x")), "ArchivePathEscapes", "outside"),
    "absolute": (lambda: tar(("/tmp/evil", b"x")), "ArchivePathAbsolute", "absolute path"),
    "zip upwards": (lambda: zipped(("../evil", b"x")), "ArchivePathEscapes", "outside"),
    "zip upwards with backslashes": (lambda: zipped(("..\\evil", b"x")), "ArchivePathEscapes", "outside"),
    "zip with a drive": (lambda: zipped(("C:/evil", b"x")), "ArchivePathAbsolute", "absolute path"),
    "link out": (lambda: tar(("key", "/etc/hostname")), "ArchiveHasLinks", "link"),
    "link, then a file through it": (lambda: tar(("d", "/tmp"), ("d/evil", b"x")), "ArchiveHasLinks", "link"),
    "hard link": (lambda: tar(("key", "other"), kind=tarfile.LNKTYPE), "ArchiveHasLinks", "link"),
    "device": (lambda: tar(("null", "x"), kind=tarfile.CHRTYPE), "ArchiveHasSpecialFiles", "special file"),
    "zip link": (lambda: zipped(("key", b"/etc/hostname"), link=True), "ArchiveHasLinks", "link"),
    "same name twice": (lambda: tar(("a", b"1"), ("a", b"2")), "BadArchive", "twice"),
    "file as a folder": (lambda: tar(("a", b"1"), ("a/b", b"2")), "BadArchive", "twice"),
    "truncated tar": (lambda: tar(("a", bytes(5000)))[:3000], "ArchiveDamaged", "truncated"),
    "truncated tar.gz": (
        lambda: tar(("a", bytes(range(256)) * 99), compress=True)[:-40],
        "ArchiveDamaged",
        "truncated",
    ),
    "truncated zip": (lambda: zipped(("a", b"x" * 999))[:-30], "ArchiveDamaged", "truncated"),
    "damaged zip": (lambda: zipped(("a", b"x" * 999)).replace(b"a", b"b", 1), "ArchiveDamaged", "damaged"),
    "too large": (lambda: tar(("a", bytes(LIMIT + 1))), "SourceTooLarge", "limit of 1048576 bytes"),
    "zip bomb": (lambda: zipped(("a", bytes(64 << 20))), "SourceTooLarge", "limit of 1048576 bytes"),
    "gzip bomb": (
        lambda: tar(("a", bytes(64 << 20)), compress=True),
        "SourceTooLarge",
        "limit of 1048576 bytes",
    ),
    "gzip bomb by its ratio": (
        lambda: tar(("a", bytes(160 << 20)), compress=True),
        "ArchiveBomb",
        "maxSourceRatio",
    ),
    "zip bomb by its ratio": (lambda: zipped(("a", bytes(160 << 20))), "ArchiveBomb", "200 times"),
    "header bomb": (huge_header, "BadArchive", "absurd"),
    "many members": (many, "ArchiveTooManyFiles", "more than 20000"),
    "deep": (lambda: tar(("a/" * 40 + "b", b"")), "BadArchive", "deep"),
    "long name": (lambda: tar(("n" * 300, b"")), "BadArchive", "name"),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_unpacked(make: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(make())
    assert is_archive(tmp_path / "archive")
    unpack(tmp_path / "archive", tmp_path / "out", Bounds(LIMIT))
    assert (tmp_path / "out" / "m" / "saved_model.pb").read_bytes() == b"x"


@pytest.mark.parametrize(("make", "reason", "message"), BAD.values(), ids=BAD)
def test_refused(make: Callable[[], bytes], reason: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(make())
    target = tmp_path / "in" / "out"
    target.mkdir(parents=True)
    bounds = Bounds(1 << 30 if reason == "ArchiveBomb" else LIMIT)
    with pytest.raises(Terminal, match=message) as raised:
        unpack(tmp_path / "archive", target, bounds)
    assert raised.value.reason == reason
    assert raised.value.message.startswith("spec.source.uri: ")
    assert not (tmp_path / "in" / "evil").exists()
    assert not Path("/tmp/evil").exists()


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\x08\x07onnx")
    assert not is_archive(tmp_path / "f")


def flipped(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


PACKED = tar(("m/weights", bytes(range(256)) * 8), compress=True)
PLAIN = tar(("a", b"1" * 512), ("b", b"2" * 512))
DAMAGED = {
    "a bit of the contents": flipped(gzip.compress(PLAIN, 0), 10 + 5 + 600),
    "a bit of the checksum": flipped(PACKED, len(PACKED) - 8),
    "no checksum": PACKED[:-8],
    "half a checksum": PACKED[:-4],
    "cut between two files": PLAIN[:1024],
    "cut before its end": PLAIN[:2048],
    "rubbish where a header should be": PLAIN[:1024] + b"x" * 512 + PLAIN[1536:],
    "a file below a file": tar(("a", b"1"), ("a/b", b"2")),
    "a folder where a file is": tar(("a", b"1"), ("a", None)),
    "a folder with an endless name": tar(("n" * 300, None)),
}


@pytest.mark.parametrize("packed", DAMAGED.values(), ids=DAMAGED)
def test_what_was_damaged_on_its_way_is_refused(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(Terminal) as told:
        unpack(tmp_path / "archive", tmp_path / "out", Bounds(LIMIT))
    assert told.value.reason in ("ArchiveDamaged", "BadArchive")
    assert str(told.value).startswith("spec.source.uri: the archive was not unpacked")
