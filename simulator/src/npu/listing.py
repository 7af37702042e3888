"""A program as text: its chains, tensors and weight loads, for people and for programs.

Everything that the bytes say is here except the weights themselves.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from npu.chain import Chain, Files, Kind, Load, Tensor
from npu.program import Program
from npu.tables import columns, printable

__all__ = ["FORMATS", "LEGEND", "render"]

FORMATS = ("table", "json")
SHOWN_LOADS = 4  # of one chain, on its line
MULTIPLIES = (Kind.CONV, Kind.EXPAND)
NAME = 44  # characters of a chain's name; its end tells more than its beginning

LEGEND = """\
#          chain/group: chains of one group run row by row together
kind       what feeds the matrix unit: conv windows of vectors, expand windows of the picture (7 x 7, cut by the
           Expander), identity the vectors themselves, max_pool, average_pool, concat (what it adds comes behind)
window     kernel, /stride, *dilation, +top,left padding in zeros
sums       how the products' sums are added: fp32-seq, wide (float64), fp16-taps (ARITHMETIC.md, section 4)
stage      float16 operations behind the matrix unit, in this order: scale, bias, residual, relu
reads      tensor read through the matrix unit (quantised); t0 is the picture
adds       tensor read by the float16 stage, unquantised; /rows,columns where it skips some
writes     tensor written
shape      of that tensor: height x width x channels
registers  native vectors that hold it: m in the matrix file (block floating point), f in the float16 file;
           streamed: only the lines under its reader's window exist; pitch: vectors per position where later
           concatenations grow it in place; out: goes to the output queue, in the order of `outputs`
