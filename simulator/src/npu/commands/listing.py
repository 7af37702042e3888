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
    parser.add_argument("program", type=Path)
    parser.set_defaults(execute=execute)


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    sys.stdout.write(listing.render(Program.from_bytes(options.program.read_bytes())))
