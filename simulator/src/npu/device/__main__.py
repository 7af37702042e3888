"""`python -m npu.device`: one emulated card, until SIGTERM."""

import argparse
import asyncio
import ctypes
import logging
import os
import resource
import signal
from pathlib import Path

from npu.device import control, jsonlines
from npu.device.card import Card
from npu.device.emulator import Device, Settings
from npu.device.port import Port

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the command line and be a card."""
    parser = argparse.ArgumentParser(prog="npu.device", description=__doc__)
    parser.add_argument("--id", required=True, help="name of the device on its node, such as fpga0")
    parser.add_argument("--socket", type=Path, required=True, help="device.sock, for the one owner")
    parser.add_argument("--control", type=Path, required=True, help="control socket, for root")
    parser.add_argument("--sku", default="bw-cnn-a10")
    parser.add_argument(
        "--flash-seconds", type=float, default=Settings.flash_seconds, help="to write the bitstream"
    )
    parser.add_argument(
        "--load-scale",
        type=float,
        default=Settings.load_scale,
        help="times the simulated time to load a program",
    )
    parser.add_argument(
        "--wait-seconds", type=float, default=Settings.wait_seconds, help="until a hung request is given up"
    )
    parser.add_argument(
        "--memory-mib", type=int, default=1024, help="most memory that this process may take; 0: any"
    )
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the process that started it ends"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {given.id} %(levelname)s %(message)s")
    if given.die_with_parent:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if given.memory_mib:
        # A program whose tensors are too large then gets an error, and the other cards of the node keep their memory.
        resource.setrlimit(resource.RLIMIT_DATA, (given.memory_mib << 20, given.memory_mib << 20))
    settings = Settings(given.flash_seconds, given.load_scale, given.wait_seconds)
    asyncio.run(_run(Card(given.id, given.sku), settings, given.socket, given.control))


async def _run(card: Card, settings: Settings, socket: Path, control_socket: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    device = Device(card, settings)
    port = Port(device, socket)
    serving = asyncio.create_task(port.serve())
    await jsonlines.serve(control_socket, control.handler(device))
    logging.getLogger(__name__).info("%s is %s", card.id, card.state)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()  # never ends by itself, so this raises
    device.close()
    for path in (socket, control_socket):
        path.unlink(missing_ok=True)
    logging.shutdown()
    os._exit(0)  # a computation in its thread cannot be stopped, and nobody waits for it


if __name__ == "__main__":
    main()
