"""Certificates and kubeconfigs, made with openssl: Python's standard library checks but does not sign.

One authority signs everything; keys are P-256, because they are made in milliseconds. A file that exists is
kept.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

from accel_cluster.commands import run

DAYS = "3650"


@dataclass(frozen=True)
class Pki:
    """The cluster's authority in `folder` and everything it has signed."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        """The private key that signs service-account tokens; RSA, as clients of OIDC discovery expect."""
        return self.folder / "service-accounts.key"

    def ensure_authority(self) -> None:
        """Make the authority and the key of service accounts."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.ca.exists():
            key: Path = self.folder / "ca.key"
            crt = self._partial("ca.crt")
            _make_key(key)
            usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
            subject = ["-subj", "/CN=accel-cluster"]
            run(
                ["openssl", "req", "-x509", "-new", "-key", key, "-days", DAYS, *subject, *usage, "-out", crt]
            )
            crt.rename(self.ca)
        if not self.service_account_key.exists():
            key = self._partial("service-accounts.key")
            run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
            key.rename(self.service_account_key)

    def ensure(self, name: str, subject: str, alternatives: str = "") -> tuple[Path, Path]:
        """Return (certificate, key) called `name`; `subject` and `alternatives` as openssl writes them.

        With alternatives ("IP:10.0.0.1,DNS:localhost") it also serves, without them it is a client's only.
        """
        crt, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if crt.exists():
            return crt, key
        _make_key(key)
        request, partial = self._partial(f"{name}.csr"), self._partial(f"{name}.crt")
        extensions = self._partial(f"{name}.ext")
        extensions.write_text(
            "basicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature,keyEncipherment\n"
            f"extendedKeyUsage=clientAuth{',serverAuth' if alternatives else ''}\n"
            + (f"subjectAltName={alternatives}\n" if alternatives else "")
        )
        run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
        by: list[str | Path] = ["-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial"]
        run(
            [
                "openssl",
                "x509",
                "-req",
                "-in",
                request,
                *by,
                "-days",
                DAYS,
                "-extfile",
                extensions,
                "-out",
                partial,
            ]
        )
        request.unlink()
        extensions.unlink()
        partial.rename(crt)  # last: what exists is whole
        return crt, key

    def kubeconfig(self, name: str, subject: str, server: str, path: Path, cluster: str = "cluster") -> Path:
        """Write a kubeconfig for the client `name` into `path`, with everything embedded."""
        crt, key = self.ensure(name, subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(
            "apiVersion: v1\n"
            "kind: Config\n"
            "clusters:\n"
            f"- name: {cluster}\n"
            "  cluster:\n"
            f"    server: {server}\n"
            f"    certificate-authority-data: {_embed(self.ca)}\n"
            "users:\n"
            f"- name: {name}\n"
            "  user:\n"
            f"    client-certificate-data: {_embed(crt)}\n"
            f"    client-key-data: {_embed(key)}\n"
            "contexts:\n"
            f"- name: {cluster}\n"
            f"  context: {{cluster: {cluster}, user: {name}}}\n"
            f"current-context: {cluster}\n"
        )
        return path

    def _partial(self, name: str) -> Path:
        return self.folder / f".{name}.part"


def _make_key(path: Path) -> None:
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path])
    path.chmod(0o600)


def _embed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
