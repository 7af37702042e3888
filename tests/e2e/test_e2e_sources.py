"""Sources in claims and behind credentials, hostile archives, and limits: each fault named, each healed without a
touch of the operator.

Everything is applied at once, as in life; the tests then look at one model each.
"""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kube import Kube, Object, condition, is_ready
from networks import cnn
from objects import fpga_model
from onnx import numpy_helper
from sourcehosts import (
    PASSWORD,
    USER,
    claim,
    filled_claim,
    images,
    pod,
    private_registry,
    web_server,
)

GOOD = cnn(71).SerializeToString()


def tar(*members: tuple[str, bytes | str]) -> bytes:
    """Return a tar.gz of files (bytes) and links (str)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


def bomb() -> bytes:
    """Return 300 MB of zeros as a tar.gz of 300 kB."""
    return tar(("model.onnx", bytes(300_000_000)))


def heavy() -> bytes:
    """Return the network with 48 MB of weights beside it, few when packed: more than the least memory carries."""
    proto = cnn(71)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((12, 1000, 1000), np.float32), "ballast"))
    return tar(("model.onnx", proto.SerializeToString()))


@dataclass(frozen=True)
class Hosts:
    """Where the module's sources are."""

    web: str
    registry: str
    ca: bytes
    image: str


@pytest.fixture(scope="module")
def hosts(kube: Kube, system: Kube, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    toolchain, registry_image = images(system)
    files = {
        "net.onnx": GOOD,
        "truncated.tar.gz": tar(("model.onnx", GOOD))[:-400],
        "upwards.tar.gz": tar(("../model.onnx", GOOD)),
        "absolute.tar.gz": tar(("/tmp/model.onnx", GOOD)),
        "link.tar.gz": tar(("model.onnx", "/etc/hostname")),
        "bomb.tar.gz": bomb(),
        "heavy.tar.gz": heavy(),
    }
    web, ca = web_server(kube, toolchain, files, tmp_path_factory.mktemp("web"))
    host = private_registry(kube, registry_image)
    filled_claim(kube, toolchain, "models", {"nets/v1/model.onnx": GOOD, "alone.onnx": GOOD})
    kube("wait", "pod/web", "pod/registry", "--for=condition=Ready", "--timeout=90s")
    kube("wait", "pod/models-writer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
    ca_only: Object = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authority"}, "stringData": {"ca.crt": ca.decode()},
    }  # fmt: skip
    wrong = {**ca_only, "metadata": {"name": "wrong"}}
    wrong["stringData"] = {"ca.crt": ca.decode(), "username": USER, "password": "guess"}
    account = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "account"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {
            ".dockerconfigjson": json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}})
        },
    }
    kube.apply(ca_only, wrong, account)
    _push(kube, toolchain, host)
    return Hosts(web, host, ca, toolchain)


