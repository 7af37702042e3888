"""Row-wise fusion: chains that run together row by row, and how few lines of a tensor between them that takes.

A *streamed* tensor is never whole. Its readers run in its writer's group, which is all chains from the writer to
the last reader, and its lines live in a ring of registers: row i overwrites row i - lines. That changes when things
happen, and never a bit of the result.

Row r of a window with stride s, dilation d, kernel k and padding p above needs the rows r*s - p … r*s - p + (k-1)*d
of its source, so a reader by itself keeps extent = (k-1)*d + 1 lines: the row that completes window r comes when
row r*s - p is the oldest one in need. With several readers the delay between the fastest and the slowest adds up;
`lines_kept` finds it by going through the rows in their order, for residuals, strides and dilation alike.
"""

from collections.abc import Iterator, Sequence

from npu.chain import Chain, Files, Kind, Tensor
from npu.liveness import Uses
from npu.schedule import bands_of

__all__ = ["MAX_ROWS", "groups_of", "lines_kept", "members", "overtaken", "row_order", "row_visits"]

MAX_ROWS = 1 << 16  # that `row_visits` allows; VGG-16 at 224 has 2,500


def groups_of(chains: Sequence[Chain], tensors: Sequence[Tensor], uses: Uses) -> list[int]:
    """Number each chain's group: one for each chain, but one for all between a streamed tensor's writer and
    readers.
    """
    joined = [False] * (len(chains) + 1)  # with the chain before
    for index, tensor in enumerate(tensors):
        if Files.STREAMED in tensor.files:
            writer, last = uses.writers[index], uses.last(index)
            joined[writer + 1 : last + 1] = [True] * max(0, last - writer)
    groups: list[int] = []
    for index in range(len(chains)):
        groups.append((groups[-1] + (not joined[index])) if groups else 0)
    return groups


def members(groups: Sequence[int]) -> Iterator[range]:
    """The chains of each group."""
    start = 0
    for index in range(1, len(groups) + 1):
        if index == len(groups) or groups[index] != groups[start]:
            yield range(start, index)
            start = index


def row_visits(groups: Sequence[int], chains: Sequence[Chain], tensors: Sequence[Tensor], uses: Uses) -> int:
    """What going through all fused chains takes: each row once when made, and once for each reader.

    A program that somebody made up can have more rows than anybody wants to go through.
    """
    return sum(
        tensors[target].height * (1 + len(uses.matrix[target]) + len(uses.float16[target]))
        for run in members(groups)
        if len(run) > 1
        for target in (chains[index].target for index in run)
    )


