"""The first container: bring the source into the volume, checked and unpacked, and note its digest."""

import os
import re
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from accel.oci import (
    Denied,
    Descriptor,
    NotFound,
    OciError,
    Reference,
    Registry,
    Rejected,
    TooLarge,
    Unavailable,
)
from accel.oci.errors import BadReference

from accel_toolchain.archives import Bounds, is_archive, unpack
from accel_toolchain.claims import ClaimSource
from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.credentials import Secret, read_secret
from accel_toolchain.download import Deadline, denied, download, shown, too_large
from accel_toolchain.jobs import ConvertJob
from accel_toolchain.progress import progress
from accel_toolchain.registries import (
    open_registry,
    registry_credentials,
    registry_failure,
    registry_secret,
)
from accel_toolchain.versions import find_version, model_key
from accel_toolchain.workspace import Workspace, write_note

_TITLE = "org.opencontainers.image.title"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def fetch(job: ConvertJob, work: Workspace) -> None:
    """Leave the source unpacked in the workspace, or a note that this version exists already.

    Raises:
        Terminal: SourceNotFound, SourceDenied, DigestMismatch, SourceTooLarge, UnsupportedScheme; those of archives.
        Transient: SourceUnavailable, SourceSecretMissing, RegistrySecretMissing, RegistryUnavailable.
    """
    _clear(work)
    if job.sha256 is not None and not _SHA256.match(job.sha256):
        raise Terminal("DigestMismatch", "spec.source.sha256 is not 64 hexadecimal digits in lower case.")
    scheme = urlsplit(job.uri).scheme
    deadline = Deadline(job.fetch_seconds)
    registry_secret(job)  # missing credentials are said before the work, not after it
    secret = _source_secret(job, work)
    progress.say(f"fetching {shown(job.uri)}")
    if scheme == "oci":
        sha256, there = _fetch_oci(job, work, deadline, secret)
    elif scheme in ("https", "http"):
        sha256, there = _fetch_http(job, work, deadline, secret)
    elif scheme == "pvc":
        sha256, there = _fetch_claim(job, work, deadline)
    else:
        raise Terminal(
            "UnsupportedScheme",
            f"spec.source.uri: '{scheme or job.uri}' is not supported. Use oci:// (see kubectl accel push), "
            "https:// or pvc://.",
        )
    write_note(work.source_note, {"sha256": sha256, "known": there})


def known(job: ConvertJob, sha256: str) -> bool:
    """Tell whether the registry holds what this source and these options gave before.

    Then nothing is unpacked or converted again. The answer may be wrong only towards False: a registry in
    trouble is `push`'s matter, after the work.
    """
    try:
        with open_registry(job) as registry:
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


def _source_secret(job: ConvertJob, work: Workspace) -> Secret | None:
    if job.source_secret is None:
        return None
    field = "spec.source.secretRef.name"
    secret = read_secret("ACCEL_SOURCE_SECRET", job.source_secret, job.namespace, field, "Source")
    secret.trust(work.root)
    return secret


def _fetch_http(
    job: ConvertJob, work: Workspace, deadline: Deadline, secret: Secret | None
) -> tuple[str, bool]:
    sha256 = download(job.uri, work.download, job.max_source_bytes, deadline, secret)
    _check(job, sha256)
    there = known(job, sha256)
    if not there:
        name = PurePosixPath(urlsplit(job.uri).path).name
        _place(work.download, name, work, job)
    work.download.unlink(missing_ok=True)
    return sha256, there


def _fetch_claim(job: ConvertJob, work: Workspace, deadline: Deadline) -> tuple[str, bool]:
    root = Path(os.environ.get("ACCEL_SOURCE_CLAIM") or "/nonexistent")
    source = ClaimSource(job.uri, root, _bounds(job), deadline)
    taken = source.take(work.download, work.source)
    _check(job, taken.sha256)
    there = known(job, taken.sha256)
    if not there and not taken.is_folder:
        _place(work.download, source.name, work, job)
    work.download.unlink(missing_ok=True)
    return taken.sha256, there


