"""Names of things in a registry, in the one form that users write.

`oci:///repo:tag` is the configured registry, `oci://host[:port]/repo@sha256:…` another one; image names as
container runtimes write them (`host:5000/repo:tag`) are read too, because base images are named so.
"""

import ipaddress
import re
from dataclasses import dataclass

from accel.oci.digests import is_digest
from accel.oci.errors import BadReference

_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*\Z"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z")
_SCHEME = "oci://"


@dataclass(frozen=True)
class Reference:
    """A repository, and at most one manifest in it; `registry` None is the configured registry."""

    repository: str
    tag: str | None = None
    digest: str | None = None
    registry: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read `oci://…` or a container runtime's image name.

        Raises:
            BadReference: the text is neither, with the part that is wrong.
        """
        if text.startswith(_SCHEME):
            host, slash, rest = text.removeprefix(_SCHEME).partition("/")
            if not slash:
                raise BadReference(
                    f"'{text}' names no repository. Write oci:///repository:tag or oci://host/repository:tag."
                )
        else:
            host, slash, rest = text.partition("/")
            if not slash or not ("." in host or ":" in host or host == "localhost"):
                raise BadReference(
                    f"'{text}' does not begin with a registry's host. Write host[:port]/repository:tag or oci://…."
                )
        if host and not _HOST.match(host):
            raise BadReference(f"'{host}' in '{text}' is not a host name with an optional port.")
        rest, _, digest = rest.partition("@")
        head, colon, tag = rest.rpartition(":")
        repository, tag = (head, tag) if colon else (rest, "")
        if not _REPOSITORY.match(repository):
            raise BadReference(
                f"'{repository}' in '{text}' is not a repository name: "
                "lower-case letters, digits, '.', '_', '-' and '/'."
            )
        if colon and not _TAG.match(tag):
            raise BadReference(f"'{tag}' in '{text}' is not a tag.")
        if "@" in text and not is_digest(digest):
            raise BadReference(
                f"'{digest}' in '{text}' is not a digest of the form sha256:<64 hexadecimal digits>."
            )
        return cls(repository, tag or None, digest or None, host or None)

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag.

        Raises:
            BadReference: the reference has neither; there is no silent `latest`.
        """
        target = self.digest or self.tag
        if target is None:
            raise BadReference(f"'{self}' has neither a tag nor a digest. Append :tag or @sha256:….")
        return target

    def pinned(self, digest: str) -> "Reference":
        """Return the same repository by digest, without the tag."""
        return Reference(self.repository, None, digest, self.registry)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{_SCHEME}{self.registry or ''}/{self.repository}{tag}{digest}"


def is_private_host(host: str) -> bool:
    """Tell whether plain HTTP to this host (no port) stays on this machine or inside the cluster.

    True for localhost, loopback and private addresses, and names of cluster Services; not for link-local
    ones, where clouds keep credentials.
    """
    name = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith((".svc", ".cluster.local", ".localhost"))
    return (
        (address.is_loopback or address.is_private)
        and not address.is_link_local
        and not address.is_unspecified
    )


def host_name(registry: str) -> str:
    """Return `host` of `host:port`."""
    return registry if registry.endswith("]") else registry.rsplit(":", 1)[0]
