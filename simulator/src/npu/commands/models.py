"""Models on the command line: which file is what, and how it is compiled."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from npu import bfp
from npu.errors import UnsupportedModel
from npu.program import MAGIC
from npu.sku import DEFAULT_SKU, sku_names

__all__ = ["add_compiling", "is_program", "load_model"]


def add_compiling(parser: ArgumentParser, *, precision: bool = True) -> None:
    """Add --sku and, unless the command has its own, --precision."""
    parser.add_argument("--sku", choices=sku_names(), default=DEFAULT_SKU, help="the machine to compile for")
    if precision:
        parser.add_argument("--precision", choices=list(bfp.PRESETS), default=bfp.DEFAULT)


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
