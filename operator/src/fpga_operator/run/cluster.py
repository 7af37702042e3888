"""The few requests that the operator makes, as JSON over kubernetes.aio's transport.

Manifests stay dictionaries: the client's models would drop fields that a newer API server knows.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

from fpga_operator.api.base import API_VERSION
from fpga_operator.errors import ApiFailure
from fpga_operator.plan.types import Manifest

CHILDREN_MANAGER = "fpga-operator"
STATUS_MANAGER = "fpga-operator-status"
TIMEOUT_SECONDS = 30.0


Requested = Callable[[str, str, int], None]  # method, host, HTTP status or 0


@dataclass(frozen=True)
class Resource:
    """Where a kind lives in the API."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True

    @property
    def prefix(self) -> str:
        """Path of its group and version."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"

    @property
    def group(self) -> str:
        """Its group; the core group is nameless."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Its version."""
        return self.api_version.rpartition("/")[2]


RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource("FpgaModel", API_VERSION, "fpgamodels"),
        Resource("AccelImage", API_VERSION, "accelimages"),
        Resource("AccelService", API_VERSION, "accelservices"),
        Resource("FpgaNode", API_VERSION, "fpganodes", namespaced=False),
        Resource("Job", "batch/v1", "jobs"),
        Resource("Deployment", "apps/v1", "deployments"),
        Resource("ReplicaSet", "apps/v1", "replicasets"),
        Resource("Pod", "v1", "pods"),
        Resource("Service", "v1", "services"),
        Resource("ServiceAccount", "v1", "serviceaccounts"),
        Resource("Secret", "v1", "secrets"),
        Resource("ConfigMap", "v1", "configmaps"),
        Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
        Resource("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
        Resource("Node", "v1", "nodes", namespaced=False),
        Resource("Event", "events.k8s.io/v1", "events"),
    )
}


class Cluster:
    """The API server."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self.requested: Requested = lambda _method, _host, _status: None  # is told of every request

    @classmethod
    async def connect(cls) -> "Cluster":
        """Log in with the pod's service account, else with the kubeconfig.

        A connection is not made yet: an API server that is down is waited for by whoever asks first.
        """
        configuration = Configuration()
        try:
            kubeconfig.load_incluster_config(client_configuration=configuration)
        except kubeconfig.ConfigException:
            await kubeconfig.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = 16
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return the live object, or None."""
        try:
            return await self._request("GET", self._path(kind, namespace, name))
        except ApiFailure as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        kind: str,
        selector: str = "",
        *,
        metadata_only: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> list[Manifest]:
        """Return the objects of a kind in all namespaces; metadata_only leaves spec and status on the server."""
        found: list[Manifest] = []
        token = ""
        while True:
            query = {"limit": "500", **({"labelSelector": selector} if selector else {})}
            if token:
                query["continue"] = token
            accept = (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
                if metadata_only
                else "application/json"
            )
            answer = await self._request(
                "GET", self._path(kind, "", ""), query=query, accept=accept, timeout_seconds=timeout_seconds
            )
            found += answer.get("items") or []
            token = answer.get("metadata", {}).get("continue", "")
            if not token:
                return found

    async def each(self, kind: str) -> AsyncIterator[Manifest]:
        """Yield the objects of a kind in all namespaces, one page in memory at a time."""
        token = ""
        while True:
            query = {"limit": "200", **({"continue": token} if token else {})}
            answer = await self._request("GET", self._path(kind, "", ""), query=query)
            for item in answer.get("items") or []:
                yield item
            token = answer.get("metadata", {}).get("continue", "")
            if not token:
                return

    async def apply(self, manifest: Manifest, *, force: bool, dry_run: bool = False) -> Manifest:
        """Apply a child on the server's side, as field manager fpga-operator."""
        path = self._path(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        return await self._patch(path, manifest, CHILDREN_MANAGER, force=force, dry_run=dry_run)

    async def apply_status(
        self, kind: str, namespace: str, name: str, uid: str, status: Manifest
    ) -> Manifest:
        """Apply the whole status, as field manager fpga-operator-status. The uid keeps it off a successor."""
        body = {
            "apiVersion": RESOURCES[kind].api_version,
            "kind": kind,
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {}), "uid": uid},
            "status": status,
        }
        return await self._patch(
            self._path(kind, namespace, name) + "/status", body, STATUS_MANAGER, force=True
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object.

        Raises:
            ApiFailure: with status 409 when it exists.
        """
        path = self._path(manifest["kind"], manifest["metadata"].get("namespace", ""), "")
        return await self._request("POST", path, body=manifest, query={"fieldManager": CHILDREN_MANAGER})

    async def replace(self, manifest: Manifest) -> Manifest:
        """Write the whole object; its resourceVersion must be the live one's."""
        meta = manifest["metadata"]
        path = self._path(manifest["kind"], meta["namespace"], meta["name"])
        return await self._request("PUT", path, body=manifest, query={"fieldManager": CHILDREN_MANAGER})

    async def peek(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object's metadata by an empty patch that the server only rehearses; None when it is not there.

        For Secrets, which the operator has no right to read. Their data is dropped here, unseen.
        """
        try:
            answer = await self._request(
                "PATCH",
                self._path(kind, namespace, name),
                body={},
                query={"dryRun": "All"},
                content_type="application/merge-patch+json",
                accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            )
        except ApiFailure as error:
            if error.status == 404:
                return None
            raise
        return {"metadata": answer["metadata"]}

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> Manifest | None:
        """Delete exactly this object, its dependants in the background; gone already is fine.

        Return a pod that takes its grace period to end, else None.
        """
        options: Manifest = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            answer = await self._request("DELETE", self._path(kind, namespace, name), body=options)
        except ApiFailure as error:
            if error.status not in (404, 409):
                raise
            return None
        ending = answer.get("kind") == "Pod" and answer["metadata"].get("deletionGracePeriodSeconds")
        return answer if ending else None

    # -- transport ------------------------------------------------------------------------------------------

    @staticmethod
    def _path(kind: str, namespace: str, name: str) -> str:
        resource = RESOURCES[kind]
        parts = [resource.prefix]
        if resource.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace)}")
        parts.append(resource.plural)
        if name:
            parts.append(quote(name))
        return "/".join(parts)

    async def _patch(
        self, path: str, body: Manifest, manager: str, *, force: bool, dry_run: bool = False
    ) -> Manifest:
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        return await self._request(
            "PATCH", path, body=body, query=query, content_type="application/apply-patch+yaml"
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Manifest:
        what = f"{method} {path}"
        serialized = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Content-Type": content_type, "Accept": accept},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._api.call_api(*serialized, _request_timeout=timeout_seconds)
            data = await response.read()
        except ApiException as error:
            self._count(method, error.status or 0)
            raise _failure(what, error.status or 0, error.body or "") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, 0)
            raise ApiFailure(what, 0, type(error).__name__, str(error)) from error
        self._count(method, response.status)
        if not 200 <= response.status <= 299:
            raise _failure(what, response.status, data.decode(errors="replace"))
        answer = json.loads(data)
        assert isinstance(answer, dict)
        return answer

    def _count(self, method: str, status: int) -> None:
        self.requested(method, urlsplit(self._api.configuration.host).netloc, status)


def _failure(what: str, status: int, body: str | bytes) -> ApiFailure:
    """Read the server's Status object. Bodies of requests are never part of the message: they may hold keys."""
    try:
        answer = json.loads(body)
        return ApiFailure(what, status, str(answer.get("reason", "")), str(answer.get("message", "")))
    except (ValueError, AttributeError):
        return ApiFailure(what, status, "", "no readable answer")
