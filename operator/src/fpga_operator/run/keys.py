"""The keys of a service, derived from the master key: a deleted Secret comes back with the same ones.

HMAC-SHA256 over the service's uid, the slot and the slot's rotation counter; 192 bits, URL-safe.
"""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from fpga_operator.errors import ConfigError
from fpga_operator.plan.types import KeysSecret, Manifest, Owner, child

SLOTS = ("primary", "secondary")
KEY_BYTES = 24
MIN_MASTER_BYTES = 16


class KeyDeriver:
    """Holds the master key; shows it to nobody."""

    def __init__(self, master: bytes) -> None:
        if len(master) < MIN_MASTER_BYTES:
            raise ConfigError(f"the master key has {len(master)} bytes; it needs at least {MIN_MASTER_BYTES}")
        self.__master = master

    @classmethod
    def from_file(cls, path: Path) -> "KeyDeriver":
        """Read the master key.

        Raises:
            ConfigError: when it is missing or too short.
        """
        try:
            return cls(path.read_bytes().strip())
        except OSError as error:
            raise ConfigError(f"masterKeyFile {path}: {error.strerror}") from error

    def __repr__(self) -> str:
        return "KeyDeriver(...)"

    def key(self, uid: str, slot: str, rotation: int) -> str:
        """Return one key, 32 characters."""
        message = f"accel.dev/key/v1\n{uid}\n{slot}\n{rotation}".encode()
        digest = hmac.new(self.__master, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:KEY_BYTES]).decode()

    def secret(self, owner: Owner, wanted: KeysSecret) -> Manifest:
        """Return the Secret's manifest. Handle with care: it is never logged."""
        data = {
            slot: base64.b64encode(self.key(owner.uid, slot, wanted.rotation).encode()).decode()
            for slot in SLOTS
        }
        return child("v1", "Secret", owner, wanted.name, wanted.labels, type="Opaque", data=data)


def new_master() -> bytes:
    """Return a fresh master key, for charts and tests."""
    return secrets.token_urlsafe(32).encode()
