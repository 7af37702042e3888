"""Who writes and who reads each tensor, and hence which files keep it.

The matrix unit reads block floating point (MvmInitialVrf), the float16 stage reads float16 (AddSubVrf_1). The image
that the Expander cuts, and results that go to the output queue and nowhere else, are in neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from npu.chain import Chain, Files, Kind

__all__ = ["FILES", "Uses", "uses_of"]

FILES = (Files.MATRIX, Files.FLOAT16)
RIGHT_OPERANDS = (Kind.MAX_POOL, Kind.AVERAGE_POOL)  # their first operand is quantised, the others are not


@dataclass(frozen=True)
class Uses:
    """Per tensor: the chain that writes it (-1: the host), and the chains that read it, in the order of execution.

    `matrix` and `float16` are the readers of each file.
    """

    writers: list[int]
    matrix: list[list[int]]
    float16: list[list[int]]

    def readers(self, tensor: int, file: Files) -> list[int]:
        """Who reads the tensor from that file."""
        return self.matrix[tensor] if file is Files.MATRIX else self.float16[tensor]

    def files(self, tensor: int) -> Files:
        """The files that somebody reads the tensor from."""
        files = Files.MATRIX if self.matrix[tensor] else Files.NONE
        return files | Files.FLOAT16 if self.float16[tensor] else files

    def last(self, tensor: int) -> int:
        """The last chain that reads the tensor from a register; -1 if none does."""
        return max((*self.matrix[tensor][-1:], *self.float16[tensor][-1:]), default=-1)


def uses_of(chains: Sequence[Chain], tensors: int) -> Uses:
    """Return who uses tensors 0 … `tensors` - 1."""
    uses = Uses([-1] * tensors, [[] for _ in range(tensors)], [[] for _ in range(tensors)])
    for index, chain in enumerate(chains):
        uses.writers[chain.target] = index
        if chain.kind is not Kind.EXPAND:
            uses.matrix[chain.source].append(index)
            if chain.kind in RIGHT_OPERANDS:
                uses.float16[chain.source].append(index)
        if chain.residual is not None and uses.float16[chain.residual][-1:] != [index]:
            uses.float16[chain.residual].append(index)
    return uses
