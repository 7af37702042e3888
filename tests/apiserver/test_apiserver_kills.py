"""The operator killed with -9 at its own writes, before and after they reach the API server, through a whole chain.

The end must be that of a run without kills: the same status, the same children, one Job for each input.
"""

import os
import re
from collections import Counter
from typing import Any

import pytest
from chain import D1, I1, MODEL, build, convert
from proxy import Proxy, Write
from simulated import Kubelet
from world import Operator, World

Object = dict[str, Any]
FULL = bool(os.environ.get("ACCEL_TEST_FULL"))
CHILDREN = ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy")
PATIENCE_SECONDS = (
    600.0 if FULL else 240.0
)  # a start of the operator takes seconds, and it is started again and again
# name: every how many writes, from which on, and whether the first kill is before its write; how many kills at least
SOME = {"every second write": (2, 1, True, 9)}
ALL = {
    **SOME,
    "every second write, the other side": (2, 1, False, 9),
    "the writes between": (2, 0, True, 9),
    "the writes between, the other side": (2, 0, False, 9),
    "every third write": (3, 0, True, 7),
    "every third write, the other side": (3, 0, False, 7),
}  # 50 kills at least. At every single write nothing would move: each process begins with one for the keys.
RUNS = ALL if FULL else SOME


class Killer:
    """Kills the operator at every so many writes, in turn before the write and after it, and starts it again."""

    def __init__(self, operator: Operator, namespace: str, every: int, offset: int, *, before: bool) -> None:
        self._operator = operator
        self._namespace = f"/{namespace}/"
        self._every, self._offset = every, offset
        self._before = before
        self._count = 0
        self._due: set[str] = set()  # writes after which to kill
        self.story: list[str] = []

    async def before(self, method: str, path: str) -> bool:
        if self._namespace not in path:
            return True
        self._count += 1
        if self._count % self._every != self._offset:
            return True
        if not self._before:
            self._due.add(path)
            return True
        return self._kill("before", method, path)

    async def after(self, method: str, path: str) -> bool:
        if path not in self._due:
            return True
        self._due.discard(path)
        return self._kill("after", method, path)

    def _kill(self, side: str, method: str, path: str) -> bool:
        self._operator.kill()
        self._operator.start()
        self._before = not self._before
        self.story.append(f"{side} {method} {path}")
        return False


async def chain(world: World, kubelet: Kubelet, name: str, node: str) -> None:
    """Bring three objects up, the machinery of the cluster played by the test."""
    await world.apply("AccelService", name, {"imageRef": {"name": name}})
    await world.apply("AccelImage", name, {"modelRef": {"name": name}})
    await world.apply("FpgaModel", name, MODEL)
    await convert(world, kubelet, name, 1, D1)
    await world.until_reason("FpgaModel", name, "Converted")
    await build(world, kubelet, name, 1, D1, I1)
    deployment = await world.until("a Deployment", lambda: world.get("Deployment", name))
    await kubelet.server_pod(deployment, node, ready=True)
    await kubelet.deployed(await world.live("Deployment", name))
    await world.until_reason("AccelService", name, "Serving")
    await world.until_reason("AccelImage", name, "Built")


async def end_state(world: World, name: str) -> Object:
    """Return what is there in the end, without what differs between any two runs: times, uids, random names."""
    found: Object = {}
    for kind in ("FpgaModel", "AccelImage", "AccelService"):
        found[kind] = (await world.live(kind, name))["status"]
    for kind in CHILDREN:
        live = await world.live(kind, name)
        found[kind] = {"spec": live.get("spec"), "labels": live["metadata"].get("labels")}
    found["Secret"] = sorted((await world.live("Secret", f"{name}-keys"))["data"])
    for label in ("model", "image"):
        found[f"Jobs of the {label}"] = [job["spec"] for job in await world.owned("Job", label, name)]
    plain: Object = _plain(found, world.namespace)
    return plain


VARYING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"net-[0-9a-f]{9,10}\b", "net-RANDOM"),
    (r"\b[0-9a-f]{10}\b", "REVISION"),  # of a template that names the namespace
)
GIVEN_OUT = ("clusterIP", "clusterIPs", "nodePort", "uid", "lastTransitionTime", "createdTime")


def _plain(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, namespace) for key, item in value.items() if key not in GIVEN_OUT}
    if isinstance(value, list):
        return [_plain(item, namespace) for item in value]
    if isinstance(value, str):
        text = value.replace(namespace, "NAMESPACE")
        for pattern, word in VARYING:
            text = re.sub(pattern, word, text)
        return text
    return value


async def told(world: World) -> Counter[tuple[str, str]]:
    """Count the events of the namespace by object and reason."""
    events = await world.cluster.list("Event")
    mine = [event for event in events if event["metadata"]["namespace"] == world.namespace]
    return Counter((event["regarding"]["kind"], event["reason"]) for event in mine)


def creations(writes: list[Write], namespace: str) -> Counter[str]:
    """Count how often each object was created, Events apart."""
    return Counter(
        write.path
        for write in writes
        if write.created and namespace in write.path and "/events" not in write.path
    )


@pytest.fixture
async def undisturbed(world: World) -> World:
    """A second namespace, for the run without kills."""
    other = World(world.cluster, f"{world.namespace}-calm")
    meta = {"metadata": {"name": other.namespace}}
    await world.cluster._request("POST", "/api/v1/namespaces", body=meta)
    return other


@pytest.mark.timeout(1800 if FULL else 580)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
async def test_kills_at_writes_change_nothing_about_the_end(
    world: World,
    undisturbed: World,
    kubelet: Kubelet,
    operator: Operator,
    proxy: Proxy,
    run: tuple[int, int, bool, int],
) -> None:
    await kubelet.node(
        "node-kills", "192.0.2.40", devices=9
    )  # enough at any moment: nobody waits for a device
    await chain(undisturbed, kubelet, "net", "node-kills")
    every, offset, before, kills = run
    killer = Killer(operator, world.namespace, every, offset, before=before)
    proxy.before, proxy.after = killer.before, killer.after
    world.patience = PATIENCE_SECONDS
    await chain(world, kubelet, "net", "node-kills")
    story = "\n".join(killer.story)
    assert len(killer.story) >= kills, story
    assert await end_state(world, "net") == await end_state(undisturbed, "net"), story
    made = creations(proxy.writes, f"/{world.namespace}/")
    assert made == creations(proxy.writes, f"/{undisturbed.namespace}/").__class__(dict.fromkeys(made, 1)), (
        story
    )
    assert len(await world.owned("Job", "model", "net")) == 1
    assert len(await world.owned("Job", "image", "net")) == 1
    calm, shaken = await told(undisturbed), await told(world)
    repeated = {what: count for what, count in shaken.items() if count > max(1, calm[what])}
    assert not repeated, f"{repeated}\n{story}"
