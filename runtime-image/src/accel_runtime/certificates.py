"""TLS from mounted files, reloaded while calls go on.

gRPC asks for the certificate at every new connection; open connections keep the one they were made with.
Where the new files cannot be used, the last good certificate stays.
"""

import logging
from pathlib import Path
from typing import Any

import grpc

from accel_runtime.errors import SettingsError

__all__ = ["CertificateFiles"]

_log = logging.getLogger(__name__)


class CertificateFiles:
    """`tls.crt` (the whole chain, PEM) and `tls.key` of a kubernetes.io/tls Secret's mount."""

    def __init__(self, folder: Path) -> None:
        self._certificate = folder / "tls.crt"
        self._key = folder / "tls.key"
        self._stamps: tuple[object, ...] = ()

    def credentials(self) -> Any:
        """Return credentials that follow the files; raises SettingsError if they cannot be used now."""
        try:
            self._stamps = self._look()
            configuration = self._read()
        except OSError as error:
            raise SettingsError(f"ACCEL_TLS_DIR: {error}; the Secret needs tls.crt and tls.key") from error
        return grpc.dynamic_ssl_server_credentials(
            configuration, self._fetch, require_client_authentication=False
        )

    def _fetch(self) -> Any:
        """Return the new configuration, or None where nothing changed (called on every handshake)."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return None
            configuration = self._read()
        except OSError as error:
            _log.error("certificate cannot be read, the old one stays", extra={"error": str(error)})
            return None
        self._stamps = stamps
        _log.info("certificate read again")
        return configuration

    def _look(self) -> tuple[object, ...]:
        found = [path.stat() for path in (self._certificate, self._key)]
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in found)

    def _read(self) -> Any:
        certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        if b"BEGIN CERTIFICATE" not in certificate or b"PRIVATE KEY" not in key:
            raise OSError(f"{self._certificate.parent}: tls.crt or tls.key is not PEM")
        return grpc.ssl_server_certificate_configuration([(key, certificate)])
