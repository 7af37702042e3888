"""What a client learns besides the answer: the clocks of a call, the declared tensors of a model. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CallInfo", "TensorInfo"]


@dataclass(frozen=True)
class CallInfo:
    """What is known of a call besides its answer."""

    seconds: float = 0.0
    """Wall time at the client: the successful attempt, network included."""
    attempts: int = 0
    trailing: Mapping[str, str] = field(default_factory=dict)
    """The trailing metadata's text values."""

    @property
    def simulated_seconds(self) -> float | None:
        """The FPGA's own time by its cycle-level model, or None if the server does not tell."""
        return self._seconds("accel-simulated-us")

    @property
    def device_wall_seconds(self) -> float | None:
        """The time the emulated device took, or None if the server does not tell."""
        return self._seconds("accel-device-wall-us")

    @property
    def device_id(self) -> str | None:
        """The device that computed."""
        return self.trailing.get("accel-device-id")

    @property
    def model_digest(self) -> str | None:
        """The digest of the program on that device."""
        return self.trailing.get("accel-model-digest")

    def _seconds(self, key: str) -> float | None:
        text = self.trailing.get(key)
        return None if text is None else float(text) / 1e6


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of the model. A size of -1 fits any."""

    alias: str
    name: str
    dtype: str
    shape: tuple[int, ...]
