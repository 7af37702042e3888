"""`npu list`: what a compiled program says, chain by chain."""

import sys
from argparse import Namespace
from pathlib import Path

from npu import listing
from npu.commands import Subparsers
from npu.program import Program

__all__ = ["register"]


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "list", help="the chains of a compiled program and the loads of their weights"
    )
    parser.add_argument("program", type=Path, help="device.npu, as `npu compile` writes it")
    parser.add_argument(
        "--format", choices=listing.FORMATS, default="table", help="json has everything but the weights"
    )
    parser.add_argument(
        "--loads", action="store_true", help="also every weight load, in the order of execution"
    )
    parser.add_argument("--explain", action="store_true", help="also what the columns mean")
    parser.set_defaults(execute=execute)


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    program = Program.from_bytes(options.program.read_bytes())
    sys.stdout.write(listing.render(program, options.format, loads=options.loads))
    if options.explain and options.format == "table":
        sys.stdout.write("\n" + listing.LEGEND)
