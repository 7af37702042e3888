"""The vector registers in use while each chain runs."""

from collections.abc import Sequence

from npu.chain import Chain, Files, Tensor

__all__ = ["marks_of"]

MATRIX, FLOAT16, STREAMED = int(Files.MATRIX), int(Files.FLOAT16), int(Files.STREAMED)


def marks_of(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """The highest register in use in both vector files while each chain runs; streamed tensors count as one
    window of their reader's lines.
    """
    last: dict[int, int] = {}
    reader: dict[int, Chain] = {}
    for index, chain in enumerate(chains):
        for tensor in (chain.source, chain.residual):
            if tensor is not None:
                last[tensor] = index
                reader.setdefault(tensor, chain)
    live: dict[int, tuple[int, int]] = {}
    marks = []
    for index, chain in enumerate(chains):
        if chain.target in last:
            live[chain.target] = _end(tensors[chain.target], reader[chain.target])
        if index == 0 and tensors[0].files:
            live[0] = _end(tensors[0], reader[0])
        matrix, float16 = zip(*live.values(), strict=True) if live else ((0,), (0,))
        marks.append((max(matrix), max(float16)))
        for tensor in (chain.source, chain.residual):
            if tensor is not None and last[tensor] == index:
                live.pop(tensor, None)
    return marks


def _end(tensor: Tensor, reader: Chain) -> tuple[int, int]:
    size, files = tensor.registers, int(tensor.files)  # whole numbers: flags are slow
    if files & STREAMED:
        size = size // tensor.height * min(tensor.height, reader.extent[0])
    return (
        tensor.matrix_address + size if files & MATRIX else 0,
        tensor.float16_address + size if files & FLOAT16 else 0,
    )
