"""Manifests of a service's children. They carry our labels alone and pass the pod-security level *restricted*."""

from dataclasses import dataclass
from typing import Any

from fpga_operator.api.accelservice import AccelServiceSpec, ExposeType, ResourceAmounts
from fpga_operator.config import Config
from fpga_operator.plan.jobs import POD_SECURITY, SECURITY, stable_hash
from fpga_operator.plan.rollout import Strategy
from fpga_operator.plan.types import (
    MANAGED_BY,
    OPERATOR,
    REVISION_LABEL,
    SERVICE_LABEL,
    KeysSecret,
    Manifest,
    Owner,
    child,
    labels_for,
)

GRPC_PORT, HEALTH_PORT, METRICS_PORT = 8500, 8502, 8503
KEYS_DIR, TLS_DIR = "/var/run/accel/keys", "/var/run/accel/tls"
NO_DEADLINE = (
    2**31 - 1
)  # Kubernetes' own value for none: our deadline's clock stops while a pod waits for a device
GRACE_SECONDS = 30
PRE_STOP_SECONDS = 2  # the endpoint must be withdrawn before the server stops listening


@dataclass(frozen=True)
class Target:
    """What the pods run: the image as a node pulls it, and the version that it tells clients."""

    image: str
    model_version: int | None


def keys_name(owner: Owner) -> str:
    """Return the name of the Secret with the keys."""
    return f"{owner.name}-keys"


def keys_secret(owner: Owner) -> KeysSecret:
    """Return the Secret to be written; its content is derived by whoever holds the master key."""
    return KeysSecret(name=keys_name(owner), labels=labels_for(SERVICE_LABEL, owner.name))


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels that select the pods."""
    return {MANAGED_BY: OPERATOR, SERVICE_LABEL: owner.name}


def wanted_replicas(spec: AccelServiceSpec) -> int:
    """Return how many pods there shall be."""
    if spec.suspend:
        return 0
    return 1 if spec.replicas is None else spec.replicas


def port(spec: AccelServiceSpec) -> int:
    """Return the Service's port."""
    return spec.expose.port if spec.expose is not None and spec.expose.port is not None else GRPC_PORT


def _probe(service: str, **more: int) -> Manifest:
    return {"grpc": {"port": HEALTH_PORT, "service": service}, **more}


def _resources(spec: AccelServiceSpec, config: Config) -> Manifest:
    def amounts(given: ResourceAmounts | None, defaults: dict[str, str]) -> dict[str, str]:
        return {**defaults, **{key: str(value) for key, value in (given.dump() if given else {}).items()}}

    given = spec.resources
    requests = amounts(
        given.requests if given else None,
        {"cpu": config.serving.cpu_request, "memory": config.serving.memory_request}
        if given is None or given.limits is None
        else {},
    )
    limits = amounts(
        given.limits if given else None, {} if given else {"memory": config.serving.memory_limit}
    )
    found: Manifest = {"limits": {**limits, config.resource_name: "1"}}
    if requests:
        found["requests"] = requests
    return found


