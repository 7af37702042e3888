"""Where a model's bytes are: the addresses that are understood, and for the others what was probably meant."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from fpga_operator.api.base import ApiModel, Name, Sha256, rule

_TAG_OR_DIGEST = "(:[A-Za-z0-9_.-]+|@sha256:[a-f0-9]{64})$"
_REPOSITORY = (
    "^oci://[A-Za-z0-9.:-]*/[A-Za-z0-9]+([._/-]+[A-Za-z0-9]+)*"
    "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$"
)


def _uri(scheme: str, holds: str, message: str, **extra: str) -> dict[str, str]:
    """Return a rule on addresses of one scheme."""
    return rule(f"!self.uri.startsWith('{scheme}') || {holds}", message, fieldPath=".uri", **extra)


_RULES = [
    rule(
        "self.uri.startsWith('oci://') || self.uri.startsWith('https://') || self.uri.startsWith('pvc://')",
        "spec.source.uri must start with oci:// (push a folder with: kubectl accel push DIR oci:///sources/NAME:TAG), "
        "https:// (an archive, an .onnx or a .pb file) or pvc:// (pvc://CLAIM/PATH)",
        fieldPath=".uri",
    ),
    _uri(
        "oci://",
        "self.uri.matches('^oci://([^/]*[.:][^/]*|localhost)?/')",
        "spec.source.uri begins with a registry's host that has neither a dot nor a port; the configured registry is "
        "written with three slashes: oci:///sources/NAME:TAG",
        messageExpression="\"spec.source.uri: '\" + self.uri.substring(6).split('/')[0] + \"' is no registry's host, "
        "for it has neither a dot nor a port before a slash; did you mean oci:///\" + self.uri.substring(6) + ' ?'",
    ),
    _uri(
        "oci://",
        "!self.uri.matches('^oci://[^/]*/[^:@]*[A-Z]')",
        "spec.source.uri: a repository is named in lower case: write NAME in oci:///sources/NAME:TAG without capital "
        "letters (the tag may have them)",
    ),
    _uri(
        "oci://",
        f"self.uri.matches('/[^/]*{_TAG_OR_DIGEST}')",
        "spec.source.uri names no tag and no digest, and there is no silent 'latest': append :TAG or @sha256:DIGEST, "
        "as in oci:///sources/NAME:TAG",
    ),
    _uri(
        "oci://",
        f"self.uri.matches('{_REPOSITORY}')",
        "spec.source.uri names no repository that can be: write oci:///sources/NAME:TAG; NAME has lower-case letters, "
        "digits, '.', '_', '-' and '/'",
    ),
    _uri(
        "https://",
        "(isURL(self.uri) && url(self.uri).getHost() != '')",
        "spec.source.uri is not the address of anything: write https://HOST/PATH",
    ),
    _uri(
        "pvc://",
        "self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/')",
        "spec.source.uri names no claim that can be: names of claims have lower-case letters, digits, '-' and '.' "
        "only; write pvc://CLAIM/PATH with the name of a PersistentVolumeClaim of this namespace, or pvc://CLAIM/ for "
        "all of it",
    ),
    _uri(
        "pvc://",
        "!self.uri.matches('/[.][.]?(/|$)')",
        "spec.source.uri: the path in a claim has no part '.' or '..': write it from the claim's root",
    ),
    rule(
        "!has(self.secretRef) || !self.uri.startsWith('pvc://')",
        "spec.source.secretRef is for oci:// and https:// sources: remove it, a claim needs none",
        fieldPath=".secretRef",
    ),
]


class SourceSecret(ApiModel):
    """Credentials for the source; only the container that fetches it sees them."""

    name: Name = Field(
        description="Name of a Secret of the model's namespace: username and password, or token (https), or "
        ".dockerconfigjson (oci); ca.crt is trusted in addition."
    )


class Source(ApiModel):
    """Where the model's bytes are."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": list(_RULES)})

    uri: Annotated[str, StringConstraints(min_length=8, max_length=2048, pattern=r"^\S+$")] = Field(
        description="oci:///repository:tag (the configured registry), oci://host/repository:tag, the https:// address "
        "of an archive (tar, tar.gz, zip), an .onnx or a .pb file, or pvc://claim/path of such a file or of a folder."
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="Expected SHA-256 of the bytes at the URI (for oci: of the manifest; for a folder: of what "
        "find . -type f | LC_ALL=C sort | xargs sha256sum prints), 64 hexadecimal digits.",
    )
    secret_ref: SourceSecret | None = None