def row_order(run: range, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """The order in which chains of a group make their rows: (chain, row).

    The last chain sets the pace: each of its rows is made as soon as can be, and of what it reads no row earlier
    than needed. A chain that it does not depend on makes a row whenever its operands are there. Groups whose
    weights have to come again run band by band instead: in each, chain after chain makes the rows that the last
    chain's band needs.
    """
    rows = _Rows(run, chains, tensors)
    bands = bands_of([chains[index] for index in run], tensors)
    return rows.by_bands(bands) if bands else rows.one_by_one()


def lines_kept(run: range, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> dict[int, int]:
    """For each tensor that is written and read in this group: how many of its lines exist at once."""
    readers: dict[int, list[int]] = {chains[index].target: [] for index in run}
    for index in run:
        for tensor in readers.keys() & {chains[index].source, chains[index].residual}:
            readers[tensor].append(index)
    # A line buffer has at least its window's lines, also where the picture is too small to fill them.
    lines = {
        tensor: min(
            tensors[tensor].height,
            max(chains[reader].extent[0] if chains[reader].source == tensor else 1 for reader in found),
        )
        for tensor, found in readers.items()
        if found
    }
    made = dict.fromkeys(run, 0)
    for index, row in row_order(run, chains, tensors):
        target = chains[index].target
        if target in lines:
            oldest = _oldest(target, readers[target], made, chains, tensors)
            lines[target] = max(lines[target], row + 1 - min(oldest, row))
        made[index] += 1
    return lines


def overtaken(run: range, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> set[int]:
    """The concatenations of this group that make a row while another chain still reads that row of their source
    for the matrix unit.
    """
    found: set[int] = set()
    others = {
        index: [
            other
            for other in run
            if other != index
            and chains[other].source == chains[index].source
            and chains[other].kind is not Kind.EXPAND
        ]
        for index in run
        if chains[index].kind is Kind.CONCAT
    }
    if not any(others.values()):
        return found
    made = dict.fromkeys(run, 0)
    for index, row in row_order(run, chains, tensors):
        behind = others.get(index, [])
        source = chains[index].source
        if behind and _oldest(source, behind, made, chains, tensors, Files.MATRIX) <= row:
            found.add(index)
        made[index] += 1
    return found


def _oldest(
    tensor: int,
    readers: Sequence[int],
    made: dict[int, int],
    chains: Sequence[Chain],
    tensors: Sequence[Tensor],
    files: Files = Files.MATRIX | Files.FLOAT16,
) -> int:
    """The oldest row that any reader's next row needs from these files; beyond the last one if none does."""
    oldest = tensors[tensor].height
    for reader in readers:
        chain, row = chains[reader], made[reader]
        if row == tensors[chain.target].height:
            continue
        if chain.source == tensor:
            oldest = min(oldest, max(0, row * chain.stride[0] - chain.pad[0]))
        if chain.residual == tensor and Files.FLOAT16 in files:
            oldest = min(oldest, row * chain.residual_stride[0])
    return oldest


class _Rows:
    """The rows made so far, and what the next one of each chain needs."""

    def __init__(self, run: range, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> None:
        self.run, self.chains, self.tensors = run, chains, tensors
        self.made = dict.fromkeys(run, 0)
        self.heights = {index: tensors[chains[index].target].height for index in run}
        writers = {chains[index].target: index for index in run}
        # Per chain, where in the group its operands come from: writer, stride, rows needed for row 0.
        self.operands = {index: self._operands(chains[index], writers) for index in run}
        ahead = {run[-1]}  # the chains that the last one depends on, and itself
        for index in reversed(run):
            if index in ahead:
                ahead |= {writer for writer, _, _ in self.operands[index]}
        self.aside = {index for index in run if index not in ahead}
        self.sides: dict[int, list[int]] = {index: [] for index in run}
        for index in run:
            if index in self.aside:
                for writer in {writer for writer, _, _ in self.operands[index]}:
                    self.sides[writer].append(index)

    def _operands(self, chain: Chain, writers: dict[int, int]) -> list[tuple[int, int, int]]:
        found = []
        if chain.source in writers:
            found.append((writers[chain.source], chain.stride[0], chain.extent[0] - chain.pad[0]))
        if chain.residual is not None and chain.residual in writers:
            found.append((writers[chain.residual], chain.residual_stride[0], 1))
        return found

    def _lacks(self, index: int) -> int | None:
        """An operand's writer that has to make rows before this chain can make its next one."""
        row = self.made[index]
        for writer, stride, first in self.operands[index]:
            if self.made[writer] < min(self.heights[writer], row * stride + first):
                return writer
        return None

    def one_by_one(self) -> Iterator[tuple[int, int]]:
        for index in (self.run[-1], *self.run):  # then the rows that the last chain never asked for
            while self.made[index] < self.heights[index]:
                yield from self._next(index)

    def _next(self, wanted: int) -> Iterator[tuple[int, int]]:
        """The next row of a chain, behind those that it needs."""
        stack = [(wanted, False)]
        while stack:
            index, if_ready = stack[-1]
            lacking = self._lacks(index)
            if if_ready and (lacking is not None or self.made[index] == self.heights[index]):
                stack.pop()
                continue
            if lacking is not None:
                stack.append((lacking, False))
                continue
            stack.pop()
            yield index, self.made[index]
            self.made[index] += 1
            stack += [(side, True) for side in self.sides[index]]
            if if_ready:
                stack.append((index, True))

    def by_bands(self, bands: int) -> Iterator[tuple[int, int]]:
        last = self.run[-1]
        for band in range(1, bands + 1):
            until = dict.fromkeys(self.run, 0)
            until[last] = -(-self.heights[last] * band // bands)
            for index in reversed(self.run):
                for writer, stride, first in self.operands[index]:
                    if until[index]:
                        needed = (until[index] - 1) * stride + first
                        until[writer] = max(until[writer], min(self.heights[writer], needed))
            for index in self.run:
                end = self.heights[index] if band == bands else until[index]
                if index in self.aside:  # as many as its operands allow
                    end = self.heights[index]
                while self.made[index] < end and self._lacks(index) is None:
                    yield index, self.made[index]
                    self.made[index] += 1
