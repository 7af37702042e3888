"""What stands behind the card's registers: a program read, timed and computed by `npu`'s own reader, clock
and oracle.

The heavy modules are imported when the first program comes, so that a card is on the bus at once.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.device.errors import ProgramRejected
from npu.errors import NpuError

__all__ = ["MAX_TENSOR", "Loaded", "digest", "load"]

MAX_TENSOR = 1 << 24  # numbers in any tensor: three times what SSD-VGG's largest layer has
MAX_LATENCY_MS = (
    100.0  # simulated; the slowest network known needs 6. Emulating takes thousands of times as long.
)
DOWNLOAD_BYTES_PER_SECOND = (
    6.4e9  # weights cross PCIe Gen3 x8 as float16 (npu.md 5: "tens of ms"); derived, not measured
)
TILE_BYTES = 32_768  # one native 128 × 128 tile of float16


@dataclass(frozen=True)
class Loaded:
    """A program that this card can run."""

    digest: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    latency_seconds: float  # simulated, per inference
    download_seconds: float  # simulated, once
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def digest(data: bytes) -> str:
    """Return the name of these program bytes, as status and trailers show it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def load(data: bytes, sku: str) -> Loaded:
    """Read and time a program for a card of this SKU; raise ProgramRejected with the reason and the cure."""
    from npu import oracle, timing
    from npu.program import Program

    try:
        program = Program.from_bytes(data)
        sizes = {tensor.height * tensor.width * tensor.channels for tensor in program.tensors}
        if max(sizes) > MAX_TENSOR:
            raise ProgramRejected(
                f"a tensor of {max(sizes)} numbers; this card takes {MAX_TENSOR}. Use smaller pictures."
            )
        estimate = timing.estimate(program, sku)
    except NpuError as error:
        raise error if isinstance(error, ProgramRejected) else ProgramRejected(str(error)) from error
    if estimate.latency_ms > MAX_LATENCY_MS:
        raise ProgramRejected(
            f"the program would take {estimate.latency_ms:.0f} ms on the card; "
            f"{MAX_LATENCY_MS:.0f} ms are allowed"
        )
    return Loaded(
        digest(data),
        program.input_shape,
        program.output_shape,
        estimate.latency_ms / 1000,
        estimate.tiles * TILE_BYTES / DOWNLOAD_BYTES_PER_SECOND,
        lambda x: oracle.run(program, x),
    )
