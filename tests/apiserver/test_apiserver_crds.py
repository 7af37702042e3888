"""What the real validator accepts, and the words with which it refuses."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fpga_operator.errors import ApiFailure
from fpga_operator.run.cluster import Cluster
from servers import ADMIN, Server
from simulated import Kubelet
from world import World

Object = dict[str, Any]
DIGEST = "sha256:" + "a" * 64

GOOD: dict[str, tuple[str, Object]] = {
    "shortest model": ("FpgaModel", {"source": {"uri": "oci:///sources/x:1"}}),
    "longest model": (
        "FpgaModel",
        {
            "description": "d",
            "tags": {"team": "vision"},
            "source": {"uri": "https://example.com/m.zip", "sha256": "a" * 64},
            "conversion": {
                "mode": "Auto", "format": "SavedModel", "inputs": ["x:0"], "outputs": ["y:0"],
                "signature": "serving_default", "precision": "msfp-a10", "requireFpga": False,
            },
            "verification": {"samples": 8, "tolerance": 0.25},
        },
    ),
    "source by digest": ("FpgaModel", {"source": {"uri": f"oci://10.0.0.1:5000/a/b-c_d.e@{DIGEST}"}}),
    "source by tag and digest": ("FpgaModel", {"source": {"uri": f"oci://localhost:5000/x:v1.0-rc_1@{DIGEST}"}}),
    "source in a claim": ("FpgaModel", {"source": {"uri": "pvc://models.v1/a..b/Net.onnx"}}),
    "all of a claim": ("FpgaModel", {"source": {"uri": "pvc://models/"}}),
    "source with a Secret": ("FpgaModel", {"source": {"uri": "https://h.svc/x.zip", "secretRef": {"name": "s"}}}),
    "frozen graph with limits": (
        "FpgaModel",
        {
            "source": {"uri": "https://h.svc/x.pb"},
            "conversion": {
                "format": "FrozenGraph", "inputs": ["a:0"], "outputs": ["b"],
                "limits": {"memory": "500M", "deadlineSeconds": 60}, "sku": "bw-a10",
            },
        },
    ),
    "source with a query": ("FpgaModel", {"source": {"uri": "https://host:8443/a%20b.zip?sig=x&y=z"}}),
    "shortest image": ("AccelImage", {"modelRef": {"name": "x"}}),
    "longest image": (
        "AccelImage",
        {
            "modelRef": {"name": "x", "version": 2}, "description": "d", "tags": {"a": "b"}, "historyLimit": 0,
            "repository": "teams/a-b/c.d__e",
        },
    ),
    "shortest service": ("AccelService", {"imageRef": {"name": "x"}}),
    "image by digest": ("AccelService", {"image": f"oci:///teams/x@{DIGEST}"}),
    "image of another registry": ("AccelService", {"image": f"oci://r.example.com:5000/x@{DIGEST}"}),
    "longest service": (
        "AccelService",
        {
            "imageRef": {"name": "x", "version": 1},
            "replicas": 3,
            "auth": {"enabled": False},
            "tls": {"secretRef": {"name": "cert"}},
            "placement": {"nodeSelector": {"a/b": "c"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
            "rollout": {"progressDeadlineSeconds": 120},
            "expose": {"type": "NodePort", "port": 443, "nodePort": 30443},
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}},
            "suspend": True,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "spec"), GOOD.values(), ids=GOOD)
async def test_accepted_and_stored_as_written(world: World, kind: str, spec: Object) -> None:
    await world.apply(kind, "good", spec)
    live = await world.live(kind, "good")
    assert live["spec"] == spec, "no default is written into a spec"
    assert live["status"] == {"observedGeneration": -1}


REF = {"imageRef": {"name": "x"}}
BAD: dict[str, tuple[str, str, Object, str]] = {
    # name: (kind, object's name, spec, words of the refusal)
    "no source": ("FpgaModel", "x", {}, "spec.source: Required value"),
    "scheme": ("FpgaModel", "x", {"source": {"uri": "ftp://x/y/z"}}, "must start with oci:// (push a folder with"),
    "sha256": ("FpgaModel", "x", {"source": {"uri": "oci:///x:1", "sha256": "abc"}}, "spec.source.sha256"),
    "unknown field": ("FpgaModel", "x", {"source": {"url": "oci:///x:1", "uri": "oci:///x:1"}}, "source.url"),
    "unpublished field": ("AccelService", "x", {**REF, "autoscale": {"maxReplicas": 3}}, "autoscale"),
    "format": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"format": "Caffe"}},
        '"Auto", "SavedModel", "FrozenGraph", "Onnx"',
    ),
    "frozen graph without tensors": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"format": "FrozenGraph", "inputs": ["a"]}},
        "FrozenGraph needs spec.conversion.inputs and spec.conversion.outputs",
    ),
    "too little memory": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"limits": {"memory": "127Mi"}}},
        "from 128Mi to 256Gi",
    ),
    "too much memory": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"limits": {"memory": "257Gi"}}},
        "from 128Mi to 256Gi",
    ),
    "memory in bytes": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"limits": {"memory": "4294967296"}}},
        "spec.conversion.limits.memory is a whole number with Mi or Gi",
    ),
    "a card that cannot compute": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"sku": "bw-s10"}},
        "spec.conversion.sku is bw-cnn-a10 (what is taken without it) or bw-a10, the cards that compute; of others",
    ),
    "a deadline of nothing": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "conversion": {"limits": {"deadlineSeconds": 1}}},
        "greater than or equal to 10",
    ),
    "a slash forgotten": (
        "FpgaModel", "x", {"source": {"uri": "oci://sources/x:1"}}, "did you mean oci:///sources/x:1 ?",
    ),
    "no slash at all": ("FpgaModel", "x", {"source": {"uri": "oci://digits:1"}}, "did you mean oci:///digits:1 ?"),
    "a claim without a path": ("FpgaModel", "x", {"source": {"uri": "pvc://models"}}, "write pvc://CLAIM/PATH"),
    "a claim in capitals": ("FpgaModel", "x", {"source": {"uri": "pvc://Models/x"}}, "claims have lower-case letters"),
    "out of a claim": ("FpgaModel", "x", {"source": {"uri": "pvc://models/a/../../b"}}, "no part '.' or '..'"),
    "a Secret for a claim": (
        "FpgaModel", "x", {"source": {"uri": "pvc://models/a", "secretRef": {"name": "s"}}}, "a claim needs none",
    ),
    "tolerance of zero": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "verification": {"tolerance": 0}}, "greater than 0",
    ),
    "version of zero": ("AccelImage", "x", {"modelRef": {"name": "x", "version": 0}}, "greater than or equal to 1"),
    "repository in capitals": (
        "AccelImage", "x", {"modelRef": {"name": "x"}, "repository": "Teams/X"}, "in lower case: letters and digits",
    ),
    "repository with a tag": (
        "AccelImage", "x", {"modelRef": {"name": "x"}, "repository": "teams/x:1"}, "without host and tag",
    ),
    "a model's name in capitals": (
        "AccelImage", "x", {"modelRef": {"name": "Net"}}, "a name has lower-case letters, digits",
    ),
    "an image's name in capitals": (
        "AccelService", "x", {"imageRef": {"name": "Net"}}, "a name has lower-case letters, digits",
    ),
    "a history of less than nothing": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "historyLimit": -1}, "greater than or equal to 0",
    ),
    "a history without end": (
        "AccelImage", "x", {"modelRef": {"name": "x"}, "historyLimit": 101}, "less than or equal to 100",
    ),
    "neither image nor imageRef": ("AccelService", "x", {}, "set exactly one of spec.imageRef"),
    "both": ("AccelService", "x", {**REF, "image": f"oci:///x@{DIGEST}"}, "set exactly one of spec.imageRef"),
    "image by tag": ("AccelService", "x", {"image": "oci:///x:1"}, "by its digest, for a tag can move"),
    "image in capitals": ("AccelService", "x", {"image": f"oci:///Teams/x@{DIGEST}"}, "named in lower case"),
    "image with neither host nor scheme": (
        "AccelService", "x", {"image": f"/teams/x@{DIGEST}"}, "spec.image names an image by its digest",
    ),
    "negative replicas": (
        "AccelService", "x", {**REF, "replicas": -1}, "spec.replicas in body should be greater than or equal to 0",
    ),
    "replicas in words": ("AccelService", "x", {**REF, "replicas": "two"}, "spec.replicas"),
    "port of nothing": (
        "AccelService", "x", {**REF, "expose": {"port": 0}}, "spec.expose.port in body should be greater than",
    ),
    "node port without NodePort": (
        "AccelService", "x", {**REF, "expose": {"nodePort": 30000}}, "needs spec.expose.type: NodePort",
    ),
    "a second FPGA by hand": (
        "AccelService", "x", {**REF, "resources": {"limits": {"fpga.intel.com/arria10": 2}}}, "arria10",
    ),
    "a tag's key": (
        "FpgaModel", "x", {"source": {"uri": "oci:///x:1"}, "tags": {"k" * 64: "v"}}, "at most 63 characters",
    ),
    "a blank behind the address": ("FpgaModel", "x", {"source": {"uri": "oci:///x:1 "}}, "spec.source.uri"),
    "no tag": ("FpgaModel", "x", {"source": {"uri": "oci:///sources/x"}}, "append :TAG or @sha256:DIGEST"),
    "capitals": ("FpgaModel", "x", {"source": {"uri": "oci:///Sources/x:1"}}, "a repository is named in lower case"),
    "no host": ("FpgaModel", "x", {"source": {"uri": "https:///x.onnx"}}, "write https://HOST/PATH"),
    "broken host": ("FpgaModel", "x", {"source": {"uri": "https://[bad/x.onnx"}}, "write https://HOST/PATH"),
    "negative quantity": (
        "AccelService", "x", {**REF, "resources": {"limits": {"cpu": "-1"}}}, "spec.resources.limits.cpu",
    ),
    "request above its limit": (
        "AccelService", "x", {**REF, "resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}},
        "requests.cpu is above spec.resources.limits.cpu",
    ),
    "label that cannot be": (
        "AccelService", "x", {**REF, "placement": {"nodeSelector": {"bad key!": "x"}}}, "a key that no label can have",
    ),
    "toleration of nothing": (
        "AccelService", "x", {**REF, "placement": {"tolerations": [{"effect": "NoSchedule"}]}},
        "needs operator: Exists",
    ),
    "toleration with a value too many": (
        "AccelService", "x",
        {**REF, "placement": {"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}}, "has no value",
    ),
    "name of a service": ("AccelService", "1x", REF, "a letter first: rename it"),
    "long name of a service": ("AccelService", "x" * 55, REF, "at most 54 characters"),
    "long name of a model": ("FpgaModel", "x" * 64, {"source": {"uri": "oci:///x:1"}}, "at most 63 characters"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "spec", "words"), BAD.values(), ids=BAD)
async def test_refused_with_the_cure(
    admin: Cluster, namespace: str, kind: str, name: str, spec: Object, words: str
) -> None:
    body = {
        "apiVersion": "accel.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    with pytest.raises(ApiFailure) as refused:
        await admin._request(
            "POST", admin._path(kind, namespace, ""), body=body, query={"fieldValidation": "Strict"}
        )
    assert refused.value.status in (400, 422)
    assert words in refused.value.message


def kubectl(server: Server, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the real kubectl as a user does."""
    command = [str(server.kubectl), f"--kubeconfig={server.kubeconfig(ADMIN)}", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_kubectl_names_an_unknown_field(server: Server, namespace: str, tmp_path: Path) -> None:
    model = {
        "apiVersion": "accel.dev/v1alpha1",
        "kind": "FpgaModel",
        "metadata": {"name": "typo", "namespace": namespace},
        "spec": {"source": {"uri": "oci:///x:1"}, "conversion": {"input": ["x"]}},
    }
    done = kubectl(server, "apply", "-f", "-", stdin=yaml.safe_dump(model))
    assert done.returncode != 0
    assert 'unknown field "spec.conversion.input"' in done.stderr


def test_kubectl_shows_the_three_kinds_by_category_and_short_name(server: Server, namespace: str) -> None:
    for kind, spec in (GOOD["shortest model"], GOOD["shortest image"], GOOD["shortest service"]):
        body = {"apiVersion": "accel.dev/v1alpha1", "kind": kind, "metadata": {"name": "t"}, "spec": spec}
        done = kubectl(server, "apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(body))
        assert done.returncode == 0, done.stderr
    table = kubectl(server, "get", "accel", "-n", namespace).stdout
    for word in (
        "fpgamodel.accel.dev/t",
        "accelimage.accel.dev/t",
        "accelservice.accel.dev/t",
        "STATE",
        "ADDRESS",
    ):
        assert word in table
    for short in ("fmodel", "aimg", "asvc", "fnode"):
        assert kubectl(server, "get", short, "-n", namespace).returncode == 0


def test_kubectl_explains_a_field(server: Server) -> None:
    assert "Absent: 600" in kubectl(server, "explain", "asvc.spec.rollout.progressDeadlineSeconds").stdout


async def test_a_service_scales_by_its_subresource(server: Server, world: World) -> None:
    await world.apply("AccelService", "scaled", {"imageRef": {"name": "x"}, "replicas": 1})
    done = kubectl(server, "scale", "asvc/scaled", "--replicas=2", "-n", world.namespace)
    assert done.returncode == 0, done.stderr
    assert (await world.live("AccelService", "scaled"))["spec"]["replicas"] == 2


async def test_a_devices_holder_comes_and_goes(admin: Cluster, kubelet: Kubelet) -> None:
    await kubelet.node("node-crd", "192.0.2.9", devices=2)
    await kubelet.devices("node-crd", {"fpga0": {"namespace": "a", "pod": "b"}, "fpga1": None})
    body = await admin.get("FpgaNode", "", "node-crd")
    assert body is not None
    assert [device.get("holder") for device in body["status"]["devices"]] == [
        {"namespace": "a", "pod": "b"},
        None,
    ]
