"""`accel-runtime`: reads the environment, serves until SIGTERM."""

import asyncio
import logging
import os
import sys

from accel_runtime.errors import RuntimeFault
from accel_runtime.logs import set_up
from accel_runtime.server import Server
from accel_runtime.settings import Settings

__all__ = ["main"]


def main() -> None:
    """Run the server; exit with 1 and one log line when it cannot start."""
    set_up("INFO")
    try:
        settings = Settings.from_environment(os.environ)
        set_up(settings.log_level)
        asyncio.run(_serve(settings))
    except RuntimeFault as error:
        logging.getLogger("accel_runtime").error("cannot serve", extra={"error": str(error)})
        sys.exit(1)


async def _serve(settings: Settings) -> None:
    server = Server(settings)
    await server.start()
    await server.wait()


if __name__ == "__main__":
    main()
