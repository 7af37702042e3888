"""From an AccelService to a client of it: address from the status, key from the keys Secret, TLS from the
spec.
"""

import base64
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import AccelError, KubectlError, ServiceNotReady
from accel.kubectl import Kubectl
from accel.prediction import PredictionClient

__all__ = ["Endpoint", "client_from_service", "client_of", "connect", "endpoint_of", "key_of"]

SERVICE = "accelservices.accel.dev"


@dataclass(frozen=True)
class Endpoint:
    """Where a service can be dialled and what it wants."""

    name: str
    host: str
    port: int
    tls: bool
    auth: bool
    keys_secret: str
    inside_only: bool
    """Whether the address is only known inside the cluster (ClusterIP)."""


def endpoint_of(service: Mapping[str, Any]) -> Endpoint:
    """Read an AccelService object; raises ServiceNotReady with the operator's words while it has no
    address.
    """
    name = service["metadata"]["name"]
    spec, status = service.get("spec", {}), service.get("status", {})
    uri = status.get("scoringUri")
    if not uri:
        raise ServiceNotReady(f"AccelService {name} has no address yet: {_story(status)}")
    rest = uri.partition("://")[2] or uri
    host, _, port = rest.rstrip("/").rpartition(":")
    return Endpoint(
        name=name,
        host=host.strip("[]") if ":" not in host.strip("[]") else host,
        port=int(port),
        tls=bool(spec.get("tls")),
        auth=spec.get("auth", {}).get("enabled", True),
        keys_secret=status.get("keysSecret") or f"{name}-keys",
        inside_only=spec.get("expose", {}).get("type", "ClusterIP") == "ClusterIP",
    )


def client_from_service(
    name: str,
    namespace: str | None = None,
    *,
    context: str | None = None,
    root_certificates: str | Path | bytes | None = None,
) -> PredictionClient:
    """Return a client of an AccelService, with the address and the key that the cluster knows.

    Needs kubectl and the right to read the service and its keys Secret. A ClusterIP address works inside the
    cluster only. Raises ServiceNotReady, KubectlError, and AccelError where such an address does not resolve.
    """
    return client_of(Kubectl(namespace, context), name, root_certificates)


def client_of(
    kubectl: Kubectl, name: str, root_certificates: str | Path | bytes | None = None
) -> PredictionClient:
    """Do what client_from_service does, with a kubectl of the caller's."""
    endpoint = endpoint_of(kubectl.get(SERVICE, name))
    _must_resolve(endpoint)
    return _client(endpoint, key_of(kubectl, endpoint), endpoint.host, endpoint.port, root_certificates)


def _must_resolve(endpoint: Endpoint) -> None:
    """Raise AccelError for a name of the cluster's own where nobody knows it: a call would only say so late."""
    if not endpoint.host.endswith((".svc", ".svc.cluster.local")):
        return
    try:
        socket.getaddrinfo(endpoint.host, endpoint.port)
    except OSError as error:
        raise AccelError(
            f"AccelService {endpoint.name}: {endpoint.host} is known inside the cluster only, not here. "
            "Set its spec.expose.type to NodePort, or go through a port-forward: `kubectl accel "
            f"predict {endpoint.name}`, in Python accel.service.connect(Kubectl(namespace), {endpoint.name!r})"
        ) from error


@contextmanager
def connect(
    kubectl: Kubectl,
    name: str,
    *,
    port_forward: bool = False,
    root_certificates: str | Path | bytes | None = None,
) -> Iterator[PredictionClient]:
    """Yield a client of an AccelService, through a port-forward if asked or if the address is inside the
    cluster.
    """
    service = kubectl.get(SERVICE, name)
    if not _serves(service.get("status", {})):
        raise ServiceNotReady(f"AccelService {name} does not serve now: {_story(service.get('status', {}))}")
    endpoint = endpoint_of(service)
    key = key_of(kubectl, endpoint)
    if not (port_forward or endpoint.inside_only):
        with _client(endpoint, key, endpoint.host, endpoint.port, root_certificates) as client:
            yield client
        return
    with (
        kubectl.port_forward(f"service/{name}", _service_port(kubectl, name)) as port,
        _client(endpoint, key, "127.0.0.1", port, root_certificates) as client,
    ):
        yield client


def _client(
    endpoint: Endpoint, key: str, host: str, port: int, roots: str | Path | bytes | None
) -> PredictionClient:
    forwarded = host != endpoint.host
    return PredictionClient(
        host,
        port,
        use_ssl=endpoint.tls,
        access_token=key,
        service_name=endpoint.name,
        root_certificates=roots,
        server_name=endpoint.host if endpoint.tls and forwarded else None,
    )


def key_of(kubectl: Kubectl, endpoint: Endpoint) -> str:
    """Return a key that the service takes, empty where it asks for none. Needs the right to read its Secret."""
    if not endpoint.auth:
        return ""
    secret = kubectl.get("secret", endpoint.keys_secret)
    for slot in ("primary", "secondary"):
        value = secret.get("data", {}).get(slot)
        if value:
            return base64.b64decode(value).decode().strip()
    raise KubectlError(f"Secret {endpoint.keys_secret} has neither a primary nor a secondary key")


def _service_port(kubectl: Kubectl, name: str) -> int:
    ports = kubectl.get("service", name)["spec"]["ports"]
    chosen = next((port for port in ports if port.get("name") == "grpc"), ports[0])
    return int(chosen["port"])


def _serves(status: Mapping[str, Any]) -> bool:
    """Tell whether a replica serves as the operator last saw it; where it says nothing, the call will tell."""
    available = [
        entry["status"] for entry in status.get("conditions", []) if entry.get("type") == "Available"
    ]
    return available != ["False"]


def _story(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions", []):
        if condition.get("type") == "Ready":
            return f"{condition.get('reason')}: {condition.get('message')}"
    return "the operator has not looked at it"
