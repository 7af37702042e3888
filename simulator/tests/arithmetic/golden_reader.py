"""Reads simulator/golden/arithmetic.json: what a stranger's test would do with it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from npu.bfp import PRESETS, Accumulation, Rounding
from npu.chain import Chain, Kind, Need, Stage, Tensor
from npu.program import Program

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "arithmetic.json").read_text())
KINDS = {4: "e", 8: "f", 16: "d"}


def numbers(text: str) -> list[float]:
    """Bits in hexadecimal digits, of whichever float they have the length."""
    return [struct.unpack(f">{KINDS[len(word)]}", bytes.fromhex(word))[0] for word in text.split()]


def whole(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def named(kind: type, name: str) -> Any:
    return kind[name.upper().replace("-", "_")]


def rounding_of(case: dict[str, Any]) -> Rounding:
    return named(Rounding, case["rounding"])


def program_of(case: dict[str, Any]) -> Program:
    form = PRESETS[case["preset"]]
    chains = [_chain(chain, form.accumulation) for chain in case["chains"]]
    parts = case["chains"]
    return Program(
        name=case["name"],
        sku="bw-cnn-a10",
        preset=form,
        rounding=rounding_of(case),
        tensors=tuple(Tensor(*tensor["shape"]) for tensor in case["tensors"]),
        chains=tuple(chains),
        chain_names=tuple(f"{part['kind']} {index}" for index, part in enumerate(parts)),
        mantissas=np.array([q for part in parts for q in whole(part.get("mantissas", ""))], np.int8),
        exponents=np.array([e for part in parts for e in whole(part.get("exponents", ""))], np.int8),
        vectors=np.array(
            [x for part in parts for name in ("scale", "bias") for x in numbers(part.get(name, ""))],
            np.float16,
        ),
        need=Need(0, 0, 0, 0, 0, 0, 0),
        outputs=tuple(case["outputs"]),
    )


def _chain(case: dict[str, Any], default: Accumulation) -> Chain:
    stage = Stage.NONE
    for name in case["stage"]:
        stage |= named(Stage, name)
    return Chain(
        kind=named(Kind, case["kind"]),
        accumulation=named(Accumulation, case["accumulation"]) if "accumulation" in case else default,
        stage=stage,
        kernel=tuple(case["kernel"]),
        stride=tuple(case["stride"]),
        dilation=tuple(case["dilation"]),
        pad=tuple(case["pad"]),
        source=case["source"],
        target=case["target"],
        residual=case["residual"],
        residual_stride=tuple(case["residual_stride"]),
    )


def input_of(case: dict[str, Any]) -> np.ndarray:
    return np.array(numbers(case["input"]), np.float32).reshape(case["tensors"][0]["shape"])


def bits16(values: Any) -> list[int]:
    """Bits of float16 numbers, whatever holds them: tells -0 from 0."""
    return np.asarray(values, np.float32).astype(np.float16).view(np.uint16).ravel().tolist()
