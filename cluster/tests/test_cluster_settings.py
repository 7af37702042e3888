"""Names, addresses and what each node promises."""

import pytest
from accel_cluster import network, nodes
from accel_cluster.errors import Refused
from accel_cluster.settings import Node, Settings, from_environment

GIB = 1 << 30


@pytest.mark.parametrize("asked", ["worker2", "accel-worker2"])
def test_a_node_is_found_with_and_without_prefix(asked: str) -> None:
    assert Settings().node(asked) == Node("accel-worker2", 2)


def test_an_unknown_node_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        Refused, match="'worker9'; there are accel-control-plane, accel-worker, accel-worker2"
    ):
        Settings().node("worker9")


@pytest.mark.parametrize("name", ["", "Accel", "a-b", "averylongname", "1st"])
def test_a_name_that_the_kernel_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="cluster name"):
        Settings(name=name)


def test_interface_names_fit_the_kernel() -> None:
    settings = Settings(name="a" * 10)
    assert all(len(f"ve-{settings.name}-{node.number}") <= 15 for node in settings.nodes)


def test_addresses_and_pod_networks_are_distinct() -> None:
    made = Settings().nodes
    assert [node.address for node in made] == ["10.89.0.10", "10.89.0.11", "10.89.0.12"]
    assert len({node.pod_network for node in made}) == 3


def test_a_second_cluster_needs_only_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CLUSTER_NAME", "second")
    monkeypatch.setenv("ACCEL_CLUSTER_NODE_PORTS", "31200")
    second = from_environment()
    assert second.netns == "second"
    assert second.state.name == "second"
    assert second.node_ports == range(31200, 31264)


RANGES = {
    "none": ([], ""),
    "one": ([7], "7"),
    "a run": ([3, 1, 2], "1-3"),
    "runs and single ones": ([1, 2, 5, 7, 8, 9], "1-2, 5, 7-9"),
}


@pytest.mark.parametrize(("ports", "text"), RANGES.values(), ids=RANGES)
def test_ranges(ports: list[int], text: str) -> None:
    assert network.ranges(ports) == text


MACHINES = {
    # name: (cpus, GiB of memory) -> (cores, GiB of memory at least) that each worker promises
    "two cores": ((2, 24), (1.25, 10)),
    "one core": ((1, 8), (1.0, 2)),
    "sixteen cores": ((16, 64), (7.2, 29)),
}


@pytest.mark.parametrize(("machine", "worker"), MACHINES.values(), ids=MACHINES)
def test_nodes_together_promise_what_the_machine_has(
    machine: tuple[int, int], worker: tuple[float, int]
) -> None:
    cpus, memory = machine[0], machine[1] * GIB
    promised = [
        (cpus * 1000 - reserved[0], memory - reserved[1])
        for reserved in (nodes.reserved(node, cpus, memory) for node in Settings().nodes)
    ]
    assert sum(bytes_ for _, bytes_ in promised) <= memory, "memory cannot be shared"
    assert promised[1] == promised[2]
    assert promised[1][0] == pytest.approx(worker[0] * 1000, abs=1)
    assert promised[1][1] >= worker[1] * GIB
