"""The command `npu`: estimate a model's time, list a program's chains, compile a model into files."""

import argparse
import json
import sys
from pathlib import Path

from npu import bfp, report
from npu.commands import register
from npu.errors import NpuError, UnsupportedModel
from npu.program import MAGIC, Program
from npu.sku import DEFAULT_SKU, sku_names
from npu.timing import estimate

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="npu", description="The emulated Brainwave NPU.")
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("estimate", help="simulated time of a model, layer by layer")
    timing.add_argument("model", type=Path, help="an ONNX model or a compiled program")
    timing.add_argument("--format", choices=report.FORMATS, default="table")
    _compiling(timing)
    listing = commands.add_parser("list", help="the chains of a compiled program")
    listing.add_argument("program", type=Path)
    compiling = commands.add_parser(
        "compile", help="write host_pre.onnx, device.npu, host_post.onnx, model.onnx"
    )
    compiling.add_argument("model", type=Path)
    compiling.add_argument("--output", type=Path, default=Path())
    _compiling(compiling)
    register(commands)
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "estimate":
                program = _program(options.model, options.precision, options.sku)
                sys.stdout.write(report.render(estimate(program, options.sku), options.format))
            case "list":
                sys.stdout.write(report.listing(Program.from_bytes(options.program.read_bytes())))
            case "compile":
                _compile(options.model, options.output, options.precision, options.sku)
            case _:
                options.execute(options)
    except (NpuError, OSError) as error:
        sys.stderr.write(f"npu: {error}\n")
        return 1
    return 0


def _compiling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sku", choices=sku_names(), default=DEFAULT_SKU)
    parser.add_argument("--precision", choices=list(bfp.PRESETS), default=bfp.DEFAULT)


def _program(path: Path, precision: str, sku: str) -> Program:
    if path.read_bytes()[: len(MAGIC)] == MAGIC:
        return Program.from_bytes(path.read_bytes())
    from npu.compiler import compile_model

    return compile_model(_load(path), precision=precision, sku=sku, name=path.stem).program


def _compile(path: Path, folder: Path, precision: str, sku: str) -> None:
    from npu.compiler import compile_model

    compiled = compile_model(_load(path), precision=precision, sku=sku, name=path.stem)
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


def _load(path: Path) -> object:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        raise UnsupportedModel(
            f"{path} is no ONNX model; give a file made by onnx.save or a converter"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
