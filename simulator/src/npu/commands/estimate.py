"""`npu estimate`: simulated time of a model, layer by layer; a timeline and a roofline picture if asked for."""

import sys
from argparse import Namespace
from pathlib import Path

from npu import report, roofline, timing, trace
from npu.commands import Subparsers
from npu.commands.models import add_compiling, compiled, is_program
from npu.program import Program
from npu.sku import DEFAULT_SKU, load_sku

__all__ = ["register"]


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser("estimate", help="simulated time of a model, layer by layer")
    parser.add_argument("model", type=Path, help="an ONNX model or a compiled program")
    parser.add_argument("--format", choices=report.FORMATS, default="table")
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write the engines' timeline for Perfetto or chrome://tracing",
    )
    parser.add_argument(
        "--roofline",
        type=Path,
        metavar="FILE.svg",
        help="write a picture of layers against what is attainable",
    )
    add_compiling(parser)
    parser.set_defaults(execute=execute, sku=None)  # a compiled program's own, else the default


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    program = _program(options)
    sku = load_sku(options.sku or program.sku)
    estimate = timing.estimate(program, sku)
    if options.trace is not None:
        events = timing.timeline(program, sku)
        options.trace.write_text(trace.render(program, sku, estimate, events), encoding="utf-8")
    if options.roofline is not None:
        options.roofline.write_text(roofline.render(estimate, sku), encoding="utf-8")
    sys.stdout.write(report.render(estimate, options.format))


def _program(options: Namespace) -> Program:
    if is_program(options.model):
        return Program.from_bytes(options.model.read_bytes())
    options.sku = options.sku or DEFAULT_SKU
    return compiled(options).program
