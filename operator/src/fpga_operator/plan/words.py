"""Numbers in sentences."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return `1 replica` or `2 replicas`; `many` where an s at the end is not enough."""
    return f"{count} {one if count == 1 else many or one + 's'}"
