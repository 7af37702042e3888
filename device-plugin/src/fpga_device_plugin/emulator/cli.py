"""`fpga-emulator`: the cards of one node, until SIGTERM."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from npu.device import jsonlines

from fpga_device_plugin.emulator.config import ConfigError, parse
from fpga_device_plugin.emulator.supervisor import Supervisor, make_directories

log = logging.getLogger(__name__)
CONFIG_SECONDS = 2.0  # between looks at the file; the kubelet itself updates a ConfigMap within a minute


def main() -> None:
    """Read the command line and keep cards."""
    parser = argparse.ArgumentParser(prog="fpga-emulator", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="devices.yaml")
    parser.add_argument("--root", type=Path, default=Path("/var/run/fpga-emulator"))
    parser.add_argument("--node", default=os.environ.get("NODE_NAME"), help="default: NODE_NAME")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s emulator %(levelname)s %(message)s")
    if not given.node:
        parser.error("the node's name is missing: set NODE_NAME or give --node")
    sys.exit(asyncio.run(_run(given.config, given.root, given.node)))


async def _run(path: Path, root: Path, node: str) -> int:
    try:
        text = _read(path)
        config = parse(text, node)
    except (OSError, ConfigError) as error:
        log.error("%s: %s", path, error)
        return 1
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    make_directories(root)
    supervisor = Supervisor(root)
    await supervisor.configure(config)
    await jsonlines.serve(root / "control" / "emulator.sock", supervisor.answer)
    log.info("%s has %d devices", node, config.count)
    tasks = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(supervisor.failed()),
        asyncio.create_task(_follow(path, text, node, supervisor)),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await supervisor.close()
    for task in done:
        task.result()
    return 0


async def _follow(path: Path, text: str, node: str, supervisor: Supervisor) -> None:
    """Apply the file again when its content changes; a wrong one is reported once and not applied."""
    while True:
        await asyncio.sleep(CONFIG_SECONDS)
        try:
            now = _read(path)
            if now != text:
                text = now
                await supervisor.configure(parse(text, node))
                log.info("%s changed and was applied", path)
        except (OSError, ConfigError) as error:
            log.error("%s: %s; the present devices stay", path, error)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
