"""A model on its way: float32 ONNX, what the wire sees, and what the original answers to seeded inputs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accel_toolchain.artifact import Tensor

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """One seeded request (batch of one) by wire input name, and the original's answer by wire output name."""

    inputs: Arrays
    outputs: Arrays
    lossless: bool = True
    """False for a JPEG: decoders may differ by a grey level or two, so float parity is not judged."""


@dataclass(frozen=True)
class FloatModel:
    """What every source format becomes before it is partitioned."""

    proto: onnx.ModelProto
    """Float32, opset 18, batch `N`; its inputs are the wire inputs, or `decode.tensor` for strings."""
    signature: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    decode: dict[str, Any] | None
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = field(default=())


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the wire's name of an element type."""
    return "string" if dtype.kind in "SUO" else dtype.name
