"""Everything this package raises on purpose: one tree, whose messages name the place and the cure."""

from collections.abc import Mapping

__all__ = [
    "CompileError",
    "DoesNotFit",
    "KernelClosed",
    "NothingToOffload",
    "NpuError",
    "ProgramError",
    "SkuError",
    "TensorError",
    "UnsupportedModel",
]


class NpuError(Exception):
    """Base of the tree."""


class CompileError(NpuError):
    """A model that cannot become a program; a person must change the model or the options."""


class UnsupportedModel(CompileError):
    """The file is not a model that this compiler reads at all (not ONNX, external data, unknown shapes)."""


class NothingToOffload(CompileError):
    """No part of the model can run on the device. `reasons`: operator -> why it stays on the host."""

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class ProgramError(NpuError):
    """Program bytes that are damaged, of another version, or that contradict themselves."""


class SkuError(NpuError):
    """An unknown SKU, a damaged SKU file, or a program that needs more than the SKU has."""


class DoesNotFit(CompileError, SkuError):
    """A model or a program that needs more than the SKU has; the message names the layer or the memory."""


class TensorError(NpuError):
    """A tensor at the program's edge with the wrong shape, or with numbers that are not finite."""


class KernelClosed(NpuError):
    """A kernel was run after it was closed."""