tiles      native matrices of weights in DRAM
loads      how they come into the matrix registers, as buffer:tiles; none: they stay there, loaded once
"""


def render(program: Program, form: str = "table", *, loads: bool = False) -> str:
    """The program as one of FORMATS; `loads` adds a table of every weight load, which JSON always has."""
    if form == "json":
        return json.dumps(_document(program), indent=2) + "\n"
    parts = [_head(program), columns(_chain_rows(program))]
    if loads and program.loads:
        parts.append(columns(_load_rows(program)))
    return "\n".join(parts)


def _head(program: Program) -> str:
    preset = program.preset
    outputs = ", ".join(f"t{i} {_shape(program.tensors[i])}" for i in program.output_tensors)
    needs = ", ".join(f"{key} {value}" for key, value in vars(program.need).items())
    resident = "they stay in the matrix registers"
    plan = f"{len(program.loads)} loads an inference" if program.loads else resident
    return (
        f"program   {printable(program.name)}, version {program.version}\n"
        f"digest    {program.digest}\n"
        f"format    {preset.name}: blocks of {preset.box}, {preset.exponent_bits}-bit exponents, "
        f"{preset.mantissa_bits}-bit mantissas, rounding {_option(program.rounding)}\n"
        f"machine   {program.sku}, native vectors of {program.native_dim}\n"
        f"input     t0 {_shape(program.tensors[0])}\n"
        f"outputs   {outputs}\n"
        f"needs     {needs}\n"
        f"weights   {program.need.matrix_memory} tiles, {plan}\n"
    )


def _chain_rows(program: Program) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("#", "chain", "kind", "window", "sums", "stage", "reads", "adds", "writes", "shape", "registers",
         "tiles", "loads"),
        ("", "the picture", "", "", "", "", "", "", "t0", _shape(program.tensors[0]), _registers(program, 0),
         "", ""),
    ]  # fmt: skip
    plan = _by_chain(program.loads)
    for index, (chain, name) in enumerate(zip(program.chains, program.chain_names, strict=True)):
        source, target = program.tensors[chain.source], program.tensors[chain.target]
        rows.append(
            (
                f"{index}/{chain.group}",
                name[-NAME:],
                _word(chain.kind),
                _window(chain),
                _option(chain.accumulation) if chain.kind in MULTIPLIES else "",
                _stage(chain),
                f"t{chain.source}",
                _added(chain),
                f"t{chain.target}",
                _shape(target),
                _registers(program, chain.target),
                str(chain.tiles(source, target)),
                _loads(plan[index]),
            )
        )
    return rows


def _load_rows(program: Program) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("load", "buffer", "tiles", "of chain", "first tile", "name")]
    rows += [
        (
            str(index),
            str(load.buffer),
            str(load.tiles),
            str(load.chain),
            str(load.first),
            program.chain_names[load.chain][-NAME:],
        )
        for index, load in enumerate(program.loads)
    ]
    return rows


def _window(chain: Chain) -> str:
    text = "x".join(map(str, chain.kernel))
    for mark, pair, usual in (("/", chain.stride, 1), ("*", chain.dilation, 1), ("+", chain.pad, 0)):
        if pair != (usual, usual):
            text += mark + (str(pair[0]) if pair[0] == pair[1] and mark != "+" else ",".join(map(str, pair)))
    return text


def _stage(chain: Chain) -> str:
    return "+".join(_word(flag) for flag in chain.stage)


def _added(chain: Chain) -> str:
    if chain.residual is None:
        return ""
    step = "" if chain.residual_stride == (1, 1) else "/" + ",".join(map(str, chain.residual_stride))
    return f"t{chain.residual}{step}"


def _registers(program: Program, index: int) -> str:
    """Where the tensor starts in each file, and what is special about it."""
    tensor = program.tensors[index]
    words = [
        f"{mark}@{address}"
        for mark, file, address in (
            ("m", Files.MATRIX, tensor.matrix_address),
            ("f", Files.FLOAT16, tensor.float16_address),
        )
        if file in tensor.files
    ]
    if Files.STREAMED in tensor.files:
        words.append("streamed")
    if words and tensor.pitch > tensor.depth:
        words.append(f"pitch {tensor.pitch}")
    if index in program.output_tensors:
        words.append("out")
    return " ".join(words)


def _loads(loads: Sequence[Load]) -> str:
    shown = [f"{load.buffer}:{load.tiles}" for load in loads[:SHOWN_LOADS]]
    more = [f"... {len(loads)} in all"] if len(loads) > SHOWN_LOADS else []
    return " ".join([*shown, *more])


def _by_chain(loads: Sequence[Load]) -> defaultdict[int, list[Load]]:
    found: defaultdict[int, list[Load]] = defaultdict(list)
    for load in loads:
        found[load.chain].append(load)
    return found


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _word(member: Any) -> str:
    """A member of an enumeration in lower case."""
    return str(member.name).lower()


def _option(member: Any) -> str:
    """A member of an enumeration as the options of `npu compile` spell it: fp32-seq, nearest-even."""
    return _word(member).replace("_", "-")


def _document(program: Program) -> dict[str, Any]:
    preset = program.preset
    return {
        "name": program.name,
        "digest": program.digest,
        "version": program.version,
        "sku": program.sku,
        "native_dim": program.native_dim,
        "format": {
            "name": preset.name,
            "box": preset.box,
            "exponent_bits": preset.exponent_bits,
            "mantissa_bits": preset.mantissa_bits,
            "rounding": _option(program.rounding),
        },
        "input": 0,
        "outputs": list(program.output_tensors),
        "need": vars(program.need),
        "tensors": [
            {
                "shape": list(tensor.shape),
                "files": [_word(file) for file in tensor.files],
                "matrix_address": tensor.matrix_address if Files.MATRIX in tensor.files else None,
                "float16_address": tensor.float16_address if Files.FLOAT16 in tensor.files else None,
                "pitch": max(tensor.pitch, tensor.depth),
            }
            for tensor in program.tensors
        ],
        "chains": [
            {
                "name": name,
                "group": chain.group,
                "kind": _word(chain.kind),
                "accumulation": _option(chain.accumulation),
                "stage": [_word(flag) for flag in chain.stage],
                "kernel": list(chain.kernel),
                "stride": list(chain.stride),
                "dilation": list(chain.dilation),
                "pad": list(chain.pad),
                "source": chain.source,
                "residual": chain.residual,
                "residual_stride": list(chain.residual_stride),
                "target": chain.target,
                "tiles": chain.tiles(program.tensors[chain.source], program.tensors[chain.target]),
            }
            for chain, name in zip(program.chains, program.chain_names, strict=True)
        ],
        "loads": [vars(load) for load in program.loads],
    }
