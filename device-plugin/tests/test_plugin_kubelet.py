"""The plugin against the kubelet's side of its API: known again after every loss, health both ways, devices
handed out.
"""

from collections.abc import Awaitable, Callable

from kubelet_stub import Kubelet
from node_processes import Emulator, Plugin

StartEmulator = Callable[..., Awaitable[Emulator]]
StartPlugin = Callable[..., Awaitable[Plugin]]
BOTH = {"fpga0": "Healthy", "fpga1": "Healthy"}


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
