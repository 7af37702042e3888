"""`npu compile`: a model as files, one per part."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from npu.commands import Subparsers
from npu.commands.models import add_compiling, compiled

__all__ = ["register"]


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile", help="write host_pre.onnx, device.npu, host_post.onnx, model.onnx"
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, default=Path())
    add_compiling(parser)
    parser.set_defaults(execute=execute)


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    made = compiled(options)
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.npu").write_bytes(made.program.to_bytes())
    for name, model in (
        ("host_pre.onnx", made.pre),
        ("host_post.onnx", made.post),
        ("model.onnx", made.composed),
    ):
        if model is not None:
            (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    summary = {
        "program": made.program.digest,
        "deviceInput": made.device_input,
        "deviceOutput": made.device_output,
        "offloadedOps": made.offloaded_ops,
        "hostOps": made.host_ops,
        "hostCounts": [vars(entry) for entry in made.host_counts],
        "host": made.host_reasons,
    }
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
