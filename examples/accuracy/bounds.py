"""How large a share may really be, of which only a sample was seen."""

from math import exp, lgamma, log, log1p

__all__ = ["upper_bound"]


def upper_bound(seen: int, of: int, confidence: float = 0.95) -> float:
    """The upper Clopper-Pearson bound of a share: larger ones would show `seen` or fewer `of` so many with a
    probability below 1 - confidence. One-sided and exact.
    """
    if not 0 <= seen <= of or of < 1:
        raise ValueError(f"{seen} of {of} is no share")
    if seen == of:
        return 1.0
    low, high = seen / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(seen, of, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(seen: int, of: int, share: float) -> float:
    """The probability of `seen` or fewer successes."""
    if share in (0.0, 1.0):
        return 1.0 - share
    logs = log(share), log1p(-share)
    return sum(
        exp(lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) + k * logs[0] + (of - k) * logs[1])
        for k in range(seen + 1)
    )
