"""Whether a cluster is well, as its own API server tells."""

import datetime as dt
from typing import Any

from accel_cluster.api import Api
from accel_cluster.settings import Settings

DEPLOYMENTS = ("kube-system/coredns", "local-path-storage/local-path-provisioner")


def node_states(api: Api) -> dict[str, bool]:
    """Return whether each registered node is Ready."""
    return {
        item["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in item["status"].get("conditions", [])
        )
        for item in api.get("/api/v1/nodes")["items"]
    }


def unready(settings: Settings, api: Api) -> list[str]:
    """Return the names of the nodes and Deployments ("namespace/name") that are not ready."""
    states = node_states(api)
    waiting = [node.name for node in settings.nodes if not states.get(node.name)]
    for place in DEPLOYMENTS:
        namespace, name = place.split("/")
        deployment: dict[str, Any] = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        if not deployment.get("status", {}).get("availableReplicas"):
            waiting.append(place)
    return waiting


def is_ready_since(node: str, since: float, api: Api) -> bool:
    """Return whether the node has called itself Ready after `since` (seconds since the epoch).

    The condition as such may still be what the node said before it was killed.
    """
    conditions = api.get(f"/api/v1/nodes/{node}")["status"]["conditions"]
    ready = next(condition for condition in conditions if condition["type"] == "Ready")
    said = dt.datetime.fromisoformat(ready["lastHeartbeatTime"]).timestamp()  # whole seconds
    return ready["status"] == "True" and said > since
