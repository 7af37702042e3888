"""The configured registry as a Job sees it: opened with its Secret, and every way in which it says no.

All of its faults end outside of the object. The operator looks again by itself at each: soon where nobody has to act
(`Transient`), slowly where somebody has to (`Terminal`, by its reason).
"""

import tempfile
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from accel.oci import (
    Credentials,
    Denied,
    Full,
    InvalidContent,
    OciError,
    ReadOnly,
    Registry,
    TooLarge,
    Unavailable,
)

from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.credentials import Secret, read_secret

_SETTING = "registry.secretName"


class RegistryJob(Protocol):
    """What both Jobs know of the registry."""

    @property
    def namespace(self) -> str:
        """Namespace of the object, and of the Secret."""

    @property
    def registry(self) -> str:
        """Endpoint of the configured registry."""

    @property
    def registry_secret(self) -> str | None:
        """Name of the Secret with its credentials; None for a registry without."""


def open_registry(job: RegistryJob) -> Registry:
    """Return a connection to the configured registry; raises what `registry_secret` does."""
    return Registry(job.registry, credentials=registry_credentials(job, urlsplit(job.registry).netloc))


def registry_credentials(job: RegistryJob, host: str) -> Credentials | None:
    """Return the account that the operator's registry Secret holds for a host; None without a Secret."""
    secret = registry_secret(job)
    return secret.for_registry(host) if secret is not None else None


def registry_secret(job: RegistryJob) -> Secret | None:
    """Return the Secret, its authority trusted; None where none is configured.

    Raises:
        Transient: RegistrySecretMissing.
        Terminal: RegistrySecretInvalid.
    """
    if not job.registry_secret:
        return None
    field = f"the operator's setting {_SETTING}"
    secret = read_secret("ACCEL_REGISTRY_SECRET", job.registry_secret, job.namespace, field, "Registry")
    secret.trust(Path(tempfile.gettempdir()))
    return secret


def registry_failure(error: OciError) -> Failure:
    """Return the condition for a registry that does not take what we have."""
    if isinstance(error, Full):
        return Terminal(
            "RegistryFull",
            f"{error} The registry has no space left: enlarge its volume (registry.persistence.size of the chart), or "
            "delete models and images that nobody needs and let it collect garbage.",
        )
    if isinstance(error, ReadOnly):
        return Terminal(
            "RegistryReadOnly",
            f"{error} The registry takes no writes: end its maintenance mode, or configure the registry that it "
            "mirrors.",
        )
    if isinstance(error, Unavailable):
        return Transient("RegistryUnavailable", f"{error} It is tried again.")
    if isinstance(error, Denied):
        return Terminal(
            "RegistryDenied",
            f"{error} Let the account of the Secret that {_SETTING} of the chart names read and write this repository "
            "(docs/install.md).",
        )
    if isinstance(error, InvalidContent):
        return Terminal("ConversionFailed", str(error))
    reason = "ModelTooLarge" if isinstance(error, TooLarge) else "RegistryRefused"
    return Terminal(reason, f"{error} The registry does not take this; see its own log for why.")
