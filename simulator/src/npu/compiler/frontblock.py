"""The line-buffered front block, whose convolutions add their taps in float16.

The public VGG firmware keeps the layers from the image to pool3 in one fused block and adds up the nine taps of
its convolutions outside of the matrix unit, in float16 (`fp16-taps` in ARITHMETIC.md). Which chains that concerns is
a rule of the compiler, so that scheduling never changes a bit: the only path of 3 x 3 convolutions without
scale and of max pools behind an Expander without scale, as long as the weights stay in the matrix registers
together, if the pictures are large.
"""

from collections.abc import Collection, Sequence

from npu.chain import Chain, Kind, Stage, Tensor

__all__ = ["front_block"]

LEAST_POSITIONS = 112 * 112  # of the Expander's result; smaller layers fit the vector files and are not fused
MOST_TILES = 128  # both matrix buffers


def front_block(
    chains: Sequence[Chain], tensors: Sequence[Tensor], outputs: Collection[int]
) -> frozenset[int]:
    """Indices of the chains that add their taps in float16: the block's convolutions but the Expander's."""
    readers: dict[int, list[int]] = {}
    for index, chain in enumerate(chains):
        for tensor in {chain.source, chain.residual} - {None}:
            readers.setdefault(tensor or 0, []).append(index)
    tensor, tiles, found = 0, 0, []
    while len(readers.get(tensor, ())) == 1 and tensor not in outputs:
        (index,) = readers[tensor]
        chain = chains[index]
        source, target = tensors[chain.source], tensors[chain.target]
        tiles += chain.tiles(source, target)
        belongs = _begins(chain, target) if tensor == 0 else _continues(chain)
        if not belongs or tiles > MOST_TILES:
            break
        if chain.kind is Kind.CONV:
            found.append(index)
        tensor = chain.target
    return frozenset(found)


def _begins(chain: Chain, target: Tensor) -> bool:
    plain = not chain.stage & (Stage.SCALE | Stage.RESIDUAL)
    return chain.kind is Kind.EXPAND and plain and target.positions >= LEAST_POSITIONS


def _continues(chain: Chain) -> bool:
    if chain.kind is Kind.MAX_POOL:
        return True
    square = (chain.kernel, chain.stride, chain.dilation) == ((3, 3), (1, 1), (1, 1))
    return chain.kind is Kind.CONV and square and not chain.stage & (Stage.SCALE | Stage.RESIDUAL)
