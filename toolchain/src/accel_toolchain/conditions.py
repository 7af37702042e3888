"""Failures as the operator shows them: a reason, and a sentence that names the field and the cure.

Two branches: `Terminal` needs a person (exit code 65), `Transient` heals by itself (exit code 75).
"""

from typing import ClassVar, Final

EXIT_TERMINAL: Final = 65  # EX_DATAERR
EXIT_TRANSIENT: Final = 75  # EX_TEMPFAIL
EXIT_KILLED: Final = 137  # 128 + SIGKILL, what a kubelet reports for a container that ran out of memory


class Failure(Exception):
    """Root: why a step of a Job ended without a result."""

    retry: ClassVar[bool]
    exit_code: ClassVar[int]

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Terminal(Failure):
    """The same input fails again: someone must change the object or the source."""

    retry = False
    exit_code = EXIT_TERMINAL


class Transient(Failure):
    """Something away or overloaded; the Job may be run again."""

    retry = True
    exit_code = EXIT_TRANSIENT


class Killed(Failure):
    """The converter was killed for its memory; exits as a killed container does."""

    retry = False
    exit_code = EXIT_KILLED


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed, as Python, TensorFlow and ONNX Runtime say it, from a fault of the model."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    return any(
        words in str(error) for words in ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
    )


def listed(names: list[str], limit: int = 12) -> str:
    """Return names for a message, cut after `limit` and saying so."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
