"""Computes a program in pieces, as hardware and fast kernels do: any rows of any output channels of a chain,
and chains that run row by row with only the lines under one window.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from npu.chain import EXPANDER_KERNEL, Chain, Kind, Tensor
from npu.oracle import Oracle
from npu.program import Program

Rows = Callable[[int, range], np.ndarray]  # tensor, rows -> [rows, width, channels]


def lines_under(program: Program, chain: Chain, rows: range) -> tuple[range, int]:
    """Lines of the source that these output rows look at, and how many of them above are padding."""
    reach, above = chain.extent[0], chain.pad[0]
    if chain.kind is Kind.EXPAND:
        reach, above = EXPANDER_KERNEL, above + (EXPANDER_KERNEL - chain.kernel[0]) // 2
    first = rows.start * chain.stride[0] - above
    last = (rows.stop - 1) * chain.stride[0] - above + reach
    height = program.tensors[chain.source].height
    return range(max(first, 0), max(min(last, height), 0)), max(-first, 0)


def piece(program: Program, index: int, rows: range, channels: range, read: Rows) -> np.ndarray:
    """These rows and output channels of chain `index`: [rows, width, channels].

    A program of its own that knows nothing of the rest; without weights it has all channels.
    """
    chain = program.chains[index]
    source, target = program.tensors[chain.source], program.tensors[chain.target]
    lines, above = lines_under(program, chain, rows)
    left = chain.pad[1]
    kernel = chain.kernel
    if chain.kind is Kind.EXPAND:  # the whole window is the kernel: what was cut off is no margin
        left, kernel = left + (EXPANDER_KERNEL - kernel[1]) // 2, (EXPANDER_KERNEL, EXPANDER_KERNEL)
    tensors = {0: read(chain.source, lines)}
    if chain.residual is not None:
        step = chain.residual_stride[0]
        seen = read(chain.residual, range(rows.start * step, (rows.stop - 1) * step + 1))
        tensors[1] = seen if chain.kind is Kind.CONCAT else seen[..., channels.start : channels.stop]
    small = replace(
        chain,
        kernel=kernel,
        pad=(above, left),
        source=0,
        residual=None if chain.residual is None else 1,
        target=2,
    )
    shapes = [tensors[0].shape, tensors.get(1, tensors[0]).shape, (len(rows), target.width, len(channels))]
    mantissas, exponents = program.weights(index)
    chosen = slice(channels.start, channels.stop)
    part = replace(
        program,
        tensors=tuple(Tensor(*shape) for shape in shapes),
        chains=(small,),
        chain_names=("piece",),
        mantissas=mantissas[chosen].ravel(),
        exponents=exponents[chosen].ravel(),
        vectors=np.concatenate(
            [
                np.zeros(0, np.float16),
                *(numbers[chosen] for numbers in program.scale_and_bias(index) if numbers is not None),
            ]
        ),
        outputs=(),
    )
    assert source.width == shapes[0][1]
    return Oracle(part)._chain(0, small, tensors)


class Streamed:
    """Rows on demand: a tensor with one reader keeps only the lines that the reader may still look at."""

    def __init__(self, program: Program, edge: np.ndarray) -> None:
        self.program = program
        self.lines: list[dict[int, np.ndarray]] = [{} for _ in program.tensors]
        self.lines[0] = dict(enumerate(edge))
        self.next = [0] * len(program.tensors)
        self.writer = {chain.target: index for index, chain in enumerate(program.chains)}
        reads = [t for chain in program.chains for t in (chain.source, chain.residual)]
        kept = {0, *program.output_tensors}
        self.streamed = {t for t in self.writer if reads.count(t) == 1 and t not in kept}
        self.most = dict.fromkeys(self.streamed, 0)

    def read(self, tensor: int, rows: range) -> np.ndarray:
        for row in rows:
            if row not in self.lines[tensor]:
                self.compute(tensor, row)
        return np.stack([self.lines[tensor][row] for row in rows])

    def compute(self, tensor: int, row: int) -> None:
        index = self.writer[tensor]
        chain, target = self.program.chains[index], self.program.tensors[tensor]
        assert row >= self.next[tensor], "a line that was let go is wanted again"
        self.next[tensor] = row + 1
        line = piece(self.program, index, range(row, row + 1), range(target.channels), self.read)
        self.lines[tensor][row] = line[0]
        if tensor in self.most:
            self.most[tensor] = max(self.most[tensor], len(self.lines[tensor]))
        if chain.source in self.streamed and row + 1 < target.height:
            needed, _ = lines_under(self.program, chain, range(row + 1, row + 2))
            for old in [line for line in self.lines[chain.source] if line < needed.start]:
                del self.lines[chain.source][old]

    def tensor(self, index: int) -> np.ndarray:
        return self.read(index, range(self.program.tensors[index].height))
