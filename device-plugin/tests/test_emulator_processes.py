"""The emulator with real device processes: a crash costs one device, what is configured is what runs."""

import os
import signal
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from node_processes import Emulator, write_config
from npu.device.jsonlines import ControlError

StartEmulator = Callable[..., Awaitable[Emulator]]


async def test_lists_its_devices(emulator: StartEmulator) -> None:
    node = await emulator(2)
    first, second = (await node.ask("list"))["devices"]
    assert (first["id"], second["id"]) == ("fpga0", "fpga1")
    assert first["state"] == "golden"
    assert first["sku"] == "bw-cnn-a10"
    assert first["restarts"] == 0


async def test_a_killed_process_is_restarted_and_the_other_left_alone(emulator: StartEmulator) -> None:
    node = await emulator(2)
    other = node.pid("fpga1")
    directory = (node.root / "devices" / "fpga0").stat().st_ino
    for restarts in (1, 2):
        node.signal("fpga0", signal.SIGKILL)
        await node.until("it was noticed", lambda devices: "SIGKILL" in devices["fpga0"]["reason"])
        await node.until(
            "it is back",
            lambda devices, n=restarts: (
                devices["fpga0"].get("restarts") == n and devices["fpga0"]["health"] == "Healthy"
            ),
        )
    assert node.pid("fpga1") == other
    assert (node.root / "devices" / "fpga0").stat().st_ino == directory, "pods have this directory mounted"


async def test_modes_let_a_pod_reach_its_device_and_nothing_else(emulator: StartEmulator) -> None:
    node = await emulator(1)
    modes = {
        name: stat.S_IMODE((node.root / name).stat().st_mode)
        for name in ("control", "devices", "control/emulator.sock", "control/fpga0.sock",
                     "devices/fpga0", "devices/fpga0/device.sock")
    }  # fmt: skip
    assert modes == {
        "control": 0o700,
        "devices": 0o700,  # on the node only root passes; a pod has the directory below mounted
        "control/emulator.sock": 0o600,
        "control/fpga0.sock": 0o600,
        "devices/fpga0": 0o755,
        "devices/fpga0/device.sock": 0o666,
    }


async def test_the_configuration_is_followed(emulator: StartEmulator, root: Path) -> None:
    node = await emulator(1)
    stays = node.pid("fpga0")
    write_config(root / "devices.yaml", 2)
    await node.up(2)
    (root / "devices.yaml").write_text("nodes: {node-a: many}")  # refused, nothing changes
    write_config(root / "devices.yaml", 1)
    await node.up(1)
    assert node.pid("fpga0") == stays


async def test_refusals_name_what_there_is(emulator: StartEmulator) -> None:
    node = await emulator(1)
    cases = {
        "unknown device 'fpga5'; there are fpga0": {"op": "reset", "id": "fpga5"},
        "unknown fault 'flood'; there are temperature, hang": {"op": "fault", "id": "fpga0", "kind": "flood"},
        "unknown op 'dance'": {"op": "dance"},
    }
    for text, asked in cases.items():
        with pytest.raises(ControlError, match=text):
            await node.ask(**asked)


async def test_no_child_stays_a_zombie(emulator: StartEmulator) -> None:
    node = await emulator(2)
    for device in ("fpga0", "fpga1"):
        node.signal(device, signal.SIGKILL)
    await node.until("both were noticed", lambda devices: all(d["restarts"] == 1 for d in devices.values()))
    await node.up(2)
    assert sorted(node.children().values()) == ["S", "S"]


async def test_sigterm_ends_it_and_its_devices(emulator: StartEmulator) -> None:
    node = await emulator(2)
    pids = [node.pid("fpga0"), node.pid("fpga1")]
    node.process.send_signal(signal.SIGTERM)
    assert await node.process.wait() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_wrong_configuration_ends_it_at_once(start: Callable[..., Any], root: Path) -> None:
    config = root / "devices.yaml"
    config.write_text("flashSecond: 3")
    process = await start("fpga_device_plugin.emulator.cli", "--config", config, "--root", root / "emulator")
    assert await process.wait() == 1
