"""The compiled program: what a model's device part is, and its one spelling in bytes.

The bytes hold canonical weights (int8 mantissas, int8 exponents, unpadded), so that a digest depends neither
on the machine that compiled nor on the one that runs. `npu.reader` turns bytes back, and refuses anything
off. What is compiled today is written as version 2; a program read from version 1 keeps its spelling, and
so its digest.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Preset, Rounding
from npu.chain import NATIVE_DIM, Chain, Load, Need, Stage, Tensor, blocks

__all__ = ["Program", "WeightRange"]

MAGIC = b"NPUPROG\n"
VERSION = 2
VERSIONS = (1, 2)  # what the reader takes
ALIGNMENT = 64
NO_TENSOR = 0xFFFFFFFF

# Everything little-endian. The header's digest covers all bytes behind the header.
HEADER = struct.Struct("<8sHHIQ32s8x")  # magic, version, header size, sections, total size, sha256
SECTION = struct.Struct("<4s4xQQ")  # tag, offset, size
FORM = struct.Struct("<IHBBBB6x")  # native dim, box, exponent bits, mantissa bits, rounding, accumulation
NEED = struct.Struct("<7I4x")
# height, width, channels, files, matrix address, float16 address, pitch (0 in version 1)
TENSOR = struct.Struct("<7I4x")
# kind, accumulation, stage, -, group, kernel, stride, dilation, pad, residual stride, -, source, residual,
# target, first mantissa, first exponent, first vector number, -
CHAIN = struct.Struct("<BBBxHHHHHHHHHHH2xIIIQQQ32x")
OUTPUT = struct.Struct("<I")  # a tensor
LOAD = struct.Struct("<4I")  # chain, first tile, tiles, buffer
SECTIONS = (b"FORM", b"NEED", b"NAME", b"TENS", b"CHNS", b"OUTS", b"LODS", b"WMAN", b"WEXP", b"VECS")
NEW_IN_2 = frozenset({b"OUTS", b"LODS"})


@dataclass(frozen=True)
class WeightRange:
    """Where one chain's numbers lie in the program's three arrays."""

    mantissas: slice
    exponents: slice
    vectors: slice
    weight_shape: tuple[int, int, int, int]
    exponent_shape: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Program:
    """One input, one output queue, chains in the order of execution.

    `tensors[0]` is the input. `outputs` are the tensors that go to the output queue, in that order; none named
    means the last chain's target. `mantissas` and `exponents` are int8,
    chain after chain in the order output channel, ky, kx, input channel (or block of them); `vectors` is
    float16: per chain its scales, then its biases. `preset` is as it is `on` this native dimension.
    """

    name: str
    sku: str
    preset: Preset
    rounding: Rounding
    tensors: tuple[Tensor, ...]
    chains: tuple[Chain, ...]
    chain_names: tuple[str, ...]
    mantissas: NDArray[np.int8]
    exponents: NDArray[np.int8]
    vectors: NDArray[np.float16]
    need: Need
    native_dim: int = NATIVE_DIM
    outputs: tuple[int, ...] = ()
    loads: tuple[Load, ...] = ()
    version: int = VERSION  # its spelling in bytes

    @property
    def output_tensors(self) -> tuple[int, ...]:
        """Indices of the tensors in the output queue."""
        return self.outputs or (self.chains[-1].target,)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.tensors[0].shape

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width, channels; several tensors come flat, one behind the other, as (1, 1, numbers)."""
        shapes = [self.tensors[index].shape for index in self.output_tensors]
        return shapes[0] if len(shapes) == 1 else (1, 1, sum(h * w * c for h, w, c in shapes))

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the program's bytes."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    @cached_property
    def ranges(self) -> tuple[WeightRange, ...]:
        """Each chain's part of the arrays; they follow each other without gaps."""
        return tuple(weight_ranges(self.chains, self.tensors, self.preset))

    def weights(self, index: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Mantissas [out, ky, kx, in] and exponents [out, ky, kx, block] of chain `index`."""
        part = self.ranges[index]
        return (
            self.mantissas[part.mantissas].reshape(part.weight_shape),
            self.exponents[part.exponents].reshape(part.exponent_shape),
        )

    def scale_and_bias(self, index: int) -> tuple[NDArray[np.float16] | None, NDArray[np.float16] | None]:
        """The float16 vectors of chain `index`, one number per output channel, None where it has none."""
        chain, numbers = self.chains[index], self.vectors[self.ranges[index].vectors]
        channels = self.tensors[chain.target].channels
        scale = numbers[:channels] if Stage.SCALE in chain.stage else None
        bias = numbers[len(numbers) - channels :] if Stage.BIAS in chain.stage else None
        return scale, bias

    def to_bytes(self) -> bytes:
        """The program's one spelling; the same program gives the same bytes on every machine."""
        contents = {
            b"FORM": _form(self),
            b"NEED": NEED.pack(*vars(self.need).values()),
            b"NAME": pack_names((self.name, self.sku, *self.chain_names)),
            b"TENS": b"".join(_tensor(tensor) for tensor in self.tensors),
            b"CHNS": b"".join(map(_chain, self.chains, self.ranges)),
            b"OUTS": b"".join(OUTPUT.pack(tensor) for tensor in self.output_tensors),
            b"LODS": b"".join(LOAD.pack(*vars(load).values()) for load in self.loads),
            b"WMAN": self.mantissas.tobytes(),
            b"WEXP": self.exponents.tobytes(),
            b"VECS": self.vectors.astype("<f2").tobytes(),
        }
        tags = sections_of(self.version)
        at = HEADER.size + SECTION.size * len(tags)
        table, body = [], []
        for tag in tags:
            gap = -at % ALIGNMENT
            table.append(SECTION.pack(tag, at + gap, len(contents[tag])))
            body += [bytes(gap), contents[tag]]
            at += gap + len(contents[tag])
        rest = b"".join((*table, *body))
        digest = hashlib.sha256(rest).digest()
        return HEADER.pack(MAGIC, self.version, HEADER.size, len(tags), at, digest) + rest

    @staticmethod
    def from_bytes(data: bytes) -> "Program":
        """Read a program; ProgramError says what is off."""
        from npu.reader import read

        return read(data)


def sections_of(version: int) -> tuple[bytes, ...]:
    """The tags of a version's sections, in their order."""
    return tuple(tag for tag in SECTIONS if version > 1 or tag not in NEW_IN_2)


def weight_ranges(
    chains: tuple[Chain, ...], tensors: tuple[Tensor, ...], preset: Preset
) -> Iterator[WeightRange]:
    """Lay the chains' numbers one behind the other."""
    mantissa = exponent = vector = 0
    for chain in chains:
        source, target = tensors[chain.source], tensors[chain.target]
        out, ky, kx, channels = chain.weight_shape(source, target)
        per_tap = blocks(channels, preset.box)
        numbers, scales = out * ky * kx * channels, out * ky * kx * per_tap
        affine = target.channels * ((Stage.SCALE in chain.stage) + (Stage.BIAS in chain.stage))
        yield WeightRange(
            slice(mantissa, mantissa + numbers),
            slice(exponent, exponent + scales),
            slice(vector, vector + affine),
            (out, ky, kx, channels),
            (out, ky, kx, per_tap),
        )
        mantissa, exponent, vector = mantissa + numbers, exponent + scales, vector + affine


def pack_names(names: tuple[str, ...]) -> bytes:
    """Count, then each name as its length and UTF-8."""
    spelt = [name.encode() for name in names]
    return struct.pack("<I", len(spelt)) + b"".join(struct.pack("<I", len(name)) + name for name in spelt)


def _form(program: Program) -> bytes:
    preset = program.preset
    return FORM.pack(
        program.native_dim,
        preset.box,
        preset.exponent_bits,
        preset.mantissa_bits,
        program.rounding.value,
        preset.accumulation.value,
    )


def _tensor(tensor: Tensor) -> bytes:
    return TENSOR.pack(
        *tensor.shape, tensor.files, tensor.matrix_address, tensor.float16_address, tensor.pitch
    )


def _chain(chain: Chain, part: WeightRange) -> bytes:
    return CHAIN.pack(
        chain.kind.value,
        chain.accumulation.value,
        chain.stage,
        chain.group,
        *chain.kernel,
        *chain.stride,
        *chain.dilation,
        *chain.pad,
        *chain.residual_stride,
        chain.source,
        NO_TENSOR if chain.residual is None else chain.residual,
        chain.target,
        part.mantissas.start,
        part.exponents.start,
        part.vectors.start,
    )
