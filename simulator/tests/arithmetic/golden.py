"""Writes simulator/golden/arithmetic.json, the golden vectors of ARITHMETIC.md, out of the exact second
implementation; with --check says whether the file is what this would write.

The oracle is never asked: the file is what it must agree with.
"""

import json
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from drawn_layers import drawn
from exact_npu import Machine
from exact_numbers import (
    FLOAT16,
    FLOAT32,
    Picture,
    Quantiser,
    Vector,
    add16,
    multiply16,
    power_of_two,
    rounded,
)
from npu.bfp import PRESETS, Preset, Rounding
from npu.chain import Kind, Stage
from npu.program import Program

FILE = Path(__file__).parents[2] / "golden" / "arithmetic.json"

# Recipes of drawn_layers.py and seeds: every kind, every allowed combination of preset, accumulation and
# rounding (22 of them, by the seed), and what it takes to reveal each of mutants.py.
PROGRAMS = {
    "taps": range(22),
    "tie": range(22),
    "conv": (0, 2, 14, 18, 21),
    "expand": (0, 1, 9, 18, 20),
    "max_pool": (0, 7, 12, 18, 21),
    "average_pool": (2, 3, 12, 18, 21),
    "identity": (0, 1, 18),
    "residual": (0, 2, 5, 20),
    "concat": (1, 4, 20),
    "network": (0, 4, 11, 18),
    "cancelling": (0, 2, 4, 8, 20),
    "far_apart": (0, 3, 4, 18, 20),
    "extremes": (0, 3, 10, 17, 18, 19, 20, 21),
    "zeros": (0, 1, 5, 20),
}


def spell(numbers: Vector, kind: str) -> str:
    """Bits as hexadecimal digits: kind e, f or d for float16, float32, float64."""
    return " ".join(struct.pack(f">{kind}", number).hex() for number in numbers)


def flat(picture: Picture) -> Vector:
    return [number for row in picture for vector in row for number in vector]


def blocks_to_quantise(form: Preset) -> dict[str, Vector]:
    """Float32 numbers, one vector per name."""
    m = form.mantissa_bits
    ties = [float((q + Fraction(1, 2)) * power_of_two(3 - m)) for q in range(0, 2**m, 2 ** max(m - 4, 0))]
    beside = [float(Fraction(x) * (1 + sign * power_of_two(-20))) for x in ties for sign in (1, -1)]
    below = [float((2 - power_of_two(-23)) * power_of_two(e)) for e in (12, -1, -17)]
    return {
        "zeros": [0.0, -0.0, 0.0],
        "one and minus one": [1.0, -1.0, -0.0],
        "just below two clamps the mantissa": [1.9999, 1.0, -1.9999],
        "ties, the largest number 4": [4.0, *ties, *(-x for x in ties)],
        "beside the ties": [4.0, *beside],
        **{f"just below a power of two, {x:g}": [x, x / 2, -x / 3] for x in below},
        "powers of two, of which logarithms miss some": [2.0**-29, 2.0**-30],
        "small beside large": [1.0, 2.0 ** (1 - m), 2.0**-m, 1.5 * 2.0**-m, 2.0 ** (-m - 1)],
        "float16's smallest": [2.0**-24, 3 * 2.0**-24, -(2.0**-14)],
        "below the smallest exponent of 5 bits": [2.0**-18, -(2.0**-20), 2.0**-21, 2.0**-22],
        "float16's largest": [65504.0, -65504.0, 2048.0],
        "beyond the largest exponent of 5 bits": [2.0**20, 2.0**15, 1.0],
        "float32's end": [3.4028234663852886e38, -(2.0**127), 2.0**120],
        "below float32's normal numbers": [2.0**-126, 2.0**-130, -(2.0**-149)],
        "one block and a short one": [8.0] * form.box + [0.25, -3.0],
    }


def quantised_cases() -> list[dict[str, Any]]:
    cases = []
    for form in PRESETS.values():
        for rounding in Rounding:
            for name, numbers in blocks_to_quantise(form).items():
                numbers = [rounded(Fraction(x), FLOAT32) if x else x for x in numbers]  # noqa: PLW2901
                blocks = Quantiser(form, rounding).blocks(numbers)
                cases.append(
                    {
                        "name": name,
                        "preset": form.name,
                        "rounding": rounding.name.lower().replace("_", "-"),
                        "numbers": spell(numbers, "f"),
                        "exponents": " ".join(str(block.exponent) for block in blocks),
                        "mantissas": " ".join(str(q) for block in blocks for q in block.mantissas),
                    }
                )
    return cases


