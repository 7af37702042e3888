"""Which failed calls are worth repeating, and when. Pure but for the caller's clock and dice."""

import random
from collections.abc import Iterable

import grpc

__all__ = ["ATTEMPTS", "backoff", "pushback"]

ATTEMPTS = 7  # at most 13 s of waiting: longer than a device needs to be flashed again
_FIRST, _LONGEST = 0.2, 8.0  # seconds

# UNAVAILABLE: the server says "later" or the connection broke. ABORTED: it was interrupted. INTERNAL is not
# here: a server that cannot compute an input will not compute it the second time.
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)


def backoff(
    attempt: int, code: grpc.StatusCode, trailing: Iterable[tuple[str, str | bytes]] = ()
) -> float | None:
    """Return the seconds to wait before attempt `attempt` + 1 (`attempt` counts from 1), or None to give up.

    A full queue (RESOURCE_EXHAUSTED) is repeated only if the server said when; a message that is too large
    gets the same code and never fits.
    """
    if attempt >= ATTEMPTS:
        return None
    hinted = pushback(trailing)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return hinted
    if code not in _TRANSIENT:
        return None
    wait = min(_LONGEST, _FIRST * 2.0 ** (attempt - 1))
    return max(hinted or 0.0, wait * random.uniform(0.5, 1.0))  # noqa: S311  # spreads clients, hides nothing


def pushback(trailing: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Return gRPC's `grpc-retry-pushback-ms` in seconds, or None if the server did not send it."""
    for key, value in trailing:
        if key == "grpc-retry-pushback-ms" and isinstance(value, str) and value.isdigit():
            return int(value) / 1000
    return None