def _push(kube: Kube, image: str, host: str) -> None:
    """Push the network into the private registry from inside the cluster."""
    code = (
        "import pathlib\n"
        "from accel.oci import Credentials, Reference, Registry, push_source\n"
        "folder = pathlib.Path('/tmp/m'); folder.mkdir()\n"
        "(folder / 'model.onnx').write_bytes(pathlib.Path('/files/f1').read_bytes())\n"
        f"registry = Registry('http://{host}', credentials=Credentials({USER!r}, {PASSWORD!r}))\n"
        f"push_source(registry, folder, Reference.parse('oci://{host}/nets/cnn:1'))\n"
    )
    mounts: dict[str, Any] = {"/files": {"configMap": {"name": "models"}}}
    kube.apply(pod("pusher", image, mounts, ["python3", "-c", code], restartPolicy="Never"))
    kube("wait", "pod/pusher", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")


def secret(name: str) -> Object:
    return {"secretRef": {"name": name}}


Spec = Callable[[Hosts], tuple[str, Object]]
ARCHIVES = {
    # file: (reason, words of the message)
    "truncated": ("ArchiveDamaged", "truncated"),
    "upwards": ("ArchivePathEscapes", "../model.onnx"),
    "absolute": ("ArchivePathAbsolute", "/tmp/model.onnx"),
    "link": ("ArchiveHasLinks", "--dereference"),
    "bomb": ("ArchiveBomb", "operator.jobs.maxSourceRatio"),
}
MODELS: dict[str, Spec] = {
    "secret-to-come": lambda h: (f"{h.web}/private/net.onnx", {"source": secret("later")}),
    "in-a-folder": lambda _: ("pvc://models/nets/v1", {}),
    "in-a-file": lambda _: ("pvc://models/alone.onnx", {}),
    "not-in-the-claim": lambda _: ("pvc://models/nets/v2", {}),
    "no-such-claim": lambda _: ("pvc://nowhere/net.onnx", {}),
    "behind-an-account": lambda h: (f"oci://{h.registry}/nets/cnn:1", {"source": secret("account")}),
    "without-its-account": lambda h: (f"oci://{h.registry}/nets/cnn:1", {}),
    "wrong-password": lambda h: (f"{h.web}/private/net.onnx", {"source": secret("wrong")}),
    "untrusted": lambda h: (f"{h.web}/public/net.onnx", {}),
    "too-little-memory": lambda h: (
        f"{h.web}/public/heavy.tar.gz",
        {"source": secret("authority"), "conversion": {"limits": {"memory": "128Mi"}}},
    ),
    "too-late": lambda h: (
        f"{h.web}/slow/net.onnx",
        {"source": secret("authority"), "conversion": {"limits": {"deadlineSeconds": 12}}},
    ),
    **{
        name: lambda h, name=name: (f"{h.web}/public/{name}.tar.gz", {"source": secret("authority")})  # type: ignore[misc]
        for name in ARCHIVES
    },
}


@pytest.fixture(scope="module")
def applied(kube: Kube, hosts: Hosts) -> Hosts:
    """All models at once."""
    models = []
    for name, make in MODELS.items():
        uri, spec = make(hosts)
        models.append(fpga_model(name, uri, **spec))
    kube.apply(*models)
    return hosts


def ready_reason(kube: Kube, name: str, reason: str) -> str:
    """Return the message of Ready as soon as it has this reason."""

    def told() -> str | None:
        ready = condition(kube.get("fpgamodel", name), "Ready")
        return str(ready["message"]) if ready.get("reason") == reason else None

    message: str = kube.until(f"{name} says {reason}", told, timeout=180, story=("fpgamodel", name))
    return message


def healed_by(kube: Kube, name: str, spec: Object) -> None:
    kube.patch("fpgamodel", name, {"spec": spec})
    assert is_ready(kube.wait_ready("fpgamodel", name))


def test_a_missing_secret_is_named_and_its_coming_heals(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "secret-to-come", "SourceSecretMissing")
    assert "Secret later does not exist" in message
    assert "kubectl create secret generic later" in message
    ca = applied.ca.decode()
    kube(
        "create", "secret", "generic", "later", f"--from-literal=username={USER}",
        f"--from-literal=password={PASSWORD}", f"--from-literal=ca.crt={ca}",
    )  # fmt: skip
    assert is_ready(kube.wait_ready("fpgamodel", "secret-to-come"))


@pytest.mark.parametrize("name", ["in-a-folder", "in-a-file", "behind-an-account"])
def test_a_source_from_a_claim_or_a_registry_with_accounts(kube: Kube, applied: Hosts, name: str) -> None:
    assert is_ready(kube.wait_ready("fpgamodel", name))


def test_only_fetch_sees_the_secret(kube: Kube, applied: Hosts) -> None:
    (found,) = kube.list("pod", "accel.dev/model=behind-an-account")
    containers = [*found["spec"]["initContainers"], *found["spec"]["containers"]]
    seen = {
        c["name"]: [m["mountPath"] for m in c["volumeMounts"] if "secret" in m["mountPath"]]
        for c in containers
    }
    assert seen == {"fetch": ["/var/run/accel/source-secret"], "convert": [], "push": []}
    log = kube("logs", found["metadata"]["name"], "--all-containers")
    assert PASSWORD not in log
    assert "accel: fetching oci://" in log


def test_a_missing_claim_is_named_and_heals_by_an_edit(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "no-such-claim", "SourceClaimMissing")
    assert "PersistentVolumeClaim nowhere does not exist" in message
    assert "kubectl get pvc" in message
    healed_by(kube, "no-such-claim", {"source": {"uri": "pvc://models/alone.onnx"}})


def test_a_missing_path_lists_what_is_there(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "not-in-the-claim", "SourceNotFound")
    assert "'nets/v2'" in message
    assert "nets holds v1" in message
    healed_by(kube, "not-in-the-claim", {"source": {"uri": "pvc://models/nets"}})


def test_a_wrong_password_is_said_and_a_right_one_heals(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "wrong-password", "SourceDenied")
    assert "Secret wrong" in message
    assert "guess" not in message
    kube.patch("secret", "wrong", {"stringData": {"password": PASSWORD}})
    kube("annotate", "fpgamodel", "wrong-password", "accel.dev/requestedAt=now")
    assert is_ready(kube.wait_ready("fpgamodel", "wrong-password"))


def test_a_registry_that_wants_an_account_says_so(kube: Kube, applied: Hosts) -> None:
    assert "spec.source.secretRef" in ready_reason(kube, "without-its-account", "SourceDenied")
    healed_by(kube, "without-its-account", {"source": secret("account")})


def test_a_certificate_of_an_unknown_authority(kube: Kube, applied: Hosts) -> None:
    assert "ca.crt" in ready_reason(kube, "untrusted", "SourceUntrusted")
    healed_by(kube, "untrusted", {"source": secret("authority")})


def test_too_little_memory_is_said_with_the_limit_and_healed_by_an_edit(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "too-little-memory", "OOMKilled")
    assert "128Mi" in message
    assert "spec.conversion.limits.memory" in message
    healed_by(kube, "too-little-memory", {"conversion": {"limits": {"memory": "1Gi"}}})


def test_a_deadline_is_said_and_healed_by_an_edit(kube: Kube, applied: Hosts) -> None:
    message = ready_reason(kube, "too-late", "DeadlineExceeded")
    assert "12 s" in message
    assert "spec.conversion.limits.deadlineSeconds" in message
    healed_by(kube, "too-late", {"conversion": {"limits": {"deadlineSeconds": 300}}})


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_has_a_reason_of_its_own(kube: Kube, applied: Hosts, name: str) -> None:
    reason, words = ARCHIVES[name]
    message = ready_reason(kube, name, reason)
    assert message.startswith("spec.source.uri: ")
    assert words in message
    assert condition(kube.get("fpgamodel", name), "Stalled")["status"] == "True"
    healed_by(kube, name, {"source": {"uri": f"{applied.web}/public/net.onnx"}})


def test_a_claim_that_comes_later_is_found(kube: Kube, applied: Hosts) -> None:
    kube.apply(fpga_model("claim-to-come", "pvc://coming/alone.onnx"))
    ready_reason(kube, "claim-to-come", "SourceClaimMissing")
    kube.apply(claim("coming"))
    assert "coming" in ready_reason(kube, "claim-to-come", "SourceNotFound")
