"""Networks by name."""

import re
from collections.abc import Callable

from accel_zoo.densenet import BLOCKS, densenet
from accel_zoo.network import Network
from accel_zoo.resnet import UNITS, resnet
from accel_zoo.ssd import ssd_vgg300
from accel_zoo.vgg import CONVOLUTIONS, vgg

__all__ = ["FIVE", "names", "table"]

FIVE = ("resnet50", "resnet152", "densenet121", "vgg16", "ssd_vgg300")  # those of the original product
_FAMILIES: dict[str, tuple[Callable[..., Network], tuple[int, ...]]] = {
    "resnet": (resnet, tuple(UNITS)),
    "vgg": (vgg, tuple(CONVOLUTIONS)),
    "densenet": (densenet, tuple(BLOCKS)),
}


def names() -> tuple[str, ...]:
    """All networks that have a table."""
    families = [f"{family}{depth}" for family, (_, depths) in _FAMILIES.items() for depth in depths]
    return (*families, "ssd_vgg300")


def table(name: str, *, image: int | None = None, classes: int | None = None) -> Network:
    """The network of that name, for pictures of another size or another number of classes if asked for.

    Raises ValueError, which lists the names, for one that has no table.
    """
    given = {key: value for key, value in (("side", image), ("classes", classes)) if value is not None}
    if name == "ssd_vgg300":
        return ssd_vgg300(**given)
    parts = re.fullmatch(r"([a-z]+)(\d+)", name)
    family, depths = _FAMILIES.get(parts[1] if parts else "", (None, ()))
    if family is None or parts is None or int(parts[2]) not in depths:
        raise ValueError(f"there is no network {name!r}; choose one of {', '.join(names())}")
    return family(int(parts[2]), **given)
