"""Content digests: `sha256:<64 hex>`, the only algorithm that is written or read here."""

import hashlib
import re
from pathlib import Path
from typing import Final

EMPTY_JSON: Final = b"{}"
"""The two bytes that an OCI empty config holds."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_of(content: bytes) -> str:
    """Return the digest of bytes in memory."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_of_file(path: Path) -> str:
    """Return the digest of a file, read in pieces."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def is_digest(text: str) -> bool:
    """Tell whether the text has the form of a digest that this package handles."""
    return _DIGEST.match(text) is not None
