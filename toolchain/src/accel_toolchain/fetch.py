"""The first container: bring the source into the volume, checked and unpacked, and note its digest."""

import re
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from accel.oci import Denied, Descriptor, NotFound, OciError, Reference, Registry, TooLarge, Unavailable
from accel.oci.errors import BadReference

from accel_toolchain.archives import is_archive, unpack
from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.download import Deadline, download, too_large
from accel_toolchain.jobs import ConvertJob
from accel_toolchain.versions import find_version, model_key
from accel_toolchain.workspace import Workspace, write_note

_TITLE = "org.opencontainers.image.title"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def fetch(job: ConvertJob, work: Workspace) -> None:
    """Leave the source unpacked in the workspace, or a note that this version exists already.

    Raises:
        Terminal: SourceNotFound, SourceDenied, DigestMismatch, SourceTooLarge, BadArchive, UnsupportedScheme.
        Transient: SourceUnavailable, RegistryUnavailable.
    """
    _clear(work)
    if job.sha256 is not None and not _SHA256.match(job.sha256):
        raise Terminal("DigestMismatch", "spec.source.sha256 is not 64 hexadecimal digits in lower case.")
    scheme = urlsplit(job.uri).scheme
    deadline = Deadline(job.fetch_seconds)
    if scheme == "oci":
        sha256, there = _fetch_oci(job, work, deadline)
    elif scheme in ("https", "http"):
        sha256, there = _fetch_http(job, work, deadline)
    else:
        raise Terminal(
            "UnsupportedScheme",
            f"spec.source.uri: '{scheme or job.uri}' is not supported. Use oci:// (see kubectl accel push) "
            "or https://.",
        )
    write_note(work.source_note, {"sha256": sha256, "known": there})


def known(job: ConvertJob, sha256: str) -> bool:
    """Tell whether the registry holds what this source and these options gave before.

    Then nothing is unpacked or converted again. The answer may be wrong only towards False: a registry in
    trouble is `push`'s matter, after the work.
    """
    try:
        with Registry(job.registry) as registry:
            return find_version(registry, job.repository, model_key(sha256, job.conversion)) is not None
    except OciError:
        return False


def _clear(work: Workspace) -> None:
    """Remove what an earlier attempt of this pod's containers left."""
    for folder in (work.source, work.artifact):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (work.download, work.source_note, work.outcome, work.report, work.log):
        file.unlink(missing_ok=True)
    work.source.mkdir(parents=True)


def _fetch_http(job: ConvertJob, work: Workspace, deadline: Deadline) -> tuple[str, bool]:
    sha256 = download(job.uri, work.download, job.max_source_bytes, deadline)
    _check(job, sha256)
    there = known(job, sha256)
    if not there:
        name = PurePosixPath(urlsplit(job.uri).path).name
        _place(work.download, name, work, job.max_source_bytes)
    work.download.unlink(missing_ok=True)
    return sha256, there


def _fetch_oci(job: ConvertJob, work: Workspace, deadline: Deadline) -> tuple[str, bool]:
    try:
        reference = Reference.parse(job.uri)
        _check_tenant(job, reference)
        with Registry.of(reference, job.registry, insecure=True) as registry:
            document = registry.get_manifest(reference.repository, reference.target)
            sha256 = document.digest.removeprefix("sha256:")
            _check(job, sha256)
            if known(job, sha256):
                return sha256, True
            manifest = document.manifest()
            if manifest.size > job.max_source_bytes:
                raise too_large(manifest.size, job.max_source_bytes)
            for layer in manifest.layers:
                with work.download.open("wb") as file:
                    registry.get_blob(reference.repository, layer, file, progress=deadline.check)
                _place(work.download, _layer_name(layer), work, job.max_source_bytes)
                work.download.unlink(missing_ok=True)
            return sha256, False
    except OciError as error:
        raise _source_failure(job.uri, error) from error


def _check_tenant(job: ConvertJob, reference: Reference) -> None:
    """Refuse what belongs to another namespace: models and images are not sources for everybody.

    Raises:
        Terminal: SourceDenied.
    """
    parts = reference.repository.split("/")
    if reference.registry is None and parts[0] in ("models", "images") and parts[1:2] != [job.namespace]:
        raise Terminal(
            "SourceDenied",
            f"spec.source.uri {job.uri}: names below {parts[0]}/ belong to the namespace that follows. "
            "Push the source under another name.",
        )


def _layer_name(layer: Descriptor) -> str:
    """The file name of a layer that is a file rather than an archive, as ORAS annotates it."""
    return layer.annotations.get(_TITLE, "layer")


def _place(download_path: Path, name: str, work: Workspace, max_bytes: int) -> None:
    """Unpack an archive into the source folder, or move a single model file there."""
    if is_archive(download_path):
        unpack(download_path, work.source, max_bytes)
        return
    if not name.endswith(".onnx"):
        raise Terminal(
            "BadArchive",
            f"spec.source.uri: '{name}' is neither a tar, tar.gz or zip archive nor an .onnx file.",
        )
    download_path.rename(work.source / (name if _FILE_NAME.match(name) else "model.onnx"))


def _check(job: ConvertJob, sha256: str) -> None:
    if job.sha256 is not None and job.sha256 != sha256:
        raise Terminal(
            "DigestMismatch",
            f"spec.source.sha256 is {job.sha256}, but the source has {sha256}. "
            "If the change of the source is intended, write the new digest.",
        )


def _source_failure(uri: str, error: OciError) -> Failure:
    where = f"spec.source.uri {uri}: {error}"
    if isinstance(error, Unavailable):
        return Transient("SourceUnavailable", where)
    if isinstance(error, NotFound):
        return Terminal(
            "SourceNotFound",
            f"{where} Correct the reference; or push it (kubectl accel push) and have it looked for again: kubectl "
            'annotate fmodel NAME accel.dev/requestedAt="$(date)" --overwrite.',
        )
    if isinstance(error, Denied):
        return Terminal("SourceDenied", f"{where} Make the source readable without credentials.")
    if isinstance(error, TooLarge):
        return Terminal("SourceTooLarge", where)
    if isinstance(error, BadReference):
        return Terminal("UnsupportedScheme", where)
    return Terminal("BadArchive", where)
