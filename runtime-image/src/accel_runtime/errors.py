"""What can go wrong between a request and its answer.

One tree; its two branches mean "the caller must change something" and "try again".
"""

__all__ = [
    "ArtifactError",
    "InvalidInput",
    "NotReady",
    "Overloaded",
    "ProgramRefused",
    "RuntimeFault",
    "SettingsError",
    "TooLate",
    "UnknownModel",
]


class RuntimeFault(Exception):
    """The root: every error of this package."""


class SettingsError(RuntimeFault):
    """The container's environment or its mounted files are wrong; the message names the variable or the
    file.
    """


class ArtifactError(RuntimeFault):
    """The model folder cannot be served; the message names the file and what is wrong with it."""


class ProgramRefused(RuntimeFault):
    """The card that this container holds will never run its program; the message says why, and the cure."""


class InvalidInput(RuntimeFault):
    """The request's tensors do not fit the model; the message names the input and what would fit."""


class UnknownModel(RuntimeFault):
    """The request asks for another model or version than the one that is served."""


class NotReady(RuntimeFault):
    """The device cannot compute now; it will by itself, or another replica can. The message says how far it
    is.
    """


class TooLate(RuntimeFault):
    """The request's deadline is over, or will be before its turn at the device comes."""


class Overloaded(RuntimeFault):
    """Too many requests wait already."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
