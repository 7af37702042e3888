"""What the product's two accounts may do on the cluster, and what they may not."""

import pytest
from kube import Kube

OPERATOR = "system:serviceaccount:accel-system:fpga-operator"
PLUGIN = "system:serviceaccount:accel-node:fpga-device-plugin"

ALLOWED = {
    OPERATOR: [
        ("list", "fpgamodels.accel.dev"),
        ("watch", "accelservices.accel.dev"),
        ("patch", "accelservices.accel.dev/status"),
        ("list", "fpganodes.accel.dev"),
        ("create", "jobs.batch"),
        ("delete", "jobs.batch"),
        ("create", "deployments.apps"),
        ("patch", "deployments.apps"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("list", "pods"),
    ],
    PLUGIN: [("patch", "fpganodes.accel.dev"), ("patch", "fpganodes.accel.dev/status")],
}
FORBIDDEN = {
    OPERATOR: [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("delete", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("update", "fpgamodels.accel.dev"),
        ("patch", "fpgamodels.accel.dev"),
        ("delete", "fpgamodels.accel.dev"),
        ("delete", "namespaces"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("create", "serviceaccounts/token"),
        ("patch", "nodes"),
        ("*", "*"),
    ],
    PLUGIN: [
        ("get", "secrets"),
        ("list", "pods"),
        ("patch", "nodes"),
        ("delete", "fpganodes.accel.dev"),
        ("list", "accelservices.accel.dev"),
        ("create", "pods"),
        ("*", "*"),
    ],
}


def may(kube: Kube, account: str, verb: str, resource: str) -> bool:
    kind, _, subresource = resource.partition("/")  # "a/b" would ask about an object named b
    asked = [
        "auth",
        "can-i",
        verb,
        kind,
        f"--subresource={subresource}",
        f"--as={account}",
        "--all-namespaces",
    ]
    try:
        return kube(*asked).strip() == "yes"
    except AssertionError:  # can-i exits with 1 for no
        return False


def pairs(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(account, verb, resource) for account, rules in table.items() for verb, resource in rules]


@pytest.mark.parametrize(("account", "verb", "resource"), pairs(ALLOWED))
def test_may(kube: Kube, account: str, verb: str, resource: str) -> None:
    assert may(kube, account, verb, resource)


@pytest.mark.parametrize(("account", "verb", "resource"), pairs(FORBIDDEN))
def test_may_not(kube: Kube, account: str, verb: str, resource: str) -> None:
    assert not may(kube, account, verb, resource)


@pytest.mark.parametrize("account", [OPERATOR, PLUGIN])
def test_no_wildcard_anywhere(kube: Kube, account: str) -> None:
    for namespace in ("default", "accel-system", "accel-node", kube.namespace):
        listed = kube("auth", "can-i", "--list", f"--as={account}", f"--namespace={namespace}")
        for line in listed.splitlines()[1:]:
            if "*" in line and not line.startswith(("[", " ")):
                assert line.split()[0] == "", f"{account} in {namespace}: {line}"


def test_the_operator_reads_its_own_secret_only_as_a_file(system: Kube) -> None:
    assert not may(system, OPERATOR, "get", "secrets")
