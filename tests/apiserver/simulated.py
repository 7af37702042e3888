"""What controllers and the kubelet write: status of Jobs, pods and Deployments, and nothing else.

Tests call these where a cluster would act by itself. Objects go through the real API server's validation.
"""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from fpga_operator.run.cluster import Cluster

Object = dict[str, Any]
DIGEST = "sha256:" + "a" * 64


def now() -> str:
    """Return the time as metav1.Time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Writes as the admin what the machinery of a node would."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes: list[str] = []

    async def _status(self, path: str, status: Object) -> Object:
        return await self.cluster._request(
            "PATCH", f"{path}/status", body={"status": status}, content_type="application/merge-patch+json"
        )

    async def job_pod(self, job: Object, containers: dict[str, Object], phase: str = "Running") -> Object:
        """Create the Job's pod as the Job controller would, with these container states."""
        meta, template = job["metadata"], job["spec"]["template"]
        pod = await self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{meta['name']}-{uuid.uuid4().hex[:5]}",
                    "namespace": meta["namespace"],
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [
                        {
                            "apiVersion": "batch/v1",
                            "kind": "Job",
                            "name": meta["name"],
                            "uid": meta["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": template["spec"],
            }
        )
        await self.pod_status(pod, containers, phase)
        return pod

    async def pod_status(self, pod: Object, containers: dict[str, Object], phase: str) -> None:
        """Write container states; names of init containers go where the kubelet puts them."""
        init = [c["name"] for c in pod["spec"].get("initContainers", [])]
        main = [c["name"] for c in pod["spec"]["containers"]]

        def statuses(names: list[str]) -> list[Object]:
            return [
                {
                    "name": name,
                    "state": containers[name],
                    "ready": False,
                    "restartCount": 0,
                    "image": "x",
                    "imageID": "x",
                }
                for name in names
                if name in containers
            ]

        await self._status(
            f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}",
            {"phase": phase, "initContainerStatuses": statuses(init), "containerStatuses": statuses(main)},
        )

    async def end_job(self, job: Object, *, reason: str = "") -> None:
        """Write the Job's end: complete, or failed for that reason."""
        moment = now()
        status: Object = {"startTime": moment, "uncountedTerminatedPods": {}}
        if reason:
            ends = ("FailureTarget", "Failed")
            status |= {"failed": 1}
        else:
            ends = ("SuccessCriteriaMet", "Complete")
            status |= {"succeeded": 1, "completionTime": moment}
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": reason,
                "lastTransitionTime": moment,
            }
            for kind in ends
        ]
        path = f"/apis/batch/v1/namespaces/{job['metadata']['namespace']}/jobs/{job['metadata']['name']}"
        await self._status(path, {**status, "conditions": conditions})

    async def server_pod(self, deployment: Object, node: str, *, ready: bool) -> Object:
        """Create a pod of the Deployment's present template on a node, ready or not."""
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        name = f"{meta['name']}-{uuid.uuid4().hex[:9]}"
        pod = await self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": template["metadata"]["labels"],
                },
                "spec": {**template["spec"], **({"nodeName": node} if node else {})},
            }
        )
        await self.pod_conditions(pod, node=node, ready=ready)
        return pod

    async def pod_conditions(self, pod: Object, *, node: str, ready: bool, why: str = "") -> None:
        """Write scheduling and readiness."""
        moment = now()
        flags = {"PodScheduled": bool(node), "PodReadyToStartContainers": bool(node), "Ready": ready}
        conditions = [
            {"type": kind, "status": "True" if flag else "False", "lastTransitionTime": moment}
            for kind, flag in flags.items()
        ]
        if not node:
            conditions[0] |= {"reason": "Unschedulable", "message": why}
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        await self._status(path, {"phase": "Running" if node else "Pending", "conditions": conditions})

    async def kill(self, pod: Object) -> None:
        """Remove a pod at once, as the kubelet does when its containers have ended."""
        meta = pod["metadata"]
        await self.cluster._request(
            "DELETE",
            f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}",
            body={"gracePeriodSeconds": 0},
        )

    async def deployed(self, deployment: Object) -> None:
        """Say that the Deployment controller has seen the newest template."""
        meta = deployment["metadata"]
        path = f"/apis/apps/v1/namespaces/{meta['namespace']}/deployments/{meta['name']}"
        await self._status(path, {"observedGeneration": meta["generation"]})

    async def node(self, name: str, address: str, devices: int, sku: str = "") -> None:
        """Create a ready Node and its FpgaNode; sku: the kind of its cards, as an older device plugin does not tell."""
        self.nodes.append(name)
        await self.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        # Admission taints every new node as not ready; the node controller takes that off again.
        await self.cluster._request(
            "PATCH",
            f"/api/v1/nodes/{name}",
            body={"spec": {"taints": None}},
            content_type="application/merge-patch+json",
        )
        await self._status(
            f"/api/v1/nodes/{name}",
            {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}],
            },
        )
        await self.cluster.create(
            {"apiVersion": "accel.dev/v1alpha1", "kind": "FpgaNode", "metadata": {"name": name}}
        )
        await self.devices(name, {f"fpga{number}": None for number in range(devices)}, sku)

    async def devices(self, node: str, holders: dict[str, Object | None], sku: str = "") -> None:
        """Write who holds the node's devices, as the device plugin does."""
        devices = [
            {
                "id": device,
                "health": "Healthy",
                "state": "idle",
                **({"holder": holder} if holder else {}),
                **({"sku": sku} if sku else {}),
            }
            for device, holder in holders.items()
        ]
        await self._status(f"/apis/accel.dev/v1alpha1/fpganodes/{node}", {"devices": devices})


