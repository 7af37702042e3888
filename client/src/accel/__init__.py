"""Client of accelerated services.

Importing this package imports nothing else: `accel.oci` must work where grpc is not installed, and `kubectl
accel` must start at once. The public names are resolved on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.calls import CallInfo
    from accel.errors import AccelError, OutputError, ServiceNotReady
    from accel.prediction import PredictionClient
    from accel.service import client_from_service

__all__ = [
    "AccelError",
    "CallInfo",
    "OutputError",
    "PredictionClient",
    "ServiceNotReady",
    "client_from_service",
]

_HOMES = {
    "AccelError": "accel.errors",
    "CallInfo": "accel.calls",
    "PredictionClient": "accel.prediction",
    "OutputError": "accel.errors",
    "ServiceNotReady": "accel.errors",
    "client_from_service": "accel.service",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines `name` (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'accel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