def pod_spec(owner: Owner, spec: AccelServiceSpec, target: Target, config: Config) -> Manifest:
    """Return the model server's pod."""
    auth = spec.auth is None or spec.auth.enabled is not False
    env = [
        {"name": "ACCEL_MODEL_NAME", "value": owner.name},
        {"name": "ACCEL_MODEL_VERSION", "value": str(target.model_version or 1)},
        {"name": "ACCEL_AUTH", "value": "required" if auth else "disabled"},
    ]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}]
    if auth:
        mounts.append({"name": "keys", "mountPath": KEYS_DIR, "readOnly": True})
        volumes.append({"name": "keys", "secret": {"secretName": keys_name(owner), "defaultMode": 0o440}})
    if spec.tls is not None:
        env.append({"name": "ACCEL_TLS_DIR", "value": TLS_DIR})
        mounts.append({"name": "tls", "mountPath": TLS_DIR, "readOnly": True})
        volumes.append(
            {"name": "tls", "secret": {"secretName": spec.tls.secret_ref.name, "defaultMode": 0o440}}
        )
    container: Manifest = {
        "name": "server",
        "image": target.image,
        "imagePullPolicy": "IfNotPresent",
        "env": env,
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(spec, config),
        "securityContext": SECURITY,
        "volumeMounts": mounts,
        "startupProbe": _probe("live", periodSeconds=2, timeoutSeconds=5, failureThreshold=150),
        "livenessProbe": _probe("live", periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": _probe("ready", periodSeconds=2, timeoutSeconds=5, failureThreshold=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    pod: Manifest = {
        "serviceAccountName": owner.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": volumes,
    }
    if config.registry.secret_name:
        pod["imagePullSecrets"] = [{"name": config.registry.secret_name}]
    if spec.placement is not None and spec.placement.node_selector:
        pod["nodeSelector"] = dict(spec.placement.node_selector)
    if spec.placement is not None and spec.placement.tolerations:
        pod["tolerations"] = [toleration.dump() for toleration in spec.placement.tolerations]
    return pod


def revision_of(pod: Manifest) -> str:
    """Return the revision: pods that carry another one in accel.dev/revision are old."""
    return stable_hash(pod)


def deployment(owner: Owner, spec: AccelServiceSpec, pod: Manifest, strategy: Strategy) -> Manifest:
    """Return the Deployment."""
    labels = labels_for(SERVICE_LABEL, owner.name)
    rolling = {"maxSurge": strategy.surge, "maxUnavailable": strategy.unavailable}
    return child(
        "apps/v1",
        "Deployment",
        owner,
        owner.name,
        labels,
        spec={
            "replicas": wanted_replicas(spec),
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": NO_DEADLINE,
            "selector": {"matchLabels": selector(owner)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {**labels, REVISION_LABEL: revision_of(pod)}}, "spec": pod},
        },
    )


def service(owner: Owner, spec: AccelServiceSpec, given_out: int | None) -> Manifest:
    """Return the Service. `given_out` is the node port that clients know, if there is one yet."""
    kind = (
        spec.expose.type
        if spec.expose is not None and spec.expose.type is not None
        else ExposeType.CLUSTER_IP
    )
    entry: dict[str, Any] = {"name": "grpc", "port": port(spec), "protocol": "TCP", "targetPort": "grpc"}
    node_port = spec.expose.node_port if spec.expose is not None else None
    if kind is ExposeType.NODE_PORT and (node_port or given_out) is not None:
        entry["nodePort"] = node_port or given_out
    return child(
        "v1",
        "Service",
        owner,
        owner.name,
        labels_for(SERVICE_LABEL, owner.name),
        spec={"type": str(kind), "selector": selector(owner), "ports": [entry]},
    )


def surroundings(owner: Owner, spec: AccelServiceSpec, given_out: int | None = None) -> tuple[Manifest, ...]:
    """Return the children that do not depend on the image."""
    labels = labels_for(SERVICE_LABEL, owner.name)
    matching = {"matchLabels": selector(owner)}
    return (
        child("v1", "ServiceAccount", owner, owner.name, labels, automountServiceAccountToken=False),
        service(owner, spec, given_out),
        child(
            "policy/v1",
            "PodDisruptionBudget",
            owner,
            owner.name,
            labels,
            # One at a time; a pod that does not serve anyway never blocks a drain.
            spec={"maxUnavailable": 1, "selector": matching, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
        ),
        child(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            owner,
            owner.name,
            labels,
            spec={
                "podSelector": matching,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "ports": [
                            {"port": number, "protocol": "TCP"}
                            for number in (GRPC_PORT, HEALTH_PORT, METRICS_PORT)
                        ]
                    }
                ],
            },
        ),
    )