def float16_cases() -> dict[str, dict[str, str]]:
    """Operands and results of each operation of the float16 stage, and of the two roundings before it."""
    tiny, least, largest = 2.0**-24, 2.0**-14, 65504.0
    some = [0.0, -0.0, 1.0, -1.0, tiny, -tiny, 1023 * tiny, least, 2049.0 - 1, 1 / 3, largest, -largest, 0.1]
    some = [rounded(Fraction(x), FLOAT16) if x else x for x in some]
    left, right = [a for a in some for _ in some], [b for _ in some for b in some]
    # Sums and products at, and next to, ties of float16; at both ends of its range.
    left += [1.0, 1.0 + 2.0**-10, 1.0, 1.0, 2048.0, 2050.0, largest, largest, 3 * tiny, 5 * tiny, 2.0**-12]
    right += [2.0**-11, 2.0**-11, 3 * 2.0**-12, -(2.0**-12), 1.0, 1.0, 15.0, 16.0, 0.5, 0.5, 2.0**-12]
    double = [
        1 + 2.0**-11,  # a tie: to even
        1 + 2.0**-11 + 2.0**-30,  # float32 makes it a tie, and the tie goes down
        1 + 3 * 2.0**-11 - 2.0**-30,  # ... and up
        1 + 2.0**-11 + 2.0**-23,  # what float32 keeps goes the right way
        -(2.0**-25),
        -(2.0**-25) * (1 + 2.0**-30),
        2.0**-25 * (1 + 2.0**-20),
        -(2.0**-160),  # nothing in float32, with its sign
        65519.99,
        65520.0,
        -1e300,
        0.0,
    ]
    single = [rounded(Fraction(x), FLOAT32) if x else 0.0 for x in double[:-2]] + [
        -0.0,
        3e38,
        -3e38,
        2.0**-149,
    ]
    single = [rounded(Fraction(x), FLOAT32) if x else x for x in single]

    def narrow(x: float) -> float:
        once = rounded(Fraction(x), FLOAT32)
        return rounded(Fraction(once), FLOAT16) if once else once

    return {
        "edge": {
            "left": spell(single, "f"),
            "result": spell([rounded(Fraction(x), FLOAT16) + 0.0 for x in single], "e"),
        },
        "narrow": {"left": spell(double, "d"), "result": spell([narrow(x) for x in double], "e")},
        "multiply": _table(left, right, list(map(multiply16, left, right))),
        "add": _table(left, right, list(map(add16, left, right))),
        "maximum": _table(left, right, list(map(max, left, right))),  # Python's: the left one on ties
        "relu": {"left": spell(some, "e"), "result": spell([x if x > 0 else 0.0 for x in some], "e")},
    }


def _table(left: Vector, right: Vector, result: Vector) -> dict[str, str]:
    return {"left": spell(left, "e"), "right": spell(right, "e"), "result": spell(result, "e")}


def program_case(recipe: str, seed: int) -> dict[str, Any]:
    program, picture = drawn(recipe, seed)
    machine = Machine(program)
    tensors = machine.run(picture)
    return {
        "name": program.name,
        "preset": program.preset.name,
        "rounding": program.rounding.name.lower().replace("_", "-"),
        "input": spell(flat(picture), "f"),
        "outputs": list(program.output_tensors),
        "tensors": [
            {"shape": list(tensor.shape), "numbers": spell(flat(tensors[index]), "e")}
            for index, tensor in enumerate(program.tensors)
        ],
        "chains": [chain_case(program, index) for index in range(len(program.chains))],
    }


def chain_case(program: Program, index: int) -> dict[str, Any]:
    chain = program.chains[index]
    case: dict[str, Any] = {
        "kind": chain.kind.name.lower().replace("_", "-"),
        "stage": [stage.name.lower() for stage in Stage if stage and stage in chain.stage and stage.name],
        "kernel": list(chain.kernel),
        "stride": list(chain.stride),
        "dilation": list(chain.dilation),
        "pad": list(chain.pad),
        "source": chain.source,
        "residual": chain.residual,
        "residual_stride": list(chain.residual_stride),
        "target": chain.target,
    }
    if chain.kind in (Kind.CONV, Kind.EXPAND):
        mantissas, exponents = program.weights(index)
        case["accumulation"] = chain.accumulation.name.lower().replace("_", "-")
        case["mantissas"] = " ".join(map(str, mantissas.ravel().tolist()))
        case["exponents"] = " ".join(map(str, exponents.ravel().tolist()))
    for name, numbers in zip(("scale", "bias"), program.scale_and_bias(index), strict=True):
        if numbers is not None:
            case[name] = spell(numbers.tolist(), "e")
    return case


def text() -> str:
    cases = [program_case(recipe, seed) for recipe, seeds in PROGRAMS.items() for seed in seeds]
    parts = {
        "about": json.dumps("Golden vectors of the emulated NPU's arithmetic: ../ARITHMETIC.md, section 9."),
        "version": "1",
        "quantise": _lines(quantised_cases()),
        "float16": json.dumps(float16_cases(), indent=1),
        "programs": _lines(cases),
    }
    return "{\n" + ",\n".join(f'"{name}": {part}' for name, part in parts.items()) + "\n}\n"


def _lines(cases: list[dict[str, Any]]) -> str:
    """One case per line, so that a difference names its case."""
    return "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]"


def main() -> int:
    """Write the file, or say that it differs."""
    wanted = text()
    if "--check" in sys.argv[1:]:
        return 0 if FILE.exists() and FILE.read_text() == wanted else 1
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
