"""The kernel: a whole program per call, behind three calls.

    kernel = kernel.open(program_bytes, "bw-cnn-a10")   # checked, weights prepacked
    output = kernel.run(picture)                        # float32 [h, w, c] -> float32 [h, w, c]
    kernel.close()                                      # what it held is free

What computes stands behind `IMPLEMENTATIONS`, by name. Today that is the oracle. A native one plugs in by the
same three calls: an `Opener` that takes the checked program, prepacks its canonical weights for this CPU and
returns a `Handle`; `Handle.run` gets two C-contiguous float32 buffers and may release the GIL for its whole
duration, because it touches nothing of Python and one handle never runs twice at once; `Handle.close` frees.
Every implementation gives the oracle's bits (ARITHMETIC.md).
"""

from collections.abc import Callable, Mapping
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Float32
from npu.errors import KernelClosed, NpuError, SkuError, TensorError
from npu.oracle import Oracle
from npu.program import Program
from npu.sku import check_fits, load_sku

__all__ = ["DEFAULT", "IMPLEMENTATIONS", "Handle", "Kernel", "Opener", "open"]

DEFAULT = "oracle"


class Handle(Protocol):
    """One program, prepared by an implementation. Called by one thread at a time, never after `close`."""

    def run(self, x: Float32, out: Float32) -> None:
        """Compute `x`, finite float32 [h, w, c] of the program's input shape, into `out`, of its output shape.

        Both are C-contiguous and belong to the caller. `out` gets float16 numbers.
        """

    def close(self) -> None:
        """Free what the handle holds."""


Opener = Callable[[Program], Handle]


class Kernel:
    """A program that is ready to run. Calls from several threads take turns, as on the card.

    Close it, or use it as a context manager; one that nobody holds any more closes itself.
    """

    def __init__(self, program: Program, opener: Opener) -> None:
        self.input_shape = program.input_shape
        self.output_shape = program.output_shape
        self._turn = Lock()
        self._handle: Handle | None = opener(program)

    def run(self, x: NDArray[np.floating]) -> Float32:
        """Compute one picture [height, width, channels]; float16 numbers as float32, shaped `output_shape`.

        Raises TensorError for another shape or numbers that are not finite, KernelClosed after `close`.
        """
        if x.shape != self.input_shape:
            raise TensorError(
                f"the input has the shape {list(x.shape)}, the program takes {list(self.input_shape)}"
            )
        with np.errstate(over="ignore"):
            picture = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(picture).all():
            raise TensorError("the input has numbers that are not finite in float32; clip or repair them")
        out = np.empty(self.output_shape, np.float32)
        with self._turn:
            if self._handle is None:
                raise KernelClosed("the kernel is closed; open the program again")
            self._handle.run(picture, out)
        return out

    def close(self) -> None:
        """Free the program, once a call that still runs is done. Closing twice is fine."""
        with self._turn:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:  # an opener may have failed
            self.close()


def open(program: bytes | Program, sku: str, *, implementation: str = DEFAULT) -> Kernel:  # noqa: A001 kernel.open
    """Make a program, as bytes or already read, ready to run on a machine of this SKU.

    Raises ProgramError for damaged bytes, SkuError for a program of another SKU, one that does not fit or one
    that is only timed; NpuError for an implementation that does not exist.
    """
    if implementation not in IMPLEMENTATIONS:
        raise NpuError(f"kernel {implementation!r} is unknown; choose one of {', '.join(IMPLEMENTATIONS)}")
    read = program if isinstance(program, Program) else Program.from_bytes(program)
    # The emulated card compares SKUs itself (npu.device.engine), in the words that its users know.
    if read.sku != sku:
        raise SkuError(f"the program is compiled for the SKU {read.sku}, not for {sku}; compile it for {sku}")
    machine = load_sku(sku)
    if machine.timing_only:
        raise SkuError(
            f"the SKU {sku} is only timed (`npu estimate`), its arithmetic on vectors of {machine.native_dim} "
            "numbers is not defined; compile for another SKU to run the program"
        )
    check_fits(read.need, machine)
    return Kernel(read, IMPLEMENTATIONS[implementation])


class _OracleHandle:
    """The reference, which allocates as it goes and holds the GIL between numpy's calls."""

    def __init__(self, program: Program) -> None:
        self._oracle: Oracle | None = Oracle(program)

    def run(self, x: Float32, out: Float32) -> None:
        assert self._oracle is not None
        out[...] = self._oracle.run(x)

    def close(self) -> None:
        self._oracle = None


IMPLEMENTATIONS: Mapping[str, Opener] = {"oracle": _OracleHandle}
