"""Random histories of ill devices, a second at a time: what must hold in each, whatever the order of events.

Looks are dropped at random, as events are; pods take a while to end and to load, as they do.
"""

import os
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.accelservice import AccelServiceStatus
from fpga_operator.config import Devices
from fpga_operator.plan.devices import DeviceView, NodeView
from operator_samples import NOW
from test_operator_service import LACK, live, plan, pod, spec

HYSTERESIS = Devices().unhealthy_seconds
LOAD_SECONDS, END_SECONDS = 3, 2
STORM, CALM = 90, 40  # seconds of random faults, and after them
NODES = tuple(NodeView(name, {}, (), True, "192.0.2.1") for name in "ab")
SEEDS = range(200 if os.environ.get("ACCEL_TEST_FULL") else 20)


@dataclass
class Card:
    well: bool = True
    since: int = -1000


@dataclass
class Replica:
    created: int
    place: str = ""
    placed: int = 0
    ending: int | None = None


@dataclass
class Cluster:
    """The machinery around the operator: set, scheduler, kubelet, servers."""

    wanted: int
    cards: dict[str, Card]
    chance: random.Random
    second: int = 0
    pods: dict[str, Replica] = field(default_factory=dict)
    born: int = 0
    status: AccelServiceStatus = field(default_factory=AccelServiceStatus)

    def age(self, place: str) -> int:
        return self.second - self.cards[place].since

    def ready(self, name: str) -> bool:
        replica = self.pods[name]
        if not replica.place or replica.ending is not None or not self.cards[replica.place].well:
            return False
        return min(self.age(replica.place), self.second - replica.placed) >= LOAD_SECONDS

    def idle(self) -> list[str]:
        held = {replica.place for replica in self.pods.values()}
        return [place for place, card in self.cards.items() if card.well and place not in held]

    def flip(self, place: str, *, well: bool) -> None:
        if self.cards[place].well != well:
            self.cards[place] = Card(well, self.second)

    def machinery(self) -> None:
        for name in [n for n, r in self.pods.items() if r.ending is not None and r.ending <= self.second]:
            del self.pods[name]
        while sum(replica.ending is None for replica in self.pods.values()) < self.wanted:
            self.born += 1
            self.pods[f"p{self.born:03}"] = Replica(self.second)
        for replica in self.pods.values():
            if not replica.place and self.idle():
                replica.place, replica.placed = self.chance.choice(self.idle()), self.second

    def look(self) -> set[str]:
        """Plan and obey; return the pods that were deleted."""
        holders = {replica.place: name for name, replica in self.pods.items() if replica.place}
        devices = tuple(
            DeviceView(
                place[0], place[2:], card.well, ("demo", holders[place]) if place in holders else None,
                "" if card.well else "Hang", NOW + timedelta(seconds=card.since),
            )
            for place, card in self.cards.items()
        )  # fmt: skip
        pods = tuple(
            pod(
                name,
                node=replica.place[:1],
                ready=self.ready(name),
                placed=replica.placed if replica.place else replica.created,
                why="" if replica.place else LACK,
                terminating=replica.ending is not None,
            )
            for name, replica in sorted(self.pods.items())
        )
        wanted = spec(replicas=self.wanted)
        result = plan(
            wanted, status=self.status, seconds=self.second, deployment=self.deployment, pods=pods,
            devices=devices, nodes=NODES,
        )  # fmt: skip
        self.status = AccelServiceStatus.model_validate(result.status)
        deleted = {ref.name for ref in result.deletes}
        for name in deleted:
            self.pods[name].ending = self.second + END_SECONDS
        return deleted

    def __post_init__(self) -> None:
        self.deployment: Any = live(spec(replicas=self.wanted))


def storm(cluster: Cluster, seed: int) -> None:
    """Let devices fall ill and recover at random, and check every deletion."""
    worst = dict.fromkeys(cluster.cards, 0)  # the longest spell of illness so far
    for cluster.second in range(STORM):
        for place, card in cluster.cards.items():
            if cluster.chance.random() < (0.06 if card.well else 0.07):
                cluster.flip(place, well=not card.well)
        for place, card in cluster.cards.items():
            worst[place] = worst[place] if card.well else max(worst[place], cluster.age(place))
        cluster.machinery()
        if cluster.chance.random() < 0.3:
            continue
        ready = {name for name in cluster.pods if cluster.ready(name)}
        settled = [place for place in cluster.idle() if cluster.age(place) >= HYSTERESIS]
        places = {name: replica.place for name, replica in cluster.pods.items()}
        deleted = cluster.look()
        story = f"seed {seed}, second {cluster.second}: {deleted}"
        assert not deleted & ready, f"a pod that serves was deleted; {story}"
        assert len(deleted) <= len(settled), f"no device for its successor; {story}"
        for name in deleted:
            assert not cluster.cards[places[name]].well, f"its device is well; {story}"
            assert worst[places[name]] >= HYSTERESIS, f"its device was never ill for so long; {story}"


def made(seed: int) -> Cluster:
    chance = random.Random(seed)
    places = ["a/0", "a/1", "b/0", "b/1", "b/2"][: chance.randint(1, 5)]
    return Cluster(chance.randint(1, len(places)), {place: Card() for place in places}, chance)


@pytest.mark.parametrize("seed", SEEDS)
def test_as_many_serve_in_the_end_as_there_are_healthy_devices(seed: int) -> None:
    cluster = made(seed)
    storm(cluster, seed)
    for cluster.second in range(STORM, STORM + CALM):
        cluster.machinery()
        cluster.look()
    healthy = sum(card.well for card in cluster.cards.values())
    serving = sum(cluster.ready(name) for name in cluster.pods)
    assert serving == min(cluster.wanted, healthy), cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_devices_well_again_nothing_moves_any_more(seed: int) -> None:
    cluster = made(seed)
    storm(cluster, seed)
    cluster.second = STORM
    for place in cluster.cards:
        cluster.flip(place, well=True)
    for cluster.second in range(STORM, STORM + CALM):
        cluster.machinery()
        assert not cluster.look(), f"seed {seed}: a replica moved although its device is well"
    assert sum(cluster.ready(name) for name in cluster.pods) == min(cluster.wanted, len(cluster.cards))
    assert not any(held.lost for held in cluster.status.devices)
