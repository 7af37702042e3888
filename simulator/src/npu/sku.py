"""SKUs: the sizes and speeds of one machine, each constant with the tag of its source.

The files are data in the package (`data/skus/*.json`); nothing else in the package writes down a hardware
number.
"""

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from npu.chain import Need
from npu.errors import DoesNotFit, SkuError

__all__ = ["DEFAULT_SKU", "Constant", "Sku", "check_fits", "constants", "load_sku", "sku_names"]

DEFAULT_SKU = "bw-cnn-a10"
TAGS = frozenset({"V", "V2", "M", "D"})


@dataclass(frozen=True)
class Constant:
    """One number of a SKU file: how well it is known (a tag of TAGS), and why it is this one."""

    value: Any  # int, float or bool
    unit: str
    tag: str
    why: str


@dataclass(frozen=True)
class Sku:
    """Sizes in native vectors or tiles, speeds in SI units; `tags` says for each how well it is known.

    A machine that is `timing_only` computes nothing: its native dimension has no defined arithmetic.
    """

    name: str
    timing_only: bool
    native_dim: int
    macs: int
    clock_hz: int
    mfus: int
    channels: int
    initial_vrf: int
    addsub_vrf_0: int
    addsub_vrf_1: int
    multiply_vrf: int
    matrix_rf: int
    matrix_memory: int
    vector_memory: int
    on_chip_bytes: int
    dram_bytes_per_second: int
    issue_cycles: int
    pipeline_cycles: int
    pcie_bytes_per_second: int
    host_seconds: float
    tags: tuple[tuple[str, str], ...]

    @property
    def cycles_per_tile(self) -> float:
        """Cycles that one native matrix times one native vector takes."""
        return self.native_dim**2 / self.macs


def sku_names() -> tuple[str, ...]:
    """The SKUs that the package knows, sorted."""
    folder = resources.files("npu") / "data" / "skus"
    return tuple(
        sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    )


@cache
def load_sku(name: str = DEFAULT_SKU) -> Sku:
    """Return the SKU of that name; SkuError lists those that exist."""
    if name not in sku_names():
        raise SkuError(f"SKU {name!r} is unknown; choose one of {', '.join(sku_names())}")
    found = constants(name)
    wanted = {field.name for field in fields(Sku)} - {"name", "tags"}
    if set(found) != wanted:
        raise SkuError(f"SKU file {name}: constants missing or unknown: {sorted(wanted ^ set(found))}")
    return Sku(
        name=name,
        tags=tuple((key, constant.tag) for key, constant in found.items()),
        **{key: constant.value for key, constant in found.items()},
    )


def constants(name: str) -> dict[str, Constant]:
    """Every number of the SKU's file with its unit, tag and reason, in the file's order."""
    text = (resources.files("npu") / "data" / "skus" / f"{name}.json").read_text(encoding="utf-8")
    found = {key: Constant(**constant) for key, constant in json.loads(text)["constants"].items()}
    for key, constant in found.items():
        if constant.tag not in TAGS or not constant.why:
            raise SkuError(f"SKU file {name}: {key} has no source tag or no reason")
    return found


def check_fits(need: Need, sku: Sku) -> None:
    """Raise DoesNotFit that names every memory in which the program does not fit."""
    lacking = [
        f"{key} {wanted} > {getattr(sku, key)}"
        for key, wanted in vars(need).items()
        if wanted > getattr(sku, key)
    ]
    if lacking:
        raise DoesNotFit(f"the program does not fit the SKU {sku.name}: {', '.join(lacking)}")
