"""References: what is read, what is refused, and how they are written back."""

import pytest
from accel.oci import BadReference, Reference
from accel.oci.reference import is_private_host

DIGEST = "sha256:" + "0" * 64

GOOD = {
    # name: (text, value, canonical form)
    "configured registry": (
        "oci:///models/demo/digits:v1",
        Reference("models/demo/digits", "v1"),
        "oci:///models/demo/digits:v1",
    ),
    "by digest": (f"oci:///m@{DIGEST}", Reference("m", None, DIGEST), f"oci:///m@{DIGEST}"),
    "tag and digest": (f"oci:///m:v1@{DIGEST}", Reference("m", "v1", DIGEST), f"oci:///m:v1@{DIGEST}"),
    "host and port": (
        "oci://h.example:5000/a/b:t",
        Reference("a/b", "t", None, "h.example:5000"),
        "oci://h.example:5000/a/b:t",
    ),
    "IPv6 host": ("oci://[::1]:5000/a:t", Reference("a", "t", None, "[::1]:5000"), "oci://[::1]:5000/a:t"),
    "image name": (
        f"10.0.0.1:5000/x/y@{DIGEST}",
        Reference("x/y", None, DIGEST, "10.0.0.1:5000"),
        f"oci://10.0.0.1:5000/x/y@{DIGEST}",
    ),
    "image name on localhost": (
        "localhost/x:1",
        Reference("x", "1", None, "localhost"),
        "oci://localhost/x:1",
    ),
    "no tag": ("oci:///m", Reference("m"), "oci:///m"),
}

BAD = {
    # name: (text, what the message says)
    "upper case": ("oci:///Models/x:1", "lower-case"),
    "no repository": ("oci://host", "names no repository"),
    "empty tag": ("oci:///m:", "not a tag"),
    "short digest": ("oci:///m@sha256:12", "not a digest"),
    "other algorithm": ("oci:///m@sha512:12", "not a digest"),
    "empty digest": ("oci:///m@", "not a digest"),
    "bad host": ("oci://ho st/m:1", "not a host name"),
    "credentials in it": ("oci://user:secret@host/m:1", "not a host name"),
    "no host": ("library/python:3", "does not begin with a registry"),
    "upwards": ("oci:///../m:1", "not a repository name"),
}


@pytest.mark.parametrize(("text", "value", "canonical"), GOOD.values(), ids=GOOD)
def test_read_and_written(text: str, value: Reference, canonical: str) -> None:
    assert Reference.parse(text) == value
    assert str(value) == canonical
    assert Reference.parse(canonical) == value


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(BadReference, match=message):
        Reference.parse(text)


def test_there_is_no_silent_latest() -> None:
    with pytest.raises(BadReference, match="neither a tag nor a digest"):
        _ = Reference.parse("oci:///m").target


HOSTS = {
    "localhost": ("localhost", True),
    "Service": ("registry.accel-system.svc", True),
    "long Service": ("minio.demo.svc.cluster.local", True),
    "private": ("10.89.0.1", True),
    "loopback 6": ("[::1]", True),
    "public": ("8.8.8.8", False),
    "name": ("example.com", False),
    "cloud metadata": ("169.254.169.254", False),
    "unspecified": ("0.0.0.0", False),
    "looks like one": ("svc.example.com", False),
}


@pytest.mark.parametrize(("host", "private"), HOSTS.values(), ids=HOSTS)
def test_private_hosts(host: str, private: bool) -> None:
    assert is_private_host(host) is private