def _fetch_oci(
    job: ConvertJob, work: Workspace, deadline: Deadline, secret: Secret | None
) -> tuple[str, bool]:
    try:
        reference = Reference.parse(job.uri)
        _check_tenant(job, reference)
        host = reference.registry or urlsplit(job.registry).netloc
        if secret is None:
            credentials = registry_credentials(job, host)
        elif (credentials := secret.for_registry(host)) is None and not secret.only_authority:
            raise secret.invalid(f"has no account for {host}. {secret.replacement(host)}")
        with Registry.of(reference, job.registry, insecure=True, credentials=credentials) as registry:
            document = registry.get_manifest(reference.repository, reference.target)
            _check_alias(job, reference, document.digest)
            sha256 = document.digest.removeprefix("sha256:")
            _check(job, sha256)
            if known(job, sha256):
                return sha256, True
            manifest = document.manifest()
            if manifest.size > job.max_source_bytes:
                raise too_large(manifest.size, job.max_source_bytes)
            for layer in manifest.layers:
                with work.download.open("wb") as file:
                    registry.get_blob(
                        reference.repository,
                        layer,
                        file,
                        progress=partial(_moved, file, layer.size, deadline),
                    )
                _place(work.download, _layer_name(layer), work, job)
                work.download.unlink(missing_ok=True)
            return sha256, False
    except OciError as error:
        raise _source_failure(job, error, secret) from error


def _moved(file: IO[bytes], size: int, deadline: Deadline) -> None:
    deadline.check()
    progress.moved("fetched", file.tell(), size)


def _check_tenant(job: ConvertJob, reference: Reference) -> None:
    """Refuse what belongs to another namespace: models and images are not sources for everybody.

    Raises:
        Terminal: SourceDenied.
    """
    configured = reference.registry in (None, urlsplit(job.registry).netloc)
    if configured and _of_others(job, reference):
        raise _denied(job, reference)


def _check_alias(job: ConvertJob, reference: Reference, digest: str) -> None:
    """Refuse it by whatever name the registry was reached: an address, a longer name, a pod of it.

    Raises:
        Terminal: SourceDenied.
    """
    if not _of_others(job, reference):
        return
    with open_registry(job) as registry:
        try:
            registry.get_manifest(reference.repository, digest)
        except Rejected:
            return  # another registry's, which has such a name too
    raise _denied(job, reference)


def _of_others(job: ConvertJob, reference: Reference) -> bool:
    parts = reference.repository.split("/")
    return parts[0] in ("models", "images") and parts[1:2] != [job.namespace]


def _denied(job: ConvertJob, reference: Reference) -> Terminal:
    return Terminal(
        "SourceDenied",
        f"spec.source.uri {job.uri}: names below {reference.repository.partition('/')[0]}/ belong to the namespace "
        "that follows. Push the source under another name.",
    )


def _layer_name(layer: Descriptor) -> str:
    """The file name of a layer that is a file rather than an archive, as ORAS annotates it."""
    return layer.annotations.get(_TITLE, "layer")


def _bounds(job: ConvertJob) -> Bounds:
    return Bounds(job.max_source_bytes, job.max_source_files, job.max_source_ratio)


def _place(download_path: Path, name: str, work: Workspace, job: ConvertJob) -> None:
    """Unpack an archive into the source folder, or move a single model file there."""
    if is_archive(download_path):
        progress.say("unpacking")
        unpack(download_path, work.source, _bounds(job))
        return
    ending = PurePosixPath(name).suffix
    if ending not in (".onnx", ".pb"):
        raise Terminal(
            "NotAModelFile",
            f"spec.source.uri: '{name}' is neither a tar, tar.gz or zip archive nor an .onnx or .pb file. Pack the "
            "model's folder: tar -czf model.tar.gz -C DIR .",
        )
    download_path.rename(work.source / (name if _FILE_NAME.match(name) else f"model{ending}"))


def _check(job: ConvertJob, sha256: str) -> None:
    if job.sha256 is not None and job.sha256 != sha256:
        raise Terminal(
            "DigestMismatch",
            f"spec.source.sha256 is {job.sha256}, but the source has {sha256}. "
            "If the change of the source is intended, write the new digest.",
        )


def _source_failure(job: ConvertJob, error: OciError, secret: Secret | None) -> Failure:
    where = f"spec.source.uri {job.uri}: {error}"
    if isinstance(error, Unavailable):
        return Transient("SourceUnavailable", where)
    if isinstance(error, NotFound):
        return Terminal(
            "SourceNotFound",
            f"{where} Correct the reference, or push it (kubectl accel push); kubectl annotate fmodel {job.name} "
            f'-n {job.namespace} accel.dev/requestedAt="$(date -Is)" --overwrite has it looked for at once.',
        )
    if isinstance(error, Denied):
        if secret is None and job.uri.startswith("oci:///"):
            return registry_failure(error)
        return denied(where.removesuffix("."), secret)
    if isinstance(error, TooLarge):
        return Terminal("SourceTooLarge", where)
    if isinstance(error, BadReference):
        return Terminal("UnsupportedScheme", where)
    return Terminal("SourceDamaged", f"{where} Push the source again.")
