"""Tiling never changes a bit: any split of rows, columns and output channels, in any order, and row-wise streaming."""

import os
import random
from itertools import pairwise

import numpy as np
import pytest
from drawn_layers import RECIPES, drawn
from golden_reader import bits16
from npu.chain import Kind
from npu.oracle import Oracle, check_input
from tilewise import Streamed, piece, under

MATRICES = (Kind.CONV, Kind.EXPAND)
SEEDS = 220 if os.environ.get("ACCEL_TEST_FULL") else 7
STARTS = {recipe: 5 * place for place, recipe in enumerate(RECIPES)}  # other presets, sums, roundings in each


def whole(program, x):
    """Every tensor, each chain computed at once."""
    x = np.array(x, np.float32)
    tensors = {0: check_input(x, program.input_shape)}
    Oracle(program).run(x, lambda index, y: tensors.update({program.chains[index].target: y}))
    return tensors


def cut(source, length, most):
    """`length` cut into ranges of 1 to `most`."""
    ends = [0]
    while ends[-1] < length:
        ends.append(min(ends[-1] + 1 + int(source.random() * most), length))
    return [range(a, b) for a, b in pairwise(ends)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_tiles_of_areas_and_output_channels(recipe):
    source = random.Random(recipe)
    for seed in range(STARTS[recipe], STARTS[recipe] + SEEDS):
        program, x = drawn(recipe, seed)
        tensors = whole(program, x)

        def read(tensor, rows, columns, tensors=tensors):
            return tensors[tensor][rows.start : rows.stop, columns.start : columns.stop]

        for index, chain in enumerate(program.chains):
            target = program.tensors[chain.target]
            every = [range(target.channels)]  # a pass without weights has the channels of its vectors
            tiles = [
                (rows, columns, channels)
                for rows in cut(source, target.height, 2)
                for columns in cut(source, target.width, 4)
                for channels in (cut(source, target.channels, 2) if chain.kind in MATRICES else every)
            ]
            source.shuffle(tiles)
            result = np.full(target.shape, np.nan, np.float32)
            for rows, columns, channels in tiles:
                found = piece(program, index, (rows, columns), channels, read)
                result[np.ix_(rows, columns, channels)] = found
            assert bits16(result) == bits16(tensors[chain.target]), f"{program.name}, chain {index}"


@pytest.mark.parametrize("recipe", ["network", "concat", "zeros", "max_pool"])
def test_streamed_groups(recipe):
    """Rows on demand, with only the lines under one window where a tensor has one reader."""
    for seed in range(STARTS[recipe], STARTS[recipe] + SEEDS):
        program, x = drawn(recipe, seed)
        tensors = whole(program, x)
        streamed = Streamed(program, tensors[0])
        for index in program.output_tensors:
            assert bits16(streamed.tensor(index)) == bits16(tensors[index]), f"{program.name}, tensor {index}"
        for tensor, most in streamed.most.items():
            reader = next(chain for chain in program.chains if tensor in (chain.source, chain.residual))
            if reader.source == tensor:
                reach = max(
                    len(under(program, reader, 0, range(row, row + 1))[0])
                    for row in range(program.tensors[reader.target].height)
                )
                assert most <= reach, f"{program.name}: {most} lines of tensor {tensor} at once"
