"""What the study found, as values and as the committed results.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from examples.accuracy.bounds import upper_bound

__all__ = ["FILE", "FLOAT32", "TUNED", "NetworkResult", "Outcome", "read", "write"]

FILE = Path(__file__).parent / "results.json"
FLOAT32 = "float32"
TUNED = "ms-fp8 fine-tuned"  # the one format that is trained on


@dataclass(frozen=True)
class Outcome:
    """One format over held-out pictures: how many are right, how many are answered otherwise than in float32.

    `mantissa_bits` is None for float32. `official` formats are the device's; the others are for the curve only.
    """

    format: str
    mantissa_bits: int | None
    official: bool
    pictures: int
    right: int
    differ: int

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.pictures

    @property
    def bound(self) -> float:
        """The upper 95 % bound of the share that is answered otherwise than in float32."""
        return upper_bound(self.differ, self.pictures)


@dataclass(frozen=True)
class NetworkResult:
    """One network; each picture was held out in one of the folds."""

    network: str
    folds: int
    outcomes: tuple[Outcome, ...]

    def outcome(self, name: str) -> Outcome:
        """The outcome of the format of that name."""
        return next(outcome for outcome in self.outcomes if outcome.format == name)


def write(results: list[NetworkResult], file: Path = FILE) -> None:
    """Store the results."""
    file.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def read(file: Path = FILE) -> list[NetworkResult]:
    """Read them back."""
    return [
        NetworkResult(**{**entry, "outcomes": tuple(Outcome(**outcome) for outcome in entry["outcomes"])})
        for entry in json.loads(file.read_text())
    ]
