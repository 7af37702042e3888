"""Clients of services, found as users' programs find them: by the client's own code, with the tests' kubectl."""

from pathlib import Path

from accel import PredictionClient, service
from accel.kubectl import Kubectl
from kube import Kube


def users(kube: Kube) -> Kubectl:
    """Return the client's kubectl for the tests' namespace and cluster."""
    return Kubectl(kube.namespace, program=str(kube.kubectl), kubeconfig=kube.kubeconfig)


def client_of(kube: Kube, name: str, ca: Path | None = None) -> PredictionClient:
    """Return a client of a service as the operator publishes it: address, key, TLS."""
    return service.client_of(users(kube), name, ca)


def address_and_key(kube: Kube, name: str) -> tuple[tuple[str, int], str]:
    """Return what a client needs to know, for tests that call with something else."""
    endpoint = service.endpoint_of(kube.get(service.SERVICE, name))
    return (endpoint.host, endpoint.port), service.key_of(users(kube), endpoint)
