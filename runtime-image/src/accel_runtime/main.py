"""`accel-runtime`: reads the environment, serves until SIGTERM."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from accel_runtime.errors import ProgramRefused, RuntimeFault
from accel_runtime.logs import set_up
from accel_runtime.server import Server
from accel_runtime.settings import Settings

__all__ = ["EXIT_REFUSED", "main"]

EXIT_REFUSED = 78  # EX_CONFIG: the operator reads it as the card's refusal, and tells of it at once
TERMINATION_LOG = "/dev/termination-log"


def main() -> None:
    """Run the server; exit with 1 and one log line when it cannot start, with 78 when its card refuses the program."""
    set_up("INFO")
    try:
        settings = Settings.from_environment(os.environ)
        set_up(settings.log_level)
        asyncio.run(_serve(settings))
    except ProgramRefused as error:
        logging.getLogger("accel_runtime").error("the card refuses the program", extra={"error": str(error)})
        _leave(str(error))
        sys.exit(EXIT_REFUSED)
    except RuntimeFault as error:
        logging.getLogger("accel_runtime").error("cannot serve", extra={"error": str(error)})
        sys.exit(1)


def _leave(text: str) -> None:
    """Leave the last word where the kubelet reads it; elsewhere than in a container there is no such place."""
    path = Path(os.environ.get("ACCEL_TERMINATION_LOG") or TERMINATION_LOG)
    try:
        path.write_text(text[:4096], encoding="utf-8")
    except OSError as error:
        logging.getLogger("accel_runtime").warning("no termination message", extra={"error": str(error)})


async def _serve(settings: Settings) -> None:
    server = Server(settings)
    await server.start()
    await server.wait()


if __name__ == "__main__":
    main()