def ended(message: Object, code: int = 0) -> Object:
    """Return the state of a container that ended with a termination message."""
    return {
        "terminated": {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": json.dumps(message),
            "startedAt": now(),
            "finishedAt": now(),
        }
    }


def pushed(version: int, digest: str = DIGEST, sku: str = "", **more: Any) -> Object:
    """Return the push container's result; sku: the kind of card that the version is for."""
    entry = {
        "version": version,
        "digest": digest,
        "sourceSha256": "b" * 64,
        "createdTime": now(),
        "sizeBytes": 10,
        **({"sku": sku} if sku else {}),
    }
    return {
        "schema": "accel.dev/job-result/v1",
        "step": "push",
        "ok": True,
        "model": entry,
        "versions": [entry],
        "versionsCut": version > 1,
        "inputs": [{"name": "image_bytes:0", "alias": "images", "dtype": "string", "shape": [-1]}],
        "outputs": [{"name": "probabilities:0", "alias": "p", "dtype": "float32", "shape": [-1, 10]}],
        "device": {"fits": True, "tiles": 3, "vectors": 2, "latencyMs": 0.5, "offloadedOps": 5, "hostOps": 2},
        "parity": {"maxAbs": 0.01, "maxRel": 0.02, "top1Agreement": 1.0, "samples": 4},
        "log": f"oci:///models/x/y@{digest}",
        **more,
    }


def built(version: int, model_version: int, model_digest: str, digest: str) -> Object:
    """Return the build container's result."""
    entry = {
        "version": version,
        "digest": digest,
        "modelVersion": model_version,
        "modelDigest": model_digest,
        "reason": "Spec",
        "createdTime": now(),
        "sizeBytes": 100,
    }
    return {
        "schema": "accel.dev/job-result/v1",
        "step": "build",
        "ok": True,
        "image": entry,
        "versions": [entry],
        "versionsCut": version > 1,
        "log": f"oci:///images/x/y@{digest}",
    }


def failed(step: str, reason: str, message: str, *, retry: bool = False) -> Object:
    """Return a failure's result."""
    return {
        "schema": "accel.dev/job-result/v1",
        "step": step,
        "ok": False,
        "reason": reason,
        "message": message,
        "retry": retry,
    }
