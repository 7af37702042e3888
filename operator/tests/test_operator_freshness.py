"""Whether a watch is known to be late: lists against deliveries, on a clock that tests move."""

from typing import Any, cast

import pytest
from fpga_operator.errors import ApiFailure
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.freshness import GRACE_SECONDS, STALLED_SECONDS, Freshness
from fpga_operator.run.store import Store

Object = dict[str, Any]
DOWN = ApiFailure("GET /x", 0, "ClientConnectorError", "connection refused")
REFUSED = ApiFailure("GET /x", 403, "Forbidden", "no")


def body(kind: str, name: str, version: int) -> Object:
    meta = {"name": name, "namespace": "demo", "uid": f"{kind}-{name}", "resourceVersion": str(version)}
    return {"kind": kind, "metadata": meta}


class World:
    """An API server's lists, a watch that delivers what it is told to, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.objects: dict[str, Object] = {}
        self.failure: dict[str, ApiFailure] = {}
        self.vanished: list[str] = []
        self.store = Store()
        self.freshness = Freshness(cast(Cluster, self), self.store, self._gone, lambda: self.now)

    async def list(self, kind: str, *_: Any, **__: Any) -> list[Object]:
        if failure := self.failure.get(kind) or self.failure.get("*"):
            raise failure
        return [item for item in self.objects.values() if item["kind"] == kind]

    def _gone(self, gone: Object) -> None:
        self.vanished.append(gone["metadata"]["name"])

    def write(self, kind: str, name: str, version: int, *, delivered: bool = True) -> None:
        found = body(kind, name, version)
        self.objects[found["metadata"]["uid"]] = found
        if delivered:
            self.deliver(found)

    def deliver(self, found: Object) -> None:
        self.freshness.delivered(found)
        self.store.put(found)

    async def check(self, after: float) -> None:
        self.now += after
        await self.freshness.check()


@pytest.fixture
async def world() -> World:
    return World()


async def test_an_idle_world_is_fresh_for_ever(world: World) -> None:
    world.write("FpgaModel", "m", 5)
    for _ in range(20):
        await world.check(after=STALLED_SECONDS)
    assert world.freshness.silent() == ""
    assert world.freshness.stalled() == ""


async def test_a_change_that_is_not_delivered_is_a_silent_watch_and_then_a_stalled_one(world: World) -> None:
    world.write("FpgaModel", "m", 5)
    world.write("FpgaModel", "m", 6, delivered=False)
    await world.check(after=30)
    assert world.freshness.silent() == "", "it may be under way"
    await world.check(after=GRACE_SECONDS)
    assert world.freshness.silent() == "the watch of FpgaModel has missed demo/m for 15 s"
    assert world.freshness.stalled() == ""
    await world.check(after=STALLED_SECONDS)
    assert "FpgaModel has missed demo/m" in world.freshness.stalled()


async def test_a_new_object_that_is_not_delivered_counts_as_well(world: World) -> None:
    await world.check(after=30)
    world.write("AccelImage", "i", 7, delivered=False)
    await world.check(after=30)
    await world.check(after=GRACE_SECONDS)
    assert "AccelImage" in world.freshness.silent()


async def test_the_operators_own_write_is_no_delivery(world: World) -> None:
    world.write("FpgaModel", "m", 5)
    world.write("FpgaModel", "m", 6, delivered=False)
    world.store.put(body("FpgaModel", "m", 6))  # the answer to its own status write
    await world.check(after=30)
    await world.check(after=GRACE_SECONDS)
    assert "FpgaModel" in world.freshness.silent()


async def test_a_late_delivery_ends_the_matter(world: World) -> None:
    world.write("FpgaModel", "m", 6, delivered=False)
    await world.check(after=30)
    world.write("FpgaModel", "m", 6)
    await world.check(after=GRACE_SECONDS)
    assert world.freshness.silent() == ""


async def test_an_object_that_changes_all_the_time_is_not_late_as_long_as_older_versions_arrive(
    world: World,
) -> None:
    for version in range(10, 60):
        world.write("Node", "n", version + 1, delivered=False)
        await world.check(after=10)
        world.deliver(body("Node", "n", version + 1))
    assert world.freshness.silent() == ""
    assert world.freshness.stalled() == ""


async def test_a_busy_watch_is_given_more_time_than_a_silent_one(world: World) -> None:
    world.write("Pod", "late", 6, delivered=False)
    await world.check(after=30)
    world.write("Pod", "other", 7)
    await world.check(after=GRACE_SECONDS)
    assert world.freshness.silent() == "", "it delivers, one after the other"
    world.now += STALLED_SECONDS
    world.write("Pod", "other", 8)
    await world.check(after=0)
    assert "Pod has missed demo/late" in world.freshness.stalled()


@pytest.mark.parametrize("failure", [DOWN, REFUSED], ids=["away", "refusing"])
async def test_an_api_server_that_does_not_answer_is_no_stall(world: World, failure: ApiFailure) -> None:
    world.write("FpgaModel", "m", 6, delivered=False)
    await world.check(after=30)
    world.failure["*"] = failure
    await world.check(after=10 * STALLED_SECONDS)
    assert world.freshness.silent() == ""
    assert world.freshness.stalled() == ""
    world.failure.clear()
    await world.check(after=1)
    assert world.freshness.silent() == "", "the clock starts anew after an outage"
    await world.check(after=GRACE_SECONDS)
    assert "FpgaModel" in world.freshness.silent()


async def test_what_is_gone_is_not_missed_and_its_unseen_deletion_is_told(world: World) -> None:
    world.write("Job", "seen", 5)
    world.write("Job", "never seen", 6, delivered=False)
    await world.check(after=30)
    world.objects.clear()
    await world.check(after=GRACE_SECONDS)
    assert world.freshness.silent() == ""
    assert world.vanished == ["seen"]


async def test_one_stalled_watch_is_found_among_live_ones(world: World) -> None:
    world.write("Job", "j", 5, delivered=False)
    for number in range(5):
        world.write("Pod", "p", 10 + number)
        await world.check(after=GRACE_SECONDS)
    assert "Job" in world.freshness.silent()
