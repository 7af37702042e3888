"""How a new revision replaces the old one when every pod needs a device of its own.

Surging needs a device that nobody uses; without one, a pod must go before the next can come. Deciding wrongly
deadlocks (surge without a device) or drops requests (one out although a device is free), so the choice is made from
the devices free at that moment and corrected while a rollout is stuck.
"""

from dataclasses import dataclass

STUCK_SECONDS = (
    10.0  # a device of a terminating pod becomes free within its grace period; do not act on that gap
)


@dataclass(frozen=True)
class Strategy:
    """maxSurge and maxUnavailable of the Deployment."""

    surge: int
    unavailable: int


def fresh(replicas: int, placed: int, free: int) -> Strategy:
    """Choose at the start of a rollout.

    placed: pods of this service that have a device; free: devices that it could still get.
    """
    spare = placed + free - replicas
    if spare >= 1:
        return Strategy(surge=1, unavailable=0)
    # Replicas that have no device anyway must count as unavailable, or no served pod may ever make room.
    return Strategy(surge=0, unavailable=1 + max(0, -spare))


def choose(
    current: Strategy | None, *, starting: bool, stuck: bool, replicas: int, placed: int, free: int
) -> Strategy:
    """Return the strategy: chosen when a rollout starts, kept while it goes, corrected when it is stuck."""
    if current is None or starting:
        return fresh(replicas, placed, free)
    if stuck:
        return Strategy(surge=0, unavailable=1 + max(0, replicas - placed))
    return current
