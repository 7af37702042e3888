"""The FpgaNode's status as values: what it says of devices and holders, and that it never ticks."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from fpga_device_plugin.plugin import fpganode
from fpga_device_plugin.plugin.holders import Holder, holders_in, holders_of, remembering
from fpga_device_plugin.plugin.inventory import Device, devices_of, unreachable
from fpga_device_plugin.protos import podresources_pb2 as pb

TOLD = {
    "id": "fpga0", "sku": "bw-cnn-a10", "state": "ready", "health": "Healthy", "reason": "",
    "modelDigest": "sha256:ab", "owner": True, "temperatureC": 50.1, "inferences": 7, "epoch": 3,
}  # fmt: skip


NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def status_of(
    devices: Iterable[Device], held: Mapping[str, Holder], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return fpganode.status_of(devices, held, before or {}, NOON)


def device(number: int = 0, *, healthy: bool = True, reason: str = "") -> Device:
    return Device(f"fpga{number}", "bw-cnn-a10", "ready" if healthy else "faulted", healthy, reason, "")


def test_no_devices() -> None:
    sums = {"total": 0, "healthy": 0, "free": 0}
    assert status_of((), {}) == {"devices": [], **sums, "holders": "", "trouble": ""}


def test_everything_at_once() -> None:
    devices = [
        device(10),
        device(2),
        device(1, healthy=False, reason="Hang: stuck"),
        *devices_of({"devices": [TOLD]}),
    ]
    held = {
        "fpga0": Holder("demo", "digits-1"),
        "fpga1": Holder("demo", "digits-2"),
    }
    status = status_of(devices, held)
    assert [entry["id"] for entry in status["devices"]] == ["fpga0", "fpga1", "fpga2", "fpga10"]
    assert status["devices"][0] == {
        "id": "fpga0", "sku": "bw-cnn-a10", "state": "ready", "health": "Healthy", "modelDigest": "sha256:ab",
        "holder": {"namespace": "demo", "pod": "digits-1"},
    }  # fmt: skip
    assert status["devices"][1]["reason"] == "Hang: stuck"
    assert (status["total"], status["healthy"], status["free"]) == (4, 3, 2), (
        "neither held nor ill ones are free"
    )
    assert status["holders"] == "fpga0=demo/digits-1,fpga1=demo/digits-2,fpga2=-,fpga10=-"
    assert status["trouble"] == "fpga1=Hang"


def test_a_device_that_was_taken_out_is_told_while_a_pod_holds_it() -> None:
    status = status_of([device(0)], {"fpga1": Holder("demo", "digits-1")})
    there, removed = status["devices"]
    assert there["id"] == "fpga0"
    assert (removed["id"], removed["health"]) == ("fpga1", "Unhealthy")
    assert removed["reason"].startswith("DeviceRemoved")
    assert removed["holder"] == {"namespace": "demo", "pod": "digits-1"}
    assert (status["total"], status["healthy"], status["free"]) == (1, 1, 1)
    assert status["trouble"] == "fpga1=DeviceRemoved"


def test_a_line_for_many_devices_is_cut_at_a_device() -> None:
    held = {f"fpga{n}": Holder("n" * 40, "p" * 40) for n in range(64)}
    line = status_of([device(n) for n in range(64)], held)["holders"]
    assert len(line) <= 1024
    assert line.endswith("p,...")


EARLIER = "2026-11-21T11:00:00Z"
SINCE: dict[str, tuple[Any, bool, str | None]] = {
    # name: (entry before, healthy now) -> healthSince
    "first seen healthy": (None, True, None),
    "first seen ill": (None, False, "2026-11-21T12:00:00Z"),
    "fell ill": ({"health": "Healthy"}, False, "2026-11-21T12:00:00Z"),
    "still ill": ({"health": "Unhealthy", "healthSince": EARLIER}, False, EARLIER),
    "well again": ({"health": "Unhealthy", "healthSince": EARLIER}, True, "2026-11-21T12:00:00Z"),
    "still well": ({"health": "Healthy", "healthSince": EARLIER}, True, EARLIER),
    "has always been well": ({"health": "Healthy"}, True, None),
}


@pytest.mark.parametrize(("before", "healthy", "expected"), SINCE.values(), ids=SINCE)
def test_since_when_its_health_is_what_it_is(before: Any, healthy: bool, expected: str | None) -> None:
    written = {"devices": [{"id": "fpga0", **before}]} if before else {}
    (entry,) = status_of([device(healthy=healthy)], {}, written)["devices"]
    assert entry.get("healthSince") == expected


A, B = Holder("demo", "a"), Holder("demo", "b")
MEMORY: dict[str, tuple[Any, Any, bool, Any]] = {
    # name: (known, told by the kubelet, it began a moment ago) -> who holds what
    "the kubelet is away": ({"fpga0": A}, None, True, {"fpga0": A}),
    "it has not heard of its pods yet": ({"fpga0": A}, {}, True, {"fpga0": A}),
    "it names some of them": ({"fpga0": A, "fpga1": A}, {"fpga1": B}, True, {"fpga0": A, "fpga1": B}),
    "it has been there for long and knows": ({"fpga0": A}, {}, False, {}),
}


@pytest.mark.parametrize(("known", "told", "fresh", "expected"), MEMORY.values(), ids=MEMORY)
def test_holders_outlive_a_restart_of_the_kubelet(known: Any, told: Any, fresh: bool, expected: Any) -> None:
    assert remembering(known, told, fresh=fresh) == expected


def test_holders_can_be_read_back() -> None:
    held = {"fpga1": A}
    assert holders_in(status_of([device(0), device(1)], held)) == held


TICKS = {
    "temperatureC": 61.0,
    "inferences": 8,
    "epoch": 9,
    "owner": False,
    "state": "busy",
    "simulatedSeconds": 1.0,
}


@pytest.mark.parametrize("key", TICKS)
def test_what_ticks_is_no_news(key: str) -> None:
    assert devices_of({"devices": [{**TOLD, key: TICKS[key]}]}) == devices_of({"devices": [TOLD]})


NEWS = {"state": "faulted", "health": "Unhealthy", "reason": "Hang", "modelDigest": "", "sku": "bw-s10"}


@pytest.mark.parametrize("key", NEWS)
def test_what_matters_is(key: str) -> None:
    assert devices_of({"devices": [{**TOLD, key: NEWS[key]}]}) != devices_of({"devices": [TOLD]})


@pytest.mark.parametrize("name", ["", "../control", "a/b", "UPPER", "x" * 64, None, 7.5, "a\n", "-a"])
def test_ids_that_are_no_path_are_left_out(name: Any) -> None:
    assert devices_of({"devices": [{**TOLD, "id": name}, TOLD]}) == devices_of({"devices": [TOLD]})


def test_its_own_words_can_be_read_back() -> None:
    """A plugin that restarts while the emulator is away still says which devices it was about."""
    status = status_of(devices_of({"devices": [TOLD]}), {})
    (again,) = map(unreachable, devices_of(status))
    assert (again.id, again.healthy, again.state, again.sku) == ("fpga0", False, "absent", "bw-cnn-a10")
    assert again.reason.startswith("EmulatorUnreachable")


def test_holders_are_those_of_our_resource() -> None:
    def pod(name: str, **held: list[str]) -> pb.PodResources:
        devices = [
            pb.ContainerDevices(resource_name=f"fpga/{key}", device_ids=ids) for key, ids in held.items()
        ]
        container = pb.ContainerResources(name="c", devices=devices)
        return pb.PodResources(name=name, namespace="demo", containers=[container])

    pods = [pod("a", ours=["fpga0", "fpga2"], theirs=["fpga1"]), pod("b", theirs=["fpga0"]), pod("c")]
    listed = pb.ListPodResourcesResponse(pod_resources=pods)
    assert holders_of(listed, "fpga/ours") == {"fpga0": Holder("demo", "a"), "fpga2": Holder("demo", "a")}
