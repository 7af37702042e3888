"""What the chart renders to: names, pod security, configuration, and that it refuses what it should."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "fpga-operator"
IMAGES = ["operator", "toolchain", "converter", "runtime", "fpgaNode", "registry"]
GIVEN = {"images": {name: f"registry.test/{name}:1" for name in IMAGES}, "emulator": {"nodes": {"worker": 2}}}
Object = dict[str, Any]


def helm_binary() -> str:
    """The cluster's own helm (built from source), or one on PATH."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accel-cluster"
    kept = sorted(path for path in cache.rglob("helm") if path.is_file() and os.access(path, os.X_OK))
    found = str(kept[-1]) if kept else shutil.which("helm")
    if found is None:
        pytest.skip("no helm: `make cluster-up` builds one")
    return found


def helm(*arguments: str, values: Object | None = None) -> subprocess.CompletedProcess[str]:
    files = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [helm_binary(), *arguments, *files],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        check=False,
    )


def render(values: Object | None = None) -> list[Object]:
    merged = {**GIVEN, **(values or {})}
    merged["images"] = {**GIVEN["images"], **(values or {}).get("images", {})}
    command = ["template", "accel", str(CHART), "--namespace", "accel-system", "--kube-version", "1.36.3"]
    done = helm(*command, values=merged)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render()


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, str, Object]]:
    """Yield (namespace, name, pod spec) of everything that makes pods."""
    for thing in objects:
        if thing["kind"] in {"Deployment", "DaemonSet"}:
            yield thing["metadata"]["namespace"], thing["metadata"]["name"], thing["spec"]["template"]["spec"]
        elif thing["kind"] == "Pod":
            yield thing["metadata"]["namespace"], thing["metadata"]["name"], thing["spec"]


