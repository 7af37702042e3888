"""How many lines a row-wise group keeps of each tensor, counted by hand."""

import dataclasses

import pytest
from npu.chain import Files, Kind, Tensor
from npu.fusion import MAX_ROWS, lines_kept, row_order
from npu.registers import contradiction
from npu_layers import ADD, AFFINE, BIAS, Layers

SIDE = 24


def chain_of(*windows):
    """Convolutions one behind the other: (kernel, stride, pad, dilation)."""
    n = Layers(SIDE, 8)
    side, source = SIDE, 0
    for kernel, stride, pad, dilation in windows:
        side = (side + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1
        source = n.add(Kind.CONV, source, side, 8, kernel, stride, pad, BIAS, dilation)
    return n


def residual(*, convolutions=2, stride=1):
    """x → 3 x 3 → … → 3 x 3, plus x: the short cut waits for convolutions that are each a row behind their source."""
    n = chain_of((1, 1, 0, 1), *[(3, 1, 1, 1)] * (convolutions - 1))
    y = convolutions
    n.add(
        Kind.CONV, y, SIDE // stride, 8, 3, stride, 1, AFFINE | ADD, residual=1, residual_stride=(stride,) * 2
    )
    return n


def branches():
    """x → 5 x 5 = y; x → 1 x 1 = z; y and z concatenated, and a convolution that goes to the output queue."""
    n = chain_of((1, 1, 0, 1))
    y = n.add(Kind.CONV, 1, SIDE, 8, 5, 1, 2)
    z = n.add(Kind.CONV, 1, SIDE, 8)
    n.add(Kind.CONV, 1, SIDE, 8, 3, 1, 1, BIAS)  # nobody reads it
    n.concat(y, z)
    return n


CASES = {
    # layers -> lines of each tensor that is read in the group
    "3 x 3": (chain_of((1, 1, 0, 1), (3, 1, 1, 1)), {1: 3}),
    "1 x 1": (chain_of((1, 1, 0, 1), (1, 1, 0, 1)), {1: 1}),
    "2 x 2 pool": (chain_of((1, 1, 0, 1), (2, 2, 0, 1)), {1: 2}),
    "a stride wider than the window": (chain_of((1, 1, 0, 1), (1, 3, 0, 1)), {1: 1}),
    "dilation": (chain_of((1, 1, 0, 1), (3, 1, 2, 2)), {1: 5}),
    "dilation and stride": (chain_of((1, 1, 0, 1), (3, 2, 3, 3)), {1: 7}),
    "many behind each other": (
        chain_of((1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1)),
        {1: 3, 2: 3, 3: 2},
    ),
    "a window larger than the picture": (chain_of((22, 1, 0, 1), (5, 1, 2, 1)), {1: 3}),
    # Row r of the sum reads row r of x. By then the convolutions have seen row r + 2: r … r + 2.
    "a short cut over two 3 x 3": (residual(), {1: 3, 2: 3}),
    "a short cut over four 3 x 3": (residual(convolutions=4), {1: 5, 2: 3, 3: 3, 4: 3}),
    # Row r of the sum reads row 2r of x, and the convolutions have seen 2r + 2.
    "a short cut with a stride": (residual(stride=2), {1: 3, 2: 3}),
    # The 1 x 1 waits until the concatenation asks for its row, two behind the newest that the 5 x 5 needs.
    "branches of different reach": (branches(), {1: 5, 2: 1, 3: 1}),
}


@pytest.mark.parametrize(("layers", "lines"), CASES.values(), ids=CASES)
def test_lines(layers, lines):
    run = range(len(layers.chains))
    assert lines_kept(run, layers.chains, layers.tensors) == lines
    assert lost(layers, lines) is None
    for tensor, count in lines.items():
        if count > 1:
            assert lost(layers, lines | {tensor: count - 1}) == tensor  # one less, and a row is missing


def lost(layers, lines):
    """The first tensor of which a row that is read has been overwritten in its ring of so many lines."""
    rings = {tensor: [None] * count for tensor, count in lines.items()}
    for index, row in row_order(range(len(layers.chains)), layers.chains, layers.tensors):
        chain = layers.chains[index]
        first = row * chain.stride[0] - chain.pad[0]
        reads = [(chain.source, r) for r in range(first, first + chain.extent[0], chain.dilation[0])]
        if chain.residual is not None:
            reads.append((chain.residual, row * chain.residual_stride[0]))
        for tensor, wanted in reads:
            ring = rings.get(tensor)
            if ring and 0 <= wanted < layers.tensors[tensor].height and ring[wanted % len(ring)] != wanted:
                return tensor
        if chain.target in rings:
            rings[chain.target][row % lines[chain.target]] = row
    return None


def test_a_made_up_program_with_too_many_rows_is_refused_at_once():
    n = Layers(1, 8)
    for source in range(1_500):
        n.add(Kind.CONV, source, 1, 8, stage=BIAS)
    tensors = [
        Tensor(60_000, 1, 8, Files.MATRIX | (Files.STREAMED if index else 0)) for index in range(1_501)
    ]
    tensors[-1] = dataclasses.replace(tensors[-1], files=Files.NONE)
    chains = [dataclasses.replace(chain, group=0) for chain in n.chains]
    assert f"more rows than {MAX_ROWS}" in (contradiction(chains, tensors) or "")
