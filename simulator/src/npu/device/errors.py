"""What a device's user can meet. Two branches: DeviceUnavailable means try again, the others mean that
something must change.
"""

from dataclasses import dataclass

from npu.device.states import State
from npu.errors import NpuError

__all__ = ["DeviceError", "DeviceFaulted", "DeviceUnavailable", "ProgramRejected", "Progress"]


@dataclass(frozen=True)
class Progress:
    """How far a card is on its way to ready. `percent` is of the present state, not of the whole way."""

    state: State
    percent: int
    remaining_seconds: float

    def __str__(self) -> str:
        """Say it as a person would read it in an error message."""
        return f"{self.state}, {self.percent} % done, about {self.remaining_seconds:.1f} s left"


class DeviceError(NpuError):
    """Base of what can go wrong between a model server and its card."""


class DeviceUnavailable(DeviceError):
    """Transient: not there, flashing or loading, connection lost, or held by another owner. Try again."""

    def __init__(self, message: str, progress: Progress | None = None) -> None:
        super().__init__(message)
        self.progress = progress


class DeviceFaulted(DeviceError):
    """The card is broken (too hot, hung, …) and stays so until the fault ends. Use another card."""


class ProgramRejected(DeviceError):
    """The card read the program and will never run it. Compile it again, for this card's SKU."""
