"""A cluster that acts by itself: Jobs run and succeed, Deployments get pods, pods get devices while there are any.

Built on watches like the real controllers, so that it costs little beside the operator that is looked at.
"""

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from fpga_operator.plan.jobview import finished
from fpga_operator.plan.types import IMAGE_LABEL, MODEL_LABEL
from servers import ADMIN, Server
from simulated import Kubelet, built, ended, pushed

Object = dict[str, Any]
NO_DEVICE = "0/2 nodes are available: 2 Insufficient fpga.intel.com/arria10."


def digest(kind: str, name: str) -> str:
    """Return the digest that a Job of this object ends with."""
    return "sha256:" + hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()


class Machinery:
    """Runs in one namespace, with as many devices as the nodes have."""

    def __init__(self, server: Server, kubelet: Kubelet, namespace: str, nodes: dict[str, int]) -> None:
        self._server, self._kubelet, self._namespace = server, kubelet, namespace
        self._holders: dict[str, dict[str, Object | None]] = {
            node: {f"fpga{number}": None for number in range(count)} for node, count in nodes.items()
        }
        self._unfinished: set[str] = set()
        self._served: set[str] = set()  # uids of Deployments with a pod
        self._steps: set[asyncio.Task[None]] = set()
        self._scheduling = asyncio.Lock()
        self.most_jobs = 0  # that ran at once
        self.jobs = 0  # that were created

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Create the nodes and act until the block ends.

        Raises:
            Exception: whatever a part of it ended with.
        """
        for index, (node, devices) in enumerate(self._holders.items()):
            await self._kubelet.node(node, f"192.0.2.{index + 101}", devices=len(devices))
        parts = [asyncio.create_task(self._jobs()), asyncio.create_task(self._deployments())]
        try:
            yield
        finally:
            for task in (*parts, *self._steps):
                task.cancel()
            done = await asyncio.gather(*parts, *self._steps, return_exceptions=True)
        for result in done:
            if isinstance(result, Exception):
                raise result

    async def _watch(self, path: str) -> AsyncIterator[Object]:
        """Yield the events of a collection, those of what is there first."""
        context = ssl.create_default_context(cafile=str(self._server.folder / "certs" / "apiserver.crt"))
        headers = {"Authorization": f"Bearer {ADMIN}"}
        async with (
            aiohttp.ClientSession(headers=headers, read_bufsize=2**22) as session,
            session.get(
                f"{self._server.url}{path}",
                params={"watch": "1", "resourceVersion": "0"},
                ssl=context,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as answer,
        ):
            async for line in answer.content:
                yield json.loads(line)

    def _step(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._steps.add(task)
        task.add_done_callback(lambda done: self._steps.discard(done) if not done.exception() else None)

    async def _jobs(self) -> None:
        async for event in self._watch(f"/apis/batch/v1/namespaces/{self._namespace}/jobs"):
            job = event["object"]
            uid = job["metadata"]["uid"]
            if event["type"] == "ADDED" and not finished(job):
                self._unfinished.add(uid)
                self.jobs += 1
                self.most_jobs = max(self.most_jobs, len(self._unfinished))
                self._step(self._run(job))
            elif event["type"] == "DELETED" or finished(job):
                self._unfinished.discard(uid)

    async def _run(self, job: Object) -> None:
        labels = job["metadata"]["labels"]
        if name := labels.get(MODEL_LABEL):
            done = {"schema": "accel.dev/job-result/v1", "ok": True}
            states = {
                "fetch": ended({**done, "step": "fetch"}),
                "convert": ended({**done, "step": "convert"}),
                "push": ended(pushed(1, digest("model", name))),
            }
        else:
            name = labels[IMAGE_LABEL]
            result = built(1, 1, digest("model", name), digest("image", name))
            states = {"build": ended(result)}
        await self._kubelet.job_pod(job, states, "Succeeded")
        await self._kubelet.end_job(job)

    async def _deployments(self) -> None:
        async for event in self._watch(f"/apis/apps/v1/namespaces/{self._namespace}/deployments"):
            deployment = event["object"]
            meta = deployment["metadata"]
            if event["type"] == "DELETED":
                continue
            if deployment.get("status", {}).get("observedGeneration", 0) < meta["generation"]:
                self._step(self._deploy(deployment))

    async def _deploy(self, deployment: Object) -> None:
        uid = deployment["metadata"]["uid"]
        if uid not in self._served:
            self._served.add(uid)
            await self._place(deployment)
        await self._kubelet.deployed(deployment)

    async def _place(self, deployment: Object) -> None:
        """Create the pod, on a free device or waiting for one."""
        async with self._scheduling:
            free = [(n, d) for n, held in self._holders.items() for d, who in held.items() if who is None]
            if free:
                node, device = free[0]
                pod = await self._kubelet.server_pod(deployment, node, ready=True)
                self._holders[node][device] = {"namespace": self._namespace, "pod": pod["metadata"]["name"]}
                await self._kubelet.devices(node, self._holders[node])
                return
        pod = await self._kubelet.server_pod(deployment, "", ready=False)
        await self._kubelet.pod_conditions(pod, node="", ready=False, why=NO_DEVICE)
