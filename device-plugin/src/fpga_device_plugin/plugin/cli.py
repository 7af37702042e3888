"""`fpga-device-plugin`: shows this node's cards to its kubelet, until SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
from concurrent.futures import CancelledError
from pathlib import Path, PurePosixPath
from typing import Any

from prometheus_client import disable_created_metrics

from fpga_device_plugin.plugin import probes
from fpga_device_plugin.plugin.fpganode import Reporter
from fpga_device_plugin.plugin.inventory import Inventory
from fpga_device_plugin.plugin.kubeapi import Access, KubeApi
from fpga_device_plugin.plugin.metrics import Devices, Metrics
from fpga_device_plugin.plugin.registration import Registrar
from fpga_device_plugin.plugin.servicer import Servicer

log = logging.getLogger(__name__)
RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
BEAT_SECONDS = 1.0
SCRAPE_SECONDS = 3.0


def main() -> None:
    """Read the command line and adapt."""
    parser = argparse.ArgumentParser(prog="fpga-device-plugin", description=__doc__)
    parser.add_argument("--resource", default="fpga.intel.com/arria10", help="extended resource to advertise")
    parser.add_argument("--control", type=Path, default=Path("/var/run/fpga-emulator/control/emulator.sock"))
    parser.add_argument(
        "--device-root", type=PurePosixPath, default=PurePosixPath("/var/run/fpga-emulator/devices"),
        help="where the node (not this container) has the devices' directories",
    )  # fmt: skip
    parser.add_argument("--kubelet-dir", type=Path, default=Path("/var/lib/kubelet/device-plugins"))
    parser.add_argument("--pod-resources", default="/var/lib/kubelet/pod-resources/kubelet.sock")
    parser.add_argument("--node", default=os.environ.get("NODE_NAME"), help="default: NODE_NAME")
    parser.add_argument(
        "--port", type=int, default=9400, help="of /healthz, /readyz and /metrics; 0: any free one"
    )
    parser.add_argument(
        "--api-server", help="outside of a cluster, with the two files; else the pod's own account"
    )
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--ca-file", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s plugin %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not RESOURCE.fullmatch(given.resource):
        parser.error(
            f"--resource {given.resource!r} is no extended resource; it looks like fpga.intel.com/arria10"
        )
    if not given.node:
        parser.error("the node's name is missing: set NODE_NAME or give --node")
    access = Access.in_cluster()
    if given.api_server:
        if not (given.token_file and given.ca_file):
            parser.error("--api-server needs --token-file and --ca-file")
        access = Access(given.api_server, given.token_file, given.ca_file)
    asyncio.run(_run(given, access))


async def _run(given: argparse.Namespace, access: Access | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics()
    inventory = Inventory(given.control)
    servicer = Servicer(inventory, given.device_root, metrics.allocations)
    registrar = Registrar(given.resource, given.kubelet_dir, servicer, inventory, metrics.registrations)

    def statuses() -> list[dict[str, Any]]:
        asked = asyncio.run_coroutine_threadsafe(inventory.statuses(SCRAPE_SECONDS), loop)
        try:
            return asked.result(SCRAPE_SECONDS + 1)
        except (TimeoutError, CancelledError):
            return []

    def missing() -> str:
        waits = bool(inventory.devices) and not registrar.registered
        return "there are devices, and the kubelet does not know them yet" if waits else ""

    metrics.registry.register(Devices(statuses, lambda: registrar.registered))
    heartbeat = probes.Heartbeat()
    server = probes.serve(given.port, heartbeat, missing, metrics.registry)
    log.info("resource %s, probes and metrics on port %d", given.resource, server.server_port)
    tasks = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(inventory.run()),
        asyncio.create_task(registrar.run()),
        asyncio.create_task(_beat(heartbeat)),
    ]
    if access is None:
        log.warning("not in a cluster and no --api-server: no FpgaNode is written")
    else:
        reporter = Reporter(KubeApi(access), given.node, given.resource, given.pod_resources, inventory)
        tasks.append(asyncio.create_task(reporter.run()))
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*rest, return_exceptions=True)
    server.shutdown()
    for task in done:
        task.result()


async def _beat(heartbeat: probes.Heartbeat) -> None:
    while True:
        heartbeat.beat()
        await asyncio.sleep(BEAT_SECONDS)


if __name__ == "__main__":
    main()
