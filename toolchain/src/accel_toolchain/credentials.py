"""Credentials as Kubernetes mounts them: a folder with one file per entry of a Secret.

Their values go into requests and nowhere else. A Secret that is missing is waited for; one that lacks an entry needs a
person, and is looked at again slowly by the operator.
"""

import base64
import json
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
from accel.oci import Credentials

from accel_toolchain.conditions import Terminal, Transient

DOCKER_CONFIG: Final = ".dockerconfigjson"
_PRINTED: Final = "--dry-run=client -o yaml"  # the Secret exists, so kubectl create alone would fail
_MAX_BYTES: Final = 1 << 20
_TRUSTED: Final = ("SSL_CERT_FILE",)  # read by httpx's default context


@dataclass(frozen=True)
class Secret:
    """A mounted Secret: its name for messages, its entries for requests."""

    name: str
    namespace: str
    reason: str  # of the condition when it does not do: SourceSecretInvalid, RegistrySecretInvalid
    entries: dict[str, str] = field(repr=False)

    def replacement(self, host: str = "HOST") -> str:
        """Return the sentence with the command that makes it anew for a registry."""
        # Its type may be another, and cannot be changed: apply would be refused, as create is.
        command = _docker_secret(self.name, self.namespace, host)
        return f"Replace it: {command} {_PRINTED} | kubectl replace --force -f -"

    def addition(self) -> str:
        """Return the sentence with the command that adds an account, and leaves type and other entries."""
        return f"Add them: {_account_secret(self.name, self.namespace)} {_PRINTED} | kubectl apply -f -"

    @property
    def only_authority(self) -> bool:
        """Whether it names an authority to trust and no account."""
        return self.entries.keys() == {"ca.crt"}

    def for_registry(self, host: str) -> Credentials | None:
        """Return the account for a registry's host[:port]; None if the Secret names only other registries.

        Raises:
            Terminal: the entries do not read.
        """
        if self.only_authority:
            return None
        if DOCKER_CONFIG in self.entries:
            return self._of_docker_config(host)
        if {"username", "password"} <= self.entries.keys():
            return Credentials(self.entries["username"], self.entries["password"])
        # The servers' nodes pull with the registry's Secret, and take none but of the docker type.
        cure = self.replacement() if self.reason.startswith("Registry") else self.addition()
        raise self.invalid(f"has neither {DOCKER_CONFIG} nor username and password. {cure}")

    def authorization(self) -> str | None:
        """Return the Authorization header for https; raises Terminal when there is nothing to make it of."""
        if self.only_authority:
            return None
        if "token" in self.entries:
            return f"Bearer {self.entries['token']}"
        if {"username", "password"} <= self.entries.keys():
            return Credentials(self.entries["username"], self.entries["password"]).basic
        raise self.invalid(f"has neither token nor username and password. {self.addition()}")

    def trust(self, folder: Path) -> None:
        """Let this process trust the Secret's `ca.crt` beside the public authorities; raises Terminal."""
        if "ca.crt" not in self.entries:
            return
        bundle = folder / f"ca-{self.reason}.pem"
        present = os.environ.get(_TRUSTED[0]) or certifi.where()
        bundle.write_text(Path(present).read_text() + "\n" + self.entries["ca.crt"] + "\n")
        try:
            ssl.create_default_context().load_verify_locations(cadata=self.entries["ca.crt"])
        except (ssl.SSLError, ValueError) as error:
            raise self.invalid("has a ca.crt that is no certificate in PEM form") from error
        os.environ[_TRUSTED[0]] = str(bundle)

    def _of_docker_config(self, host: str) -> Credentials | None:
        try:
            accounts: dict[str, Any] = json.loads(self.entries[DOCKER_CONFIG])["auths"]
            named = {_host_of(name): entry for name, entry in accounts.items()}
            entry = named.get(host)
            if entry is None:
                return None
            if "username" in entry and "password" in entry:
                return Credentials(str(entry["username"]), str(entry["password"]))
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return Credentials(user, password)
        except (ValueError, KeyError, TypeError, AttributeError):
            # Without the cause: its text would quote the Secret.
            raise self.invalid(f"has a {DOCKER_CONFIG} that does not read. {self.replacement()}") from None

    def invalid(self, what: str) -> Terminal:
        """Return the condition for a Secret that does not do."""
        return Terminal(
            self.reason,
            f"Secret {self.name} of namespace {self.namespace} {what}. It is looked at again by itself within "
            "10 minutes, and at once with a new annotation accel.dev/requestedAt.",
        )


def read_secret(variable: str, name: str, namespace: str, field_name: str, prefix: str) -> Secret:
    """Read the Secret that is mounted where an environment variable says.

    Raises:
        Transient: `<prefix>SecretMissing` when the folder is empty, because the Secret does not exist.
    """
    folder = Path(os.environ.get(variable) or "/nonexistent")
    entries = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and not path.name.startswith(
            ".."
        ):  # the kubelet's own links are ..data and ..<time>
            with path.open("rb") as file:
                entries[path.name] = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
    if not entries:
        raise Transient(
            f"{prefix}SecretMissing",
            f"{field_name}: Secret {name} does not exist in namespace {namespace}, or has no entry. Create it: "
            + _creation(name, namespace, prefix),
        )
    return Secret(name, namespace, f"{prefix}SecretInvalid", entries)


def _creation(name: str, namespace: str, prefix: str) -> str:
    if prefix == "Registry":
        return f"{_docker_secret(name, namespace)}."
    return (
        f"{_account_secret(name, namespace)} (or --from-literal=token=TOKEN for https, or a docker-registry Secret for "
        "oci)."
    )


def _account_secret(name: str, namespace: str) -> str:
    return (
        f"kubectl create secret generic {name} -n {namespace} --from-literal=username=USER "
        "--from-literal=password=PASSWORD"
    )


def _docker_secret(name: str, namespace: str, host: str = "HOST") -> str:
    return (
        f"kubectl create secret docker-registry {name} -n {namespace} --docker-server={host} "
        "--docker-username=USER --docker-password=PASSWORD"
    )


def _host_of(name: str) -> str:
    """Return host[:port] of a docker config's key, which may be an address with a path."""
    return urlsplit(name if "://" in name else f"//{name}").netloc
