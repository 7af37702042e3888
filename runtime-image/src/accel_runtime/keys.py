"""Who may call: two API keys in mounted files, so that one can be rotated while the other serves.

Keys are kept as SHA-256 only and compared in constant time. The files are looked at on every call (two stat
calls, microseconds), because the kubelet swaps a Secret's files without telling anybody.
"""

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["SLOTS", "KeyRing", "presented_keys"]

SLOTS = ("primary", "secondary")
_log = logging.getLogger(__name__)


class KeyRing:
    """The keys in the files `primary` and `secondary` of a folder. A missing or empty file is a slot
    without a key.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = {slot: folder / slot for slot in SLOTS}
        self._stamps: tuple[object, ...] = ()
        self._digests: dict[str, bytes] = {}
        self._refresh()

    def admits(self, presented: Iterable[str]) -> str | None:
        """Return the slot whose key is among `presented`, or None."""
        self._refresh()
        found = None
        for key in presented:
            digest = hashlib.sha256(key.encode()).digest()
            for slot, known in self._digests.items():
                if hmac.compare_digest(digest, known):  # no early return: time tells nothing about the slot
                    found = slot
        return found

    @property
    def empty(self) -> bool:
        """Whether no slot holds a key, so that nobody is admitted."""
        return not self._digests

    def _refresh(self) -> None:
        stamps = tuple(_stamp(path) for path in self._paths.values())
        if stamps == self._stamps:
            return
        digests = {}
        for slot, path in self._paths.items():
            try:
                key = path.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                _log.error("key file cannot be read", extra={"slot": slot, "error": type(error).__name__})
                continue
            if key:
                digests[slot] = hashlib.sha256(key.encode()).digest()
        self._digests = digests
        self._stamps = stamps
        _log.info("keys read", extra={"slots": sorted(digests)})


def presented_keys(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Return the keys a call's metadata presents as `authorization`: raw, or behind `Bearer` in any case."""
    keys = []
    for name, value in metadata:
        if name.lower() != "authorization" or not isinstance(value, str):
            continue
        scheme, _, rest = value.strip().partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else value.strip()
        if key:
            keys.append(key)
    return keys


def _stamp(path: Path) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116  # on every call, and Path.stat is twice as slow
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
