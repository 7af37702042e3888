"""What the client itself can refuse. A call's own failure stays a `grpc.RpcError`, with its code and
details.
"""

__all__ = [
    "AccelError",
    "KubectlError",
    "MissingRight",
    "NotFound",
    "OutputError",
    "ServiceNotReady",
    "WrongUsage",
]


class AccelError(Exception):
    """The root: every error of this package that is not a gRPC status."""


class OutputError(AccelError):
    """The answer does not have the output that was asked for; the message lists those it has."""


class ServiceNotReady(AccelError):
    """The AccelService exists and cannot be called yet; the message is the operator's. Try again later."""


class KubectlError(AccelError):
    """kubectl is missing or refused; the message is kubectl's."""


class MissingRight(KubectlError):
    """The user may not do what was asked; `right` names the missing permission ("get pods/log")."""

    def __init__(self, message: str, right: str) -> None:
        super().__init__(message)
        self.right = right


class NotFound(AccelError):
    """There is no object of that name; the command ends with exit code 2, as for wrong usage."""


class WrongUsage(AccelError):
    """What was asked for is never done; the message names what to ask for instead. Exit code 2."""
