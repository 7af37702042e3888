"""The oracle on the five networks at their real sizes: numbers of every chain against exact rationals, and
networks in pieces against networks at once.
"""

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from accel_zoo import FIVE, build_onnx, table
from accel_zoo.pictures import pictures
from exact_npu import Machine
from golden_reader import bits16
from npu.bfp import Accumulation
from npu.chain import Kind
from npu.compiler import compile_model
from npu.oracle import Oracle, check_input
from npu.oracle_cache import remembered
from npu.program import Program
from tilewise import cut_out, piece

pytestmark = pytest.mark.network

SAMPLES = 3  # positions of each chain, with one output channel where it has weights
MATRICES = (Kind.CONV, Kind.EXPAND)


@dataclass(frozen=True)
class Computed:
    program: Program
    tensors: dict[int, np.ndarray]

    def read(self, tensor: int, rows: range, columns: range) -> np.ndarray:
        return self.tensors[tensor][rows.start : rows.stop, columns.start : columns.stop]


@cache
def picture(name: str) -> np.ndarray:
    return pictures(table(name), 1, 2)[0]


@cache
def program_of(name: str) -> Program:
    return compile_model(build_onnx(table(name))).program


def computed(program: Program, x: np.ndarray) -> Computed:
    tensors = {0: check_input(x, program.input_shape)}
    Oracle(program).run(x, lambda index, y: tensors.update({program.chains[index].target: y}))
    return Computed(program, tensors)


@pytest.mark.parametrize("name", FIVE)
def test_numbers_of_every_chain_equal_exact_rationals(name):
    source = random.Random(name)
    whole = computed(program_of(name), picture(name))
    for index, chain in enumerate(whole.program.chains):
        target = whole.program.tensors[chain.target]
        for _ in range(SAMPLES):
            row, column, channel = (int(source.random() * length) for length in target.shape)
            channels = range(channel, channel + 1) if chain.kind in MATRICES else range(target.channels)
            area = range(row, row + 1), range(column, column + 1)
            part, tensors = cut_out(whole.program, index, area, channels, whole.read)
            exact = Machine(part).chain(0, part.chains[0], {t: y.tolist() for t, y in tensors.items()})
            found = whole.tensors[chain.target][row, column, channels.start : channels.stop]
            assert bits16(found) == bits16(exact[0][0]), (whole.program.chain_names[index], row, column)


def test_vgg_adds_taps_in_float16_where_the_firmware_does():
    program = program_of("vgg16")
    chains = zip(program.chain_names, program.chains, strict=True)
    assert sum(chain.accumulation is Accumulation.FP16_TAPS for _, chain in chains) == 6  # conv1_2 to conv3_3


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_a_network_in_pieces_is_the_network(name):
    """Each chain in bands of rows and halves of its output channels, from pieces of the chains before it."""
    program, x = program_of(name), picture(name)
    made = Computed(program, {0: check_input(x, program.input_shape)})
    for index, chain in enumerate(program.chains):
        target = program.tensors[chain.target]
        result = np.empty(target.shape, np.float32)
        band = max(1, target.height // 3)
        share = (target.channels + 1) // 2 if chain.kind in MATRICES else target.channels
        for row in reversed(range(0, target.height, band)):
            rows = range(row, min(row + band, target.height))
            for first in range(0, target.channels, share):
                channels = range(first, min(first + share, target.channels))
                found = piece(program, index, (rows, range(target.width)), channels, made.read)
                result[rows.start : rows.stop, :, channels.start : channels.stop] = found
        made.tensors[chain.target] = result
    (last,) = program.output_tensors
    assert bits16(made.tensors[last]) == bits16(remembered(program, x))
