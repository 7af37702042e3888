"""`kubectl accel` and client_from_service, with kubectl replaced by a program that knows the test's
objects.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accel import AccelError, ServiceNotReady, client_from_service
from accel.cli.scoring import Wish, classes, read_labels
from accel.oci.local import LocalRegistry
from accel.service import endpoint_of
from accel.tfs import tensors
from accel.tfs.messages import PredictResponse
from client_harness import Cluster, run, serving, signature

SERVICES = "accelservices.accel.dev"
SCORES = np.array([[0.1, 0.7, 0.2]], np.float32)


def answer(request: Any, context: Any) -> Any:
    response = PredictResponse()
    for name in request.output_filter or ["scores"]:
        response.outputs[name].CopyFrom(tensors.to_proto(SCORES))
    clocks = (("accel-simulated-us", "1500"), ("accel-device-wall-us", "7000"), ("accel-device-id", "fpga0"))
    context.set_trailing_metadata(clocks)
    return response


def service(port: int, expose: str = "NodePort", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "AccelService",
        "spec": {"expose": {"type": expose}, **spec},
        "status": {"scoringUri": f"127.0.0.1:{port}", "keysSecret": "demo-keys", "state": "Healthy"},
    }


@pytest.fixture
def picture(tmp_path: Path) -> str:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8cat")
    return str(tmp_path / "cat.jpg")


def test_predict_prints_classes_and_clocks(cluster: Cluster, picture: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    cluster.secret("demo-keys", primary="k1", secondary="k2")
    with serving(answer, signature(images=7)) as (port, seen):
        cluster.put(SERVICES, "demo", **service(port))
        done = run(
            "predict",
            "demo",
            "-f",
            picture,
            "--top",
            "2",
            "--labels",
            str(tmp_path / "labels.txt"),
            "-n",
            "ns",
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert picture in lines[0]
    assert "FPGA 1.500 ms simulated on fpga0, emulator 7.0 ms" in lines[0]
    assert [line.split() for line in lines[1:]] == [["dog", "0.7000"], ["class", "2", "0.2000"]]
    assert seen.metadata[0]["authorization"] == "Bearer k1"
    assert seen.metadata[0]["x-ms-aml-grpc-service-route"] == "/api/v1/service/demo"
    assert all("--namespace=ns" in call for call in cluster.calls())


@pytest.mark.parametrize(("expose", "options"), [("ClusterIP", []), ("NodePort", ["--port-forward"])])
def test_predict_through_a_port_forward(
    cluster: Cluster, picture: str, expose: str, options: list[str]
) -> None:
    with serving(answer, signature(images=7)) as (port, _):
        cluster.put(SERVICES, "demo", **service(1, expose, auth={"enabled": False}))
        cluster.put("service", "demo", spec={"ports": [{"name": "grpc", "port": 8500}]})
        cluster.forward("service/demo", 8500, port)
        done = run("predict", "demo", "-f", picture, *options)
    assert done.returncode == 0, done.stderr
    assert "class 1" in done.stdout


def test_client_from_service(cluster: Cluster) -> None:
    cluster.secret("demo-keys", secondary="k2")
    with serving(answer) as (port, seen):
        cluster.put(SERVICES, "demo", **service(port))
        with client_from_service("demo", "ns") as client:
            np.testing.assert_array_equal(client.score_numpy_arrays({}), SCORES)
    assert seen.metadata[0]["authorization"] == "Bearer k2"


WAITING = {
    "type": "Ready",
    "status": "False",
    "reason": "NoFreeDevice",
    "message": "other/cats holds the only FPGA",
}


def test_a_service_without_an_address_says_the_operators_reason() -> None:
    waiting = {"metadata": {"name": "demo"}, "status": {"conditions": [WAITING]}}
    with pytest.raises(ServiceNotReady, match="demo has no address yet: NoFreeDevice: other/cats holds"):
        endpoint_of(waiting)


ENDPOINTS = {
    # name: (spec, scoringUri) -> host, port, tls, auth, inside only
    "node port": (
        ({"expose": {"type": "NodePort"}}, "10.1.2.3:30123"),
        ("10.1.2.3", 30123, False, True, False),
    ),
    "default": (({}, "a.ns.svc:8500"), ("a.ns.svc", 8500, False, True, True)),
    "tls": (({"tls": {"secretRef": {"name": "t"}}}, "a.ns.svc:8500"), ("a.ns.svc", 8500, True, True, True)),
    "no keys": (({"auth": {"enabled": False}}, "a.ns.svc:8500"), ("a.ns.svc", 8500, False, False, True)),
    "with a scheme": (({}, "grpc://a.ns.svc:8500/"), ("a.ns.svc", 8500, False, True, True)),
    "ipv6": (({}, "[fd00::1]:30123"), ("[fd00::1]", 30123, False, True, True)),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints(name: str) -> None:
    (spec, uri), expected = ENDPOINTS[name]
    found = endpoint_of({"metadata": {"name": "a"}, "spec": spec, "status": {"scoringUri": uri}})
    assert (found.host, found.port, found.tls, found.auth, found.inside_only) == expected
    assert found.keys_secret == "a-keys"


def failing_cases(cluster: Cluster, picture: str, port: int) -> dict[str, tuple[list[str], str]]:
    cluster.put(SERVICES, "demo", **service(port))
    cluster.put(SERVICES, "waiting", kind="AccelService", status={"conditions": [WAITING]})
    cluster.put(SERVICES, "closed", **service(port, auth={"enabled": False}))
    return {
        "no service": (["predict", "nobody", "-f", picture], "NotFound"),
        "no address": (["predict", "waiting", "-f", picture], "NoFreeDevice"),
        "no secret": (["predict", "demo", "-f", picture], '"demo-keys" not found'),
        "no picture": (["predict", "closed", "-f", picture + "x", "--input", "pixels"], "No such file"),
        "no picture input": (
            ["predict", "closed", "-f", picture],
            "takes arrays, not JPEG or PNG files; its inputs are pixels (float32)",
        ),
        "no folder": (["push", picture, "oci:///sources/a:1"], "is not a folder"),
        "no registry": (
            ["push", str(Path(picture).parent), "oci:///sources/a:1"],
            '"service/registry" not found',
        ),
        "no reference": (["push", str(Path(picture).parent), "sources"], "oci://"),
    }


def test_refusals_are_one_line(cluster: Cluster, picture: str) -> None:
    with serving(answer, signature(pixels=1)) as (port, _):
        for name, (arguments, words) in failing_cases(cluster, picture, port).items():
            done = run(*arguments)
            assert done.returncode == 1, name
            assert words in done.stderr, (name, done.stderr)
            assert len(done.stderr.strip().splitlines()) == 1, (name, done.stderr)


@pytest.mark.parametrize("top", ["models", "images"])
def test_the_operators_repositories_are_not_pushed_to(cluster: Cluster, tmp_path: Path, top: str) -> None:
    done = run("push", str(tmp_path), f"oci:///{top}/demo/cats:1")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: oci:///{top}/demo/cats:1: what is below {top}/ is the operator's. Push to oci:///sources/cats:1\n"
    )


FOLDERS = {
    # name: (files, whether there is a warning)
    "SavedModel": (["saved_model.pb", "variables/variables.index"], False),
    "one folder down": (["cats/model.onnx"], False),
    "archive": (["cats.tar.gz"], True),
    "pictures": (["a.jpg", "b.jpg"], True),
    "too deep": (["a/b/saved_model.pb"], True),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_a_model_is_pushed_with_a_warning(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    files, warned = FOLDERS[name]
    for file in files:
        (tmp_path / "m" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / file).write_text(file)
    (tmp_path / "registry").mkdir()
    with LocalRegistry(tmp_path / "registry") as registry:
        cluster.forward("service/registry", 5000, int(registry.endpoint.rpartition(":")[2]))
        done = run("push", str(tmp_path / "m"), "oci:///sources/m:1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("oci:///sources/m@sha256:")
    assert len(done.stderr.splitlines()) == warned
    assert ("holds no model" in done.stderr) == ("saved_model.pb, variables/" in done.stderr) == warned


def test_namespace_and_context_before_the_command(cluster: Cluster, picture: str) -> None:
    run("-n", "before", "--context", "c", "status")
    run("-n", "before", "predict", "nobody", "-f", picture, "-n", "after")
    run("--context", "c", "push", str(Path(picture).parent), "oci:///sources/a:1")
    options = [
        [word for word in call if word.startswith(("--namespace", "--context"))] for call in cluster.calls()
    ]
    assert options == [
        ["--namespace=before", "--context=c"],
        ["--namespace=after"],
        ["--namespace=accel-system", "--context=c"],
    ]


def test_an_address_of_the_cluster_is_refused_outside_with_the_cure(cluster: Cluster) -> None:
    inside = {"expose": {"type": "ClusterIP"}, "auth": {"enabled": False}}
    status = {"scoringUri": "demo.of-no-cluster.svc:8500"}
    cluster.put(SERVICES, "demo", kind="AccelService", spec=inside, status=status)
    with pytest.raises(
        AccelError, match=r"demo\.of-no-cluster\.svc is known inside .* spec\.expose\.type to NodePort"
    ):
        client_from_service("demo", "ns")


def test_the_program_is_installed(cluster: Cluster) -> None:
    program = str(Path(sys.executable).with_name("kubectl-accel"))
    done = subprocess.run([program, "status", "nobody"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no AccelService")
    done = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert all(command in done.stdout for command in ("predict", "status", "push"))


CLASSES = {
    # name: (answer, labels, lines)
    "a vector": (np.array([0.1, 0.9]), ("cat", "dog"), ["dog 0.9000", "cat 0.1000"]),
    "a batch of one": (np.array([[0.1, 0.9]]), (), ["class 1 0.9000", "class 0 0.1000"]),
    "a feature map": (np.zeros((2, 3)), (), ["output of shape [2, 3], values 0.0 to 0.0"]),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name: str) -> None:
    values, labels, expected = CLASSES[name]
    assert [" ".join(line.split()) for line in classes(values, Wish(labels=labels))] == expected


LABELS = {
    # name: (file name, content)
    "text": ("l.txt", "cat\ndog\n"),
    "list": ("l.json", '["cat", "dog"]'),
    "pairs": ("l.json", '[["n1", "cat"], ["n2", "dog"]]'),
    "object": ("l.json", '{"0": "cat", "1": ["n2", "dog"]}'),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(tmp_path: Path, name: str) -> None:
    file, content = LABELS[name]
    (tmp_path / file).write_text(content)
    assert read_labels(tmp_path / file) == ("cat", "dog")


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text("{")
    with pytest.raises(AccelError, match="--labels"):
        read_labels(tmp_path / "l.json")
    assert json.loads("[]") == list(read_labels(None))
