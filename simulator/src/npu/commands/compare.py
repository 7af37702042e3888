"""`npu compare`: a model in float32 against each number format."""

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npu import bfp
from npu.commands import Subparsers
from npu.commands.models import add_compiling, load_model
from npu.errors import TensorError
from npu.execute import inputs_of
from npu.feeds import random_feeds, read_feeds

if TYPE_CHECKING:
    from npu.compare import Comparison

__all__ = ["register"]

WORST = 5  # layers per format in the table
RANDOM = 4  # pictures, where none are given


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser("compare", help="float32 against each number format: SNR per layer, answers")
    parser.add_argument("model", type=Path, help="an ONNX model")
    parser.add_argument(
        "--inputs", type=Path, nargs="+", help="x.npy, x.npz with names, or pictures; absent: random numbers"
    )
    parser.add_argument("--labels", type=Path, help="y.npy: the right class of each picture")
    parser.add_argument("--precision", nargs="+", choices=["all", *bfp.PRESETS], default=["all"])
    parser.add_argument("--samples", type=int, help=f"only so many pictures (of random ones {RANDOM})")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    add_compiling(parser, precision=False)
    parser.set_defaults(execute=execute)


def execute(options: Namespace) -> None:
    """Run the command; raises NpuError or OSError."""
    from npu.compare import compare  # with it comes onnx, which takes its time

    if options.samples is not None and options.samples < 1:
        raise TensorError(f"--samples: {options.samples} pictures are none; give at least 1")
    if options.labels is not None and options.inputs is None:
        raise TensorError("--labels: random pictures have no labels; give the pictures as --inputs")
    model = load_model(options.model)
    inputs = inputs_of(model)
    labels = None
    if options.inputs is None:
        feeds = random_feeds(inputs, options.samples or RANDOM)
    else:
        feeds = read_feeds(options.inputs, inputs, "--inputs")
        feeds = {name: array[: options.samples] for name, array in feeds.items()}
    if options.labels is not None:
        try:
            labels = np.load(options.labels, allow_pickle=False)[: options.samples]
        except (ValueError, EOFError, IndexError) as error:
            raise TensorError(f"--labels: {options.labels} is no .npy of class numbers: {error}") from error
    precisions = tuple(bfp.PRESETS) if "all" in options.precision else tuple(dict.fromkeys(options.precision))
    found = compare(
        model,
        feeds,
        precisions,
        labels=labels,
        sku=options.sku,
        rounding=options.rounding,
        accumulation=options.accumulation,
        say=_say,
    )
    match options.format:
        case "json":
            sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
        case "csv":
            sys.stdout.write(_csv(found))
        case _:
            sys.stdout.write(_table(found, options.inputs is None))


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}\x1b[K" + ("\n" if line.endswith("\n") else ""))


def _csv(found: "Comparison") -> str:
    """One line per format and layer."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    header = ("snr_db", "before_db", "input_db", "weights_db", "saturated", "cause")
    rows.writerow(["precision", "layer", "tensor", "kind", *header])
    for preset in found.presets:
        for layer in preset.layers:
            numbers = (layer.snr_db, layer.before_db, layer.input_db, layer.weights_db)
            cells = ["" if number is None else f"{number:.3f}" for number in numbers]
            names = [preset.precision, layer.name, layer.tensor, layer.kind]
            rows.writerow([*names, *cells, f"{layer.saturated:.6g}", layer.cause])
    return out.getvalue()


def _table(found: "Comparison", is_random: bool) -> str:
    pictures = (
        f"{found.samples} {'random pictures (agreement on these says little)' if is_random else 'pictures'}"
    )
    text = f"{pictures}, each format against the model in float32"
    text += "\n\n" if found.accuracy is None else f" (accuracy {found.accuracy:.2%})\n\n"
    rows = [("precision", "end error", "top-1 as float32", "accuracy", "saturated", "lowest SNR", "last SNR")]
    rows += [
        (
            preset.precision,
            f"{preset.relative_l2:.3g}",
            _percent(preset.agreement),
            _percent(preset.accuracy),
            _percent(preset.saturated),
            _db(min(layer.snr_db for layer in preset.layers)),
            _db(preset.layers[-1].snr_db),
        )
        for preset in found.presets
    ]
    text += _columns(rows)
    for preset in found.presets:
        text += f"\nworst layers in {preset.precision}\n"
        worst = [("  SNR", "before", "input", "weights", "mostly by", "layer")]
        worst += [
            (
                f"  {_db(layer.snr_db)}",
                _db(layer.before_db),
                _db(layer.input_db),
                _db(layer.weights_db),
                layer.cause,
                f"{layer.name} ({layer.kind})",
            )
            for layer in preset.worst(WORST)
        ]
        text += _columns(worst)
    return text


def _db(value: float | None) -> str:
    if value is None:
        return "-"
    return "exact" if isinf(value) and value > 0 else f"{value:.1f} dB"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines) + "\n"
