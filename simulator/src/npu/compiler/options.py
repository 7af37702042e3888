"""What a user may choose about the arithmetic, and which choices go together."""

from dataclasses import dataclass

from npu import bfp
from npu.bfp import Accumulation, Preset, Rounding
from npu.errors import CompileError

__all__ = ["ACCUMULATIONS", "ROUNDINGS", "Options", "options"]

ACCUMULATIONS = ("auto", "fp32-seq", "wide")
ROUNDINGS = {"nearest-even": Rounding.NEAREST_EVEN, "truncate": Rounding.TRUNCATE}


@dataclass(frozen=True)
class Options:
    """`accumulation` is that of all chains but, with `front_block`, those that add their taps in float16."""

    preset: Preset
    accumulation: Accumulation
    rounding: Rounding = Rounding.NEAREST_EVEN
    front_block: bool = False


def options(
    precision: str | Preset = bfp.DEFAULT, accumulation: str = "auto", rounding: str = "nearest-even"
) -> Options:
    """Return the choices, or raise CompileError that names what may be chosen instead.

    `auto` is the preset's own accumulation, and float16 taps in the front block if that is `fp32-seq`.
    """
    preset = precision if isinstance(precision, Preset) else bfp.preset(precision)
    if accumulation not in ACCUMULATIONS:
        raise CompileError(
            f"accumulation {accumulation!r} is unknown; choose one of {', '.join(ACCUMULATIONS)}"
        )
    if rounding not in ROUNDINGS:
        raise CompileError(f"rounding {rounding!r} is unknown; choose one of {', '.join(ROUNDINGS)}")
    chosen = {"fp32-seq": Accumulation.FP32_SEQ, "wide": Accumulation.WIDE}.get(
        accumulation, preset.accumulation
    )
    if chosen not in preset.accumulations:
        raise CompileError(
            f"accumulation {accumulation!r} cannot hold the sums of {preset.name}, which has 8-bit exponents; "
            "leave it at 'auto', or choose a preset with 5-bit exponents"
        )
    taps = accumulation == "auto" and chosen is Accumulation.FP32_SEQ
    return Options(preset, chosen, ROUNDINGS[rounding], taps)
