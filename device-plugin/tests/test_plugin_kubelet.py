"""The plugin against the kubelet's side of its API: known again after every loss, health both ways, devices
handed out.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from kubelet_stub import Kubelet
from node_processes import Emulator, Plugin

StartEmulator = Callable[..., Awaitable[Emulator]]
StartPlugin = Callable[..., Awaitable[Plugin]]
BOTH = {"fpga0": "Healthy", "fpga1": "Healthy"}


def own_socket(root: Path) -> Path:
    (socket,) = (root / "kubelet").glob("fpga.intel.com_arria10.*.sock")
    return socket


async def test_registers_and_advertises(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    await emulator(2)
    running = await plugin()
    await kubelet.advertises(**BOTH)
    (request,) = kubelet.requests
    assert request.version == "v1beta1"
    assert request.resource_name == "fpga.intel.com/arria10"
    assert request.options.pre_start_required
    await running.until_ready()


async def test_waits_for_a_kubelet_that_comes_later(
    emulator: StartEmulator, plugin: StartPlugin, root: Path
) -> None:
    await emulator(1)
    running = await plugin()
    await running.until_serving()
    kubelet = Kubelet(root / "kubelet")
    await kubelet.start()
    await kubelet.advertises(fpga0="Healthy")
    await kubelet.stop()


async def test_registers_again_after_a_kubelet_restart(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    await emulator(1)
    await plugin()
    await kubelet.advertises(fpga0="Healthy")
    await kubelet.stop()
    await kubelet.start()  # deletes all sockets, makes a new kubelet.sock
    await kubelet.until("a second registration", lambda: len(kubelet.requests) == 2)
    await kubelet.advertises(fpga0="Healthy")


async def test_registers_again_when_its_socket_is_removed(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet, root: Path
) -> None:
    await emulator(1)
    await plugin()
    await kubelet.advertises(fpga0="Healthy")
    own_socket(root).unlink()
    await kubelet.until("a second registration", lambda: len(kubelet.requests) == 2)
    await kubelet.advertises(fpga0="Healthy")


async def test_a_lost_kubelet_socket_is_no_reason_to_leave_a_kubelet_that_listens(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet, root: Path
) -> None:
    node = await emulator(1)
    await plugin()
    await kubelet.advertises(fpga0="Healthy")
    (root / "kubelet" / "kubelet.sock").unlink()
    await node.ask("fault", id="fpga0", kind="temperature")
    await kubelet.advertises(fpga0="Unhealthy")  # heard over the old stream, after the loss
    await node.ask("fault", id="fpga0", kind="temperature", clear=True)
    await kubelet.advertises(fpga0="Healthy")
    assert len(kubelet.requests) == 1


async def test_killed_and_started_again_it_knows_everything(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet, root: Path
) -> None:
    await emulator(1)
    first = await plugin()
    await kubelet.advertises(fpga0="Healthy")
    first.process.kill()
    await kubelet.until("the kubelet lost it", lambda: not kubelet.listening)
    await plugin()
    await kubelet.advertises(fpga0="Healthy")
    assert own_socket(root).exists(), "the predecessor's socket was not removed"


@pytest.mark.parametrize("fault", ["temperature", "hang"])
async def test_health_goes_and_comes_back(
    fault: str, emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(2)
    await plugin()
    await kubelet.advertises(**BOTH)
    for _ in range(2):
        await node.ask("fault", id="fpga1", kind=fault)
        await kubelet.advertises(fpga0="Healthy", fpga1="Unhealthy")
        await node.ask("fault", id="fpga1", kind=fault, clear=True)
        await kubelet.advertises(**BOTH)


async def test_a_killed_device_process_costs_one_device_for_a_moment(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(2)
    await plugin()
    await kubelet.advertises(**BOTH)
    kubelet.history.clear()
    node.signal("fpga0", signal.SIGKILL)
    await kubelet.until("fpga0 was unhealthy", lambda: {**BOTH, "fpga0": "Unhealthy"} in kubelet.history)
    await kubelet.advertises(**BOTH)
    assert all(devices["fpga1"] == "Healthy" for devices in kubelet.history)


async def test_allocate_mounts_only_what_was_allocated(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet, root: Path
) -> None:
    await emulator(2)
    await plugin()
    await kubelet.advertises(**BOTH)
    one = await kubelet.allocate("fpga1")
    assert dict(one.envs) == {"FPGA_DEVICES": "fpga1", "FPGA_DEVICE_ROOT": "/run/fpga"}
    (mount,) = one.mounts
    assert (mount.container_path, mount.read_only) == ("/run/fpga/fpga1", True)
    assert mount.host_path == str(root / "emulator" / "devices" / "fpga1")
    assert (Path(mount.host_path) / "device.sock").is_socket()
    two = await kubelet.allocate("fpga1", "fpga0")
    assert two.envs["FPGA_DEVICES"] == "fpga0,fpga1"
    assert [mount.container_path for mount in two.mounts] == ["/run/fpga/fpga0", "/run/fpga/fpga1"]


async def test_allocate_refuses_unknown_and_unhealthy_devices(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(2)
    await plugin()
    await kubelet.advertises(**BOTH)
    await node.ask("fault", id="fpga0", kind="temperature")
    await kubelet.advertises(fpga0="Unhealthy", fpga1="Healthy")
    cases = {
        ("fpga7",): (grpc.StatusCode.NOT_FOUND, "there are fpga0, fpga1"),
        ("../control",): (grpc.StatusCode.NOT_FOUND, "no device"),
        ("fpga0",): (grpc.StatusCode.FAILED_PRECONDITION, "OverTemperature"),
        ("fpga1", "fpga0"): (grpc.StatusCode.FAILED_PRECONDITION, "fpga0 is unhealthy"),
    }
    for ids, (code, text) in cases.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kubelet.allocate(*ids)
        assert caught.value.code() is code
        assert text in (caught.value.details() or "")


async def test_pre_start_resets_the_device_and_only_it(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(2)
    await plugin()
    await kubelet.advertises(**BOTH)
    before = {device["id"]: device["epoch"] for device in (await node.ask("list"))["devices"]}
    await kubelet.pre_start("fpga0")
    after = {device["id"]: device["epoch"] for device in (await node.ask("list"))["devices"]}
    assert after["fpga0"] > before["fpga0"]
    assert after["fpga1"] == before["fpga1"]
    await node.ask("fault", id="fpga0", kind="hang")
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be reset"):
        await kubelet.pre_start("fpga0")
    with pytest.raises(grpc.aio.AioRpcError, match="unknown device"):
        await kubelet.pre_start("fpga9")


async def test_without_an_emulator_it_is_idle_and_ready_until_one_comes(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    running = await plugin()
    await running.until_ready()
    assert (await running.get("/healthz")).status_code == 200
    assert not kubelet.requests, "a node without devices must not show the resource at all"
    await emulator(1)
    await kubelet.advertises(fpga0="Healthy")


async def test_with_the_emulator_gone_its_devices_are_unhealthy_until_it_is_back(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(1)
    await plugin()
    await kubelet.advertises(fpga0="Healthy")
    node.process.send_signal(signal.SIGTERM)
    assert await node.process.wait() == 0
    await kubelet.advertises(fpga0="Unhealthy")
    await emulator(1)
    await kubelet.advertises(fpga0="Healthy")


async def test_metrics_have_each_device_and_both_clocks(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet
) -> None:
    node = await emulator(2)
    running = await plugin()
    await kubelet.advertises(**BOTH)
    await node.ask("fault", id="fpga1", kind="temperature")
    text = (await running.get("/metrics")).text
    for line in (
        'fpga_device_healthy{device="fpga0",sku="bw-cnn-a10"} 1.0',
        'fpga_device_healthy{device="fpga1",sku="bw-cnn-a10"} 0.0',
        'fpga_device_state{device="fpga1",sku="bw-cnn-a10",state="faulted"} 1.0',
        'fpga_device_temperature_celsius{device="fpga1",sku="bw-cnn-a10"} 105.0',
        'fpga_device_faults_total{device="fpga1",sku="bw-cnn-a10"} 1.0',
        'fpga_device_inferences_total{device="fpga0",sku="bw-cnn-a10"} 0.0',
        'fpga_device_simulated_seconds_total{device="fpga0",sku="bw-cnn-a10"} 0.0',
        'fpga_device_wall_seconds_total{device="fpga0",sku="bw-cnn-a10"} 0.0',
        'fpga_device_utilisation_ratio{device="fpga0",sku="bw-cnn-a10"} 0.0',
        'fpga_device_reconfigurations_total{device="fpga0",sku="bw-cnn-a10"} 0.0',
        "fpga_plugin_registered 1.0",
    ):
        assert line in text.splitlines(), text


async def test_ends_cleanly_on_sigterm(
    emulator: StartEmulator, plugin: StartPlugin, kubelet: Kubelet, root: Path
) -> None:
    await emulator(1)
    running = await plugin()
    await kubelet.advertises(fpga0="Healthy")
    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await running.process.wait() == 0
    assert not list((root / "kubelet").glob("fpga*"))
