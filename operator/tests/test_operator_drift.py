"""What counts as a difference between a child and its plan, and what the API server's own defaults are."""

from typing import Any

import pytest
from fpga_operator.run.drift import additions, child_differences, foreign_fields, quantity

DESIRED: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {
        "name": "x",
        "labels": {"ours": "1"},
        "ownerReferences": [{"kind": "AccelService", "uid": "u", "controller": True}],
    },
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": "i:1",
                        "env": [{"name": "A", "value": "1"}],
                        "resources": {"limits": {"memory": "2Gi", "cpu": "0.5"}},
                        "command": [],
                    }
                ]
            }
        },
    },
}


def live(**container: Any) -> dict[str, Any]:
    """Return it as the API server stores it: with defaults, another owner and a label of someone else's."""
    server = {
        "name": "server",
        "image": "i:1",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {"cpu": "500m"}},
        "terminationMessagePath": "/dev/termination-log",
        **container,
    }
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "x",
            "labels": {"ours": "1", "theirs": "2"},
            "annotations": {"deployment.kubernetes.io/revision": "3"},
            "ownerReferences": [*DESIRED["metadata"]["ownerReferences"], {"kind": "Other", "uid": "o"}],
        },
        "spec": {
            "replicas": 1,
            "progressDeadlineSeconds": 600,
            "template": {"spec": {"containers": [server], "restartPolicy": "Always"}},
        },
    }


def without_label() -> dict[str, Any]:
    body = live()
    body["metadata"]["labels"] = {}
    return body


SERVER = ".spec.template.spec.containers[server]"
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "defaults are no difference": (live(), []),
    "image changed": (live(image="i:2"), [f"{SERVER}.image"]),
    "env changed": (live(env=[{"name": "A", "value": "2"}]), [f"{SERVER}.env[A].value"]),
    "env added": (live(env=[{"name": "A", "value": "1"}, {"name": "B"}]), [f"{SERVER}.env"]),
    "env removed": (live(env=[]), [f"{SERVER}.env"]),
    "limit changed": (
        live(resources={"limits": {"cpu": "1", "memory": "2Gi"}}),
        [f"{SERVER}.resources.limits.cpu"],
    ),
    "limits removed": (live(resources={}), [f"{SERVER}.resources.limits"]),
    "label removed": (without_label(), [".metadata.labels.ours"]),
}


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_differences(body: dict[str, Any], expected: list[str]) -> None:
    assert child_differences(DESIRED, body) == expected


def managed(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"metadata": {"managedFields": [{"manager": manager, "fieldsV1": fields, **more}]}}


def container_fields(**fields: Any) -> dict[str, Any]:
    return {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': {".": {}, **fields}}}}}
    }


EXTRA = '.spec.template.spec.containers[{"name":"extra"}]'
ANOTHER = {'k:{"name":"extra"}': {".": {}}}
FOREIGN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ours": (managed("fpga-operator", container_fields(**{"f:tty": {}})), []),
    "a field that we set too": (managed("kubectl-edit", container_fields(**{"f:image": {}})), []),
    "a field that a hand added": (
        managed("kubectl-edit", container_fields(**{"f:tty": {}})),
        ['.spec.template.spec.containers[{"name":"server"}].tty'],
    ),
    "an annotation of the controller": (managed("kube-controller-manager", {"f:metadata": {"f:annotations": {}}}), []),
    "status": (managed("kube-controller-manager", {"f:status": {}}, subresource="status"), []),
    "replicas by kubectl scale": (managed("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"), []),
    "a container that a hand added": (
        managed("kubectl-edit", {"f:spec": {"f:template": {"f:spec": {"f:containers": ANOTHER}}}}),
        [EXTRA],
    ),
}  # fmt: skip


WHOLE = {"f:spec": {"f:selector": {}}}
SELECTORS = {
    "the same": ({"a": "1"}, []),
    "widened": ({"a": "1", "b": "2"}, [".spec.selector"]),
    "changed": ({"a": "2"}, [".spec.selector"]),
}


@pytest.mark.parametrize(("there", "expected"), SELECTORS.values(), ids=SELECTORS)
def test_a_map_that_is_owned_as_a_whole(there: dict[str, str], expected: list[str]) -> None:
    desired, service = {"spec": {"selector": {"a": "1"}}}, {"spec": {"selector": there}}
    assert additions(desired, service, [WHOLE]) == expected


@pytest.mark.parametrize(("body", "expected"), FOREIGN.values(), ids=FOREIGN)
def test_additions(body: dict[str, Any], expected: list[str]) -> None:
    assert additions(DESIRED, live(), foreign_fields(body)) == expected


@pytest.mark.parametrize(
    ("one", "other"), [("0.5", "500m"), ("1024Mi", "1Gi"), ("1", 1), ("1k", "1000"), ("1e3", "1000")]
)
def test_equal_quantities(one: Any, other: Any) -> None:
    assert quantity(one) == quantity(other) is not None


def test_words_are_no_quantities() -> None:
    assert quantity("IfNotPresent") is None
