"""`npu run`: a model's answers as the device would give them, with its simulated time."""

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu import timing
from npu.commands import Subparsers
from npu.commands.models import add_compiling, compiled, is_program, load_model
from npu.errors import TensorError
from npu.execute import Arrays, Execution, Input, batches, inputs_of
from npu.feeds import read_feeds
from npu.oracle import Oracle
from npu.program import Program

__all__ = ["register"]

AT_ONCE = 16  # pictures that the host's graphs see together

_Runnable = tuple[Program, tuple[Input, ...], Callable[[Arrays], Arrays]]


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser("run", help="compute a model as the device does, bit for bit")
    parser.add_argument(
        "model", type=Path, help="an ONNX model (all of it is run) or a compiled program (only the device)"
    )
    parser.add_argument(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        help="x.npy, x.npz with names, or pictures (one batch)",
    )
    parser.add_argument(
        "--output", type=Path, help="write the answer: y.npy, or y.npz for all outputs by name"
    )
    add_compiling(parser)
    parser.set_defaults(execute=execute)


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    if options.output is not None and options.output.suffix not in (".npy", ".npz"):
        raise TensorError(f"--output: {options.output} must end in .npy or .npz")
    program, inputs, compute = (_device if is_program(options.model) else _whole)(options)
    feeds = read_feeds(options.input, inputs, "--input")
    started = time.perf_counter()
    answers = [compute(dict(part)) for part in batches(feeds, inputs, AT_ONCE)]
    wall = time.perf_counter() - started
    outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    pictures = len(next(iter(feeds.values())))
    for name, array in outputs.items():
        sys.stdout.write(f"{name}: {list(array.shape)} {array.dtype}{_top(array)}\n")
    estimate = timing.estimate(program, options.sku)
    sys.stdout.write(
        f"{program.preset.name} on {options.sku}: {estimate.latency_ms:.3f} ms a picture, simulated; this machine took "
        f"{1e3 * wall / pictures:.1f} ms a picture ({pictures})\n"
    )
    if options.output is not None:
        _write(options.output, outputs)


def _device(options: Namespace) -> _Runnable:
    program = Program.from_bytes(options.model.read_bytes())
    oracle = Oracle(program)

    def compute(feeds: Arrays) -> Arrays:
        return {"output": np.stack([oracle.run(picture) for picture in feeds["input"]])}

    return program, (Input("input", np.dtype(np.float32), (None, *program.input_shape)),), compute


def _whole(options: Namespace) -> _Runnable:
    model = load_model(options.model)
    made = compiled(options, model)
    execution = Execution(made, [value.name for value in model.graph.output])
    return made.program, inputs_of(model), execution.run


def _top(array: NDArray[Any]) -> str:
    """The largest of class scores, for few pictures."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind != "f":
        return ""
    shown = ", ".join(f"{row.argmax()} ({row.max():.3g})" for row in array[:8])
    return f", largest: {shown}{', …' if len(array) > 8 else ''}"


def _write(path: Path, outputs: Arrays) -> None:
    if path.suffix == ".npz":
        np.savez(path, **outputs)  # type: ignore[arg-type]  # numpy takes its own options by the same door
        return
    if len(outputs) != 1:
        raise TensorError(
            f"--output: {len(outputs)} outputs ({', '.join(outputs)}) do not fit one .npy; give an .npz"
        )
    np.save(path, next(iter(outputs.values())))
