"""How a card breaks: one row a fault, saying what happens to the request in flight, which code it gets, and
the health.

Pure: a table. More rows are the whole price of more faults, as long as one of the two fates below fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from npu.device.wire import Code

__all__ = ["FAULTS", "Fate", "Fault"]


class Fate(Enum):
    """What becomes of the request that the card works on."""

    FAILED = "failed"  # answered at once with the fault's code
    WITHHELD = "withheld"  # never answered by the card; its driver gives up after the wait timeout, code 31


@dataclass(frozen=True)
class Fault:
    """One way to break. `reason` is PascalCase and shown as the device's health reason, with `message` after
    it.
    """

    reason: str
    message: str
    fate: Fate
    code: Code
    temperature_c: float | None = None  # what the sensor reads while the fault lasts


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "temperature": Fault(
            "OverTemperature",
            "the temperature register's shutdown bit is set; the accelerator's clocks are stopped",
            Fate.FAILED,
            Code.FAULTED,
            temperature_c=105.0,
        ),
        "hang": Fault(
            "Hang",
            "the accelerator does not complete its requests any more",
            Fate.WITHHELD,
            Code.WAIT_TIMEOUT,
        ),
    }
)
