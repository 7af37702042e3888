"""`npu compile`: a model as files, one per part."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from npu.commands import Subparsers
from npu.commands.models import add_compiling, load_model

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
    from npu.compiler import compile_model

    compiled = compile_model(
        load_model(options.model), precision=options.precision, sku=options.sku, name=options.model.stem
    )
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.npu").write_bytes(compiled.program.to_bytes())
    for name, model in (
        ("host_pre.onnx", compiled.pre),
        ("host_post.onnx", compiled.post),
        ("model.onnx", compiled.composed),
    ):
        if model is not None:
            (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    summary = {
        "program": compiled.program.digest,
        "deviceInput": compiled.device_input,
        "deviceOutput": compiled.device_output,
        "offloadedOps": compiled.offloaded_ops,
        "hostOps": compiled.host_ops,
        "host": compiled.host_reasons,
    }
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
