"""Short words for tests on a real API server: a user's world, and the operator as a process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fpga_operator.run.cluster import RESOURCES, Cluster
from servers import OPERATOR, Server, free_port

Object = dict[str, Any]
PATIENCE_SECONDS = 30.0


class World:
    """Short words for tests: apply, get, edit, delete, await a condition of the world."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.patience = PATIENCE_SECONDS

    async def apply(self, kind: str, name: str, spec: Object, **meta: Any) -> Object:
        """Create or change an object as a user does with kubectl apply --server-side."""
        body = {
            "apiVersion": RESOURCES[kind].api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, **meta},
            "spec": spec,
        }
        return await self.cluster._patch(
            self.cluster._path(kind, self.namespace, name), body, "user", force=True
        )

    async def patch(self, kind: str, name: str, operations: list[Object]) -> Object:
        """Edit an object by hand, with a JSON patch."""
        return await self.cluster._request(
            "PATCH",
            self.cluster._path(kind, self.namespace, name),
            body=operations,
            query={"fieldManager": "kubectl-edit"},
            content_type="application/json-patch+json",
        )

    async def get(self, kind: str, name: str) -> Object | None:
        """Return an object, or None."""
        return await self.cluster.get(kind, self.namespace, name)

    async def live(self, kind: str, name: str) -> Object:
        """Return an object that must be there."""
        found = await self.get(kind, name)
        assert found is not None, f"{kind} {name} is not there"
        return found

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        await self.cluster.delete(kind, self.namespace, name, "")

    async def owned(self, kind: str, label: str, name: str) -> list[Object]:
        """Return the children of a kind that carry our label."""
        return [
            item | {"kind": kind}
            for item in await self.cluster.list(kind, f"accel.dev/{label}={name}")
            if item["metadata"]["namespace"] == self.namespace
        ]

    async def until(
        self,
        what: str,
        check: Callable[[], Awaitable[Any]],
        seconds: float = 0.0,
        story: object = None,
        every: float = 0.1,
    ) -> Any:
        """Await a truth about the world; its value is returned. The message says what it was in the end.

        every: pause between two looks, seconds.
        """
        seconds = seconds or self.patience
        seen: Any = None
        try:
            async with asyncio.timeout(seconds):
                while not (seen := await check()):  # noqa: ASYNC110 - the world gives no signal
                    await asyncio.sleep(every)
        except TimeoutError:
            pytest.fail(f"not within {seconds} s: {what}; last seen: {story or seen!r}")
        return seen

    async def condition(self, kind: str, name: str, condition: str) -> Object:
        """Return a condition, or an empty one."""
        body = await self.get(kind, name) or {}
        entries = body.get("status", {}).get("conditions", [])
        found: Object = next((entry for entry in entries if entry["type"] == condition), {})
        return found

    async def until_reason(self, kind: str, name: str, reason: str) -> Object:
        """Await Ready with a reason; return the object."""
        last: list[Object] = [{}]

        async def check() -> bool:
            last[0] = await self.condition(kind, name, "Ready")
            return last[0].get("reason") == reason

        await self.until(f"{kind} {name} has reason {reason}", check, story=last)
        return await self.live(kind, name)


class Operator:
    """The process; can be killed and started again."""

    def __init__(self, server: Server, config: Path) -> None:
        self.server = server
        self.config = config
        self.url = ""  # of a proxy before the API server
        self.python = [sys.executable]
        self.log = server.folder / "operator.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.health, self.metrics = free_port(), free_port()

    def start(self) -> None:
        """Start it."""
        program = [*self.python, "-m", "fpga_operator", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, f"--health-port={self.health}", f"--metrics-port={self.metrics}"],
                env={**os.environ, "KUBECONFIG": str(self.server.kubeconfig(OPERATOR, self.url))},
                stderr=log,
            )

    def kill(self) -> None:
        """End it with -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as the kubelet does."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
