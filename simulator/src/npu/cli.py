"""The command `npu`; each subcommand is a module of `npu.commands`."""

import argparse
import sys

from npu.commands import register
from npu.errors import NpuError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="npu", description="The emulated Brainwave NPU.")
    register(parser.add_subparsers(dest="command", required=True))
    options = parser.parse_args(arguments)
    try:
        options.execute(options)
    except (NpuError, OSError) as error:
        sys.stderr.write(f"npu: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