def test_lint_is_clean() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = {
    # name: (values, what the message says)
    "a typo": ({"operator": {"maxConcurentJobs": 1}}, "maxConcurentJobs"),
    "a typo among the images": ({"images": {"converterr": "x"}}, "converterr"),
    "a resource without a domain": ({"resourceName": "arria10"}, "resourceName"),
    "no job at all": ({"operator": {"maxConcurrentJobs": 0}}, "maxConcurrentJobs"),
    "a missing image": ({"images": {"runtime": ""}}, "images.runtime is empty"),
    "no registry of any kind": ({"registry": {"enabled": False}}, "registry.external"),
    "a card that computes nothing": ({"emulator": {"sku": "bw-s10"}}, "sku"),
    "a node of such cards": ({"emulator": {"nodes": {"worker": {"count": 1, "sku": "bw-s10"}}}}, "worker"),
    "devices that are no number": ({"emulator": {"nodes": {"worker": "two"}}}, "worker"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(values: Object, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        render(values)


def test_all_that_can_passes_restricted(objects: list[Object]) -> None:
    for namespace, name, pod in pods(objects):
        security = pod["securityContext"]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert "limits" in container["resources"], name
        if namespace == "accel-system":
            assert security["runAsNonRoot"] is True, name
            assert security["runAsUser"] > 0, name
            assert not pod.get("hostNetwork"), name
            assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume], name


def test_only_the_node_namespace_is_privileged(objects: list[Object]) -> None:
    (namespace,) = [o for o in objects if o["kind"] == "Namespace"]
    assert namespace["metadata"]["name"] == "accel-node"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_update_strategies(objects: list[Object]) -> None:
    kinds = {
        o["metadata"]["name"]: o["spec"]["updateStrategy"]["type"]
        for o in objects
        if o["kind"] == "DaemonSet"
    }
    assert kinds == {
        "fpga-emulator": "OnDelete",  # the card stays where it is
        "fpga-device-plugin": "RollingUpdate",
        "registry-proxy": "RollingUpdate",
    }


def test_operator_reads_its_configuration(objects: list[Object]) -> None:
    from fpga_operator.config import Config

    text = one(objects, "ConfigMap", "fpga-operator")["data"]["operator.yaml"]
    read = Config.model_validate(yaml.safe_load(text))
    assert read.images.runtime == "registry.test/runtime:1"
    assert read.registry.endpoint == "http://registry.accel-system.svc:5000"
    assert read.registry.node_name == "localhost:5000"
    assert read.jobs.max_source_bytes == 4 * 2**30


def test_proxy_port_is_one_setting() -> None:
    objects = render({"proxy": {"port": 5999}})
    text = one(objects, "ConfigMap", "fpga-operator")["data"]["operator.yaml"]
    assert yaml.safe_load(text)["registry"]["nodeName"] == "localhost:5999"
    command = one(objects, "DaemonSet", "registry-proxy")["spec"]["template"]["spec"]["containers"][0][
        "command"
    ]
    assert command[1].startswith("TCP-LISTEN:5999,bind=127.0.0.1,")


def test_resource_name_reaches_both_sides() -> None:
    objects = render({"resourceName": "fpga.example.com/s10"})
    text = one(objects, "ConfigMap", "fpga-operator")["data"]["operator.yaml"]
    assert yaml.safe_load(text)["resourceName"] == "fpga.example.com/s10"
    plugin = one(objects, "DaemonSet", "fpga-device-plugin")["spec"]["template"]["spec"]["containers"][0]
    assert "--resource=fpga.example.com/s10" in plugin["command"]


def test_devices_of_the_emulator(objects: list[Object]) -> None:
    text = one(objects, "ConfigMap", "fpga-emulator")["data"]["devices.yaml"]
    assert yaml.safe_load(text) == {
        "sku": "bw-cnn-a10",
        "flashSeconds": 2,
        "default": 0,
        "nodes": {"worker": 2},
    }


def test_a_node_may_have_cards_of_another_kind() -> None:
    nodes = {"worker": 2, "worker-2": {"count": 1, "sku": "bw-a10"}}
    text = one(render({"emulator": {"nodes": nodes}}), "ConfigMap", "fpga-emulator")["data"]["devices.yaml"]
    assert yaml.safe_load(text)["nodes"] == nodes


def test_crds_are_small_whole_and_kept(objects: list[Object]) -> None:
    crds = {o["metadata"]["name"]: o for o in objects if o["kind"] == "CustomResourceDefinition"}
    for source in (ROOT / "crds").glob("*.yaml"):
        original = yaml.safe_load(source.read_text())
        rendered = crds[original["metadata"]["name"]]
        assert rendered["spec"] == original["spec"]
        assert rendered["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert len(json.dumps(rendered)) < 64 * 1024
    assert not [o for o in render({"crds": {"enabled": False}}) if o["kind"] == "CustomResourceDefinition"]


RBAC = {"fpga-operator": "operator/rbac.yaml", "fpga-device-plugin": "device-plugin/rbac.yaml"}


@pytest.mark.parametrize(("account", "source"), RBAC.items())
def test_rules_are_the_rooms_own(objects: list[Object], account: str, source: str) -> None:
    documents = yaml.safe_load_all((ROOT / source).read_text())
    rules = [
        rule for document in documents if document["kind"] == "ClusterRole" for rule in document["rules"]
    ]
    assert one(objects, "ClusterRole", account)["rules"] == rules
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]


def test_rules_in_the_own_namespace_are_the_rooms_own(objects: list[Object]) -> None:
    role = yaml.safe_load((ROOT / "operator/rbac-namespace.yaml").read_text())
    assert one(objects, "Role", "fpga-operator")["rules"] == role["rules"]
    assert one(objects, "Role", "fpga-operator")["metadata"]["namespace"] == "accel-system"
    (subject,) = one(objects, "RoleBinding", "fpga-operator")["subjects"]
    assert (subject["name"], subject["namespace"]) == ("fpga-operator", "accel-system")


def test_only_the_embedded_registry_is_swept_by_its_catalog(objects: list[Object]) -> None:
    def sweep(rendered: list[Object]) -> Object:
        config = yaml.safe_load(one(rendered, "ConfigMap", "fpga-operator")["data"]["operator.yaml"])
        assert config["namespace"] == "accel-system"
        found: Object = config["sweep"]
        return found

    assert sweep(objects) == {
        "intervalSeconds": 3600,
        "graceSeconds": 86400,
        "dryRun": False,
        "sources": False,
        "catalog": True,
    }
    external = {"endpoint": "https://r.example.com", "nodeName": "r.example.com"}
    assert not sweep(render({"registry": {"enabled": False, "external": external}}))["catalog"]


def test_the_operator_has_the_registrys_account_where_there_is_one(objects: list[Object]) -> None:
    def mounts(rendered: list[Object]) -> dict[str, str]:
        spec = one(rendered, "Deployment", "fpga-operator")["spec"]["template"]["spec"]
        paths = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
        return {v["secret"]["secretName"]: paths[v["name"]] for v in spec["volumes"] if "secret" in v}

    assert set(mounts(objects)) == {"fpga-operator-master-key"}
    assert mounts(render({"registry": {"secretName": "account"}}))["account"] == "/var/run/accel/registry"


def test_master_key(objects: list[Object]) -> None:
    secret = one(objects, "Secret", "fpga-operator-master-key")
    assert len(base64.b64decode(secret["data"]["key"])) >= 32
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    own = render({"operator": {"masterKey": {"existingSecret": "mine"}}})
    assert not [o for o in own if o["kind"] == "Secret"]
    volumes = one(own, "Deployment", "fpga-operator")["spec"]["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if "secret" in v] == ["mine"]


def test_external_registry_needs_no_proxy() -> None:
    external = {"endpoint": "https://r.example.com", "nodeName": "r.example.com"}
    objects = render({"registry": {"enabled": False, "external": external}})
    assert not [o for o in objects if o["metadata"]["name"] in {"registry", "registry-proxy"}]
    text = one(objects, "ConfigMap", "fpga-operator")["data"]["operator.yaml"]
    assert yaml.safe_load(text)["registry"]["endpoint"] == "https://r.example.com"


def test_service_monitors_only_when_asked(objects: list[Object]) -> None:
    assert not [o for o in objects if o["kind"] == "ServiceMonitor"]
    assert (
        len([o for o in render({"serviceMonitor": {"enabled": True}}) if o["kind"] == "ServiceMonitor"]) == 2
    )


def test_alerts_only_when_asked_and_then_exactly_those(objects: list[Object]) -> None:
    assert not [o for o in objects if o["kind"] == "PrometheusRule"]
    asked = render({"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}})
    rule = one(asked, "PrometheusRule", "fpga-operator")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load((ROOT / "operator" / "alerts.yaml").read_text())


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "charts/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
