"""Models on the command line: which file is what, and how it is compiled."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu import bfp
from npu.errors import UnsupportedModel
from npu.program import MAGIC
from npu.sku import DEFAULT_SKU, sku_names

if TYPE_CHECKING:
    from npu.compiler import Compiled  # with it comes onnx, which takes its time

__all__ = ["add_compiling", "compiled", "is_program", "load_model"]

ROUNDINGS = tuple(rounding.name.lower().replace("_", "-") for rounding in bfp.Rounding)
ACCUMULATIONS = ("auto", "fp32-seq", "wide")


def add_compiling(parser: ArgumentParser, *, precision: bool = True) -> None:
    """Add --sku, --rounding, --accumulation and, unless the command has its own, --precision."""
    parser.add_argument("--sku", choices=sku_names(), default=DEFAULT_SKU, help="the machine to compile for")
    parser.add_argument("--rounding", choices=ROUNDINGS, default=ROUNDINGS[0], help="of mantissas")
    parser.add_argument(
        "--accumulation", choices=ACCUMULATIONS, default=ACCUMULATIONS[0], help="of block sums"
    )
    if precision:
        parser.add_argument("--precision", choices=list(bfp.PRESETS), default=bfp.DEFAULT)


def compiled(options: Namespace, model: Any = None) -> "Compiled":
    """The model (absent: the one that the options name) compiled as they say; raises CompileError or SkuError."""
    from npu.compiler import compile_model

    return compile_model(
        load_model(options.model) if model is None else model,
        precision=options.precision,
        sku=options.sku,
        name=options.model.stem,
        accumulation=options.accumulation,
        rounding=options.rounding,
    )


def is_program(path: Path) -> bool:
    """Whether the file begins as a compiled program does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def load_model(path: Path) -> Any:
    """The onnx.ModelProto in a file; UnsupportedModel if there is none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        raise UnsupportedModel(
            f"{path} is no ONNX model; give a file made by onnx.save or a converter"
        ) from None
