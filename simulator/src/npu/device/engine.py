"""What stands behind the card's registers: a program read, timed and computed by `npu`'s own reader, clock
and kernel.

The heavy modules are imported when the first program comes, so that a card is on the bus at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from npu.device.errors import ProgramRejected
from npu.errors import NpuError

if TYPE_CHECKING:  # a card is on the bus before numpy is loaded
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_TENSOR", "Loaded", "load"]

MAX_TENSOR = 1 << 24  # numbers in any array: the Expander's windows of a 300 x 300 picture are 13 million
MAX_LATENCY_MS = 100.0  # simulated; the slowest network known needs 6, and emulating takes far longer
FLOAT16 = 2  # bytes: weights cross PCIe as float16 and are made block floating point on the card


@dataclass(frozen=True)
class Loaded:
    """A program that this card can run."""

    digest: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    latency_seconds: float  # simulated, per inference
    download_seconds: float  # simulated, once
    compute: "Callable[[NDArray[np.float32]], NDArray[np.float32]]"
    close: Callable[[], None]  # frees the program; waits for a computation that still runs


@cache
def _reserve_buffers() -> None:
    """Have the BLAS take its buffers while there is memory: one that fails to later ends the process, without
    a word.
    """
    import numpy as np

    square = np.ones((512, 512), np.float32)
    square @ square


def load(data: bytes, digest: str, sku: str) -> Loaded:
    """Read and time a program for a card of this SKU; raise ProgramRejected with the reason and the cure.

    `digest` is the bytes' own, computed by whoever received them.
    """
    from npu import kernel, timing
    from npu.program import Program
    from npu.sku import load_sku

    _reserve_buffers()
    try:
        program = Program.from_bytes(data)
        if program.sku != sku:
            raise ProgramRejected(
                f"DeviceSkuMismatch: the program is compiled for the SKU {program.sku} and this card is a "
                f"{sku}; convert the model with spec.conversion.sku {sku}, or use a card of the SKU {program.sku}"
            )
        machine = load_sku(sku)
        tensors = program.tensors
        largest = max(
            chain.workspace(tensors[chain.source], tensors[chain.target]) for chain in program.chains
        )
        if largest > MAX_TENSOR:
            raise ProgramRejected(
                f"a layer takes an array of {largest} numbers; this card's emulator computes with {MAX_TENSOR} at "
                "most: use smaller pictures"
            )
        estimate = timing.estimate(program, machine)
        if estimate.latency_ms > MAX_LATENCY_MS:
            raise ProgramRejected(
                f"the program would take {estimate.latency_ms:.0f} ms a picture; {MAX_LATENCY_MS:.0f} are "
                "allowed"
            )
        ready = kernel.open(program, sku)
    except NpuError as error:
        raise error if isinstance(error, ProgramRejected) else ProgramRejected(str(error)) from error
    return Loaded(
        digest,
        program.input_shape,
        program.output_shape,
        estimate.latency_ms / 1000,
        estimate.tiles * machine.native_dim**2 * FLOAT16 / machine.pcie_bytes_per_second,
        ready.run,
        ready.close,
    )
