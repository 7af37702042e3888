"""Registers: an independent machine goes through the rows of drawn programs and looks what lies where."""

import dataclasses
import os
import random
import re

import pytest
from npu.bfp import Accumulation
from npu.chain import Files, Kind, Stage
from npu.errors import DoesNotFit
from npu.fusion import row_order
from npu.liveness import uses_of
from npu.occupancy import occupancy
from npu.registers import allocate, contradiction, need_of
from npu.schedule import load_contradiction, plan_loads
from npu.sku import load_sku
from npu_layers import ADD, AFFINE, BIAS, Layers

MACHINE = load_sku()
ROOMY = dataclasses.replace(MACHINE, initial_vrf=1 << 20, addsub_vrf_1=1 << 20)
POOLS = [Kind.MAX_POOL, Kind.AVERAGE_POOL]


class Registers:
    """One file: who wrote each register last, as (tensor, row)."""

    def __init__(self, name, tensors):
        self.name, self.tensors = name, tensors
        self.held: dict[int, tuple[int, int]] = {}

    def _range(self, tensor, row, lines):
        t = self.tensors[tensor]
        width = t.width * max(t.pitch, t.depth)
        start = (t.matrix_address if self.name is Files.MATRIX else t.float16_address) + row % lines * width
        # Of a pitch, only the vectors that the channels fill are read and written.
        step, depth = max(t.pitch, t.depth), t.depth
        return [start + x * step + z for x in range(t.width) for z in range(depth)]

    def write(self, tensor, row, lines):
        if self.name in self.tensors[tensor].files:
            self.held |= dict.fromkeys(self._range(tensor, row, lines), (tensor, row))

    def read(self, tensor, row, lines):
        wrong = {self.held.get(at) for at in self._range(tensor, row, lines)} - {(tensor, row)}
        assert not wrong, f"row {row} of tensor {tensor} in {self.name!r} was overwritten by {wrong}"


def window(chain, row, height):
    """The rows of its source that a chain's row looks at."""
    first = row * chain.stride[0] - chain.pad[0]
    return [r for r in range(first, first + chain.extent[0], chain.dilation[0]) if 0 <= r < height]


def play(chains, tensors, sizes):
    """Go through the program, row by row where chains are fused; every row that is read must be there.

    A chain by itself makes one output tile after the other for all positions, so what it reads must outlive all
    that it writes; only a concatenation, which passes position by position, may overwrite what it has read.
    """
    files = [Registers(file, tensors) for file in (Files.MATRIX, Files.FLOAT16)]

    def lines(tensor):
        t = tensors[tensor]
        return sizes[tensor] // (t.width * t.depth) if Files.STREAMED in t.files else t.height

    def write(tensor, row):
        for file in files:
            file.write(tensor, row, lines(tensor))

    def read(chain, row, *, behind):
        matrix, half = files
        for wanted in window(chain, row, tensors[chain.source].height):
            if chain.kind is not Kind.EXPAND and not (behind and chain.kind is Kind.CONCAT):
                matrix.read(chain.source, wanted, lines(chain.source))
            if chain.kind in (Kind.MAX_POOL, Kind.AVERAGE_POOL):
                half.read(chain.source, wanted, lines(chain.source))
        if chain.residual is not None:
            half.read(chain.residual, row * chain.residual_stride[0], lines(chain.residual))

    for row in range(tensors[0].height):
        write(0, row)
    for group in sorted({chain.group for chain in chains}):
        run = [index for index, chain in enumerate(chains) if chain.group == group]
        assert run == list(range(run[0], run[-1] + 1))
        order = list(row_order(range(run[0], run[-1] + 1), chains, tensors))
        assert sorted(order) == [(i, row) for i in run for row in range(tensors[chains[i].target].height)]
        for index, row in order:
            read(chains[index], row, behind=False)
            write(chains[index].target, row)
            read(chains[index], row, behind=True)
        if len(run) == 1:
            for row in range(tensors[chains[run[0]].target].height):
                read(chains[run[0]], row, behind=True)


def sizes_of(chains, tensors):
    return occupancy(chains, tensors, uses_of(chains, len(tensors)), placed=True).sizes


def drawn(seed) -> Layers:
    """Convolutions, pools, identities, concatenations and residuals, each behind some that came not long before."""
    draw = random.Random(seed)
    side = draw.choice([5, 8, 13])
    n = Layers(side, draw.choice([3, 40, 130]), draw.choice([128, 128, 100, 400]))
    image = n.tensors[0].channels == 3
    if image:
        n.add(Kind.EXPAND, 0, -(-side // 2), 64, 7, 2, 3)
    else:
        n.add(Kind.IDENTITY, 0, side, n.tensors[0].channels)
    for _ in range(draw.randint(2, 14)):
        made = range(1 if image else 0, len(n.tensors))
        source = draw.choice(list(made)[-4:])
        side, channels = n.tensors[source].height, n.tensors[source].channels
        mates = [t for t in made if n.tensors[t].height == side and t != source]
        kind = draw.choice([Kind.CONV] * 3 + [Kind.IDENTITY, Kind.CONCAT, Kind.CONCAT, *POOLS])
        if kind is Kind.CONV:
            kernel, stride, dilation = (
                draw.choice([1, 3, 3, 5]),
                draw.choice([1, 1, 2]),
                draw.choice([1, 1, 2]),
            )
            extent = (kernel - 1) * dilation + 1
            pad = draw.randint(0, extent // 2)
            small = (side + 2 * pad - extent) // stride + 1
            if small >= 1:
                wanted = draw.choice([32, 128, 200, 640])
                same = [t for t in mates if n.tensors[t].shape == (small, small, wanted)]
                more = {"residual": draw.choice(same)} if same and draw.random() < 0.7 else {}
                n.add(kind, source, small, wanted, kernel, stride, pad, AFFINE | ADD if more else BIAS,
                      dilation, **more)  # fmt: skip
        elif kind is Kind.IDENTITY:
            same = [t for t in mates if n.tensors[t].channels == channels]
            more = {"residual": draw.choice(same)} if same else {}
            n.add(kind, source, side, channels, stage=AFFINE | ADD if more else AFFINE, **more)
        elif kind is Kind.CONCAT and mates and channels < 1000:
            n.concat(source, draw.choice(mates))
        elif kind in POOLS and side >= 3:
            n.add(kind, source, (side - 3) // 2 + 1, channels, 3, 2, 0,
                  Stage.NONE if kind is Kind.MAX_POOL else Stage.SCALE)  # fmt: skip
    return n


def squeezed(n: Layers, share: float):
    """The program on the least machine of this share of the registers that it takes with room for all."""
    need = need_of(*allocate(n.chains, n.tensors, n.names, ROOMY))
    machine = dataclasses.replace(
        MACHINE, initial_vrf=int(share * need.initial_vrf), addsub_vrf_1=int(share * need.addsub_vrf_1)
    )
    return *allocate(n.chains, n.tensors, n.names, machine), machine


DRAWN = 1_000 if os.environ.get("ACCEL_TEST_FULL") else 100


def test_no_register_is_overwritten_while_somebody_needs_it():
    streamed = in_place = banded = refused = 0
    for seed in range(DRAWN):
        n = drawn(seed)
        for share in (1.0, 0.75, 0.5):
            try:
                chains, tensors, machine = squeezed(n, share)
            except DoesNotFit as error:
                assert share < 1
                assert re.search(r"layer '\w+' .* needs \d+ matrix and \d+ float16 vectors", str(error))  # noqa: PT017
                refused += 1
                continue
            assert contradiction(chains, tensors) is None
            need = need_of(chains, tensors)
            assert need.initial_vrf <= machine.initial_vrf
            assert need.addsub_vrf_1 <= machine.addsub_vrf_1
            plan = plan_loads(chains, tensors, machine)
            assert load_contradiction(chains, tensors, plan) is None
            play(chains, tensors, sizes_of(chains, tensors))
            streamed += any(Files.STREAMED in t.files for t in tensors)
            in_place += any(t.pitch for t in tensors)
            banded += sum(load.first == 0 for load in plan) > len(chains)
    assert min(streamed, in_place) > DRAWN / 10, (streamed, in_place, refused)
    assert banded


def test_whoever_moves_a_tensor_into_anothers_registers_is_refused():
    caught = 0
    for seed in range(DRAWN // 2):
        chains, tensors = allocate((n := drawn(seed)).chains, n.tensors, n.names, ROOMY)
        draw = random.Random(seed)
        index = draw.randrange(len(tensors))
        t = tensors[index]
        if t.files:
            changes = draw.choice(
                [
                    {"matrix_address": draw.randrange(t.matrix_address + 1)},
                    {"float16_address": draw.randrange(t.float16_address + 1)},
                    {"matrix_address": draw.choice(tensors).matrix_address},
                    {"pitch": 0 if t.pitch else t.depth},
                ]
            )
            moved = [*tensors[:index], dataclasses.replace(t, **changes), *tensors[index + 1 :]]
            try:
                play(chains, moved, sizes_of(chains, moved))
            except AssertionError:
                caught += 1
                assert contradiction(chains, moved) is not None
    assert caught > DRAWN / 20


def test_what_does_not_fit_is_named_with_its_vectors_and_a_cure():
    n = Layers(110, 8)  # 12,100 vectors: more than the matrix unit's file, and the host sends them whole
    n.add(Kind.IDENTITY, 0, 110, 8)
    with pytest.raises(
        DoesNotFit, match=r"layer 'input' .* needs 12100 matrix and 0 float16 .* has 10240 and 13312"
    ):
        allocate(n.chains, n.tensors, n.names, MACHINE)
    n = Layers(300)
    x = n.add(Kind.EXPAND, 0, 150, 64, 7, 2, 3)
    n.add(Kind.CONV, x, 1, 64, 150)  # sees all rows at once
    with pytest.raises(DoesNotFit, match=r"layer 'layer1' .* needs 22500 matrix .* Use smaller pictures"):
        allocate(n.chains, n.tensors, n.names, MACHINE)


def grown(*, read_later=False):
    """x and y concatenated, the result convolved; perhaps with x read once more behind that."""
    n = Layers(8, 64)
    x = n.add(Kind.CONV, 0, 8, 64, stage=BIAS)
    y = n.add(Kind.CONV, 0, 8, 128, stage=BIAS)
    both = n.concat(x, y)
    n.add(Kind.CONV, both, 8, 64, 3, 1, 1, BIAS)
    if read_later:
        n.add(Kind.CONV, x, 8, 64, stage=BIAS)
    return allocate(n.chains, n.tensors, n.names, MACHINE)


def test_a_concatenation_grows_in_place_unless_its_source_is_read_later():
    _, tensors = grown()
    assert (tensors[1].matrix_address, tensors[1].pitch) == (tensors[3].matrix_address, 2)
    assert tensors[3].pitch == 2
    assert tensors[2].pitch == 0
    chains, tensors = grown(read_later=True)
    assert [t.pitch for t in tensors] == [0] * 6
    assert contradiction(chains, tensors) is None
    shared = [*tensors]
    for index in (1, 3):
        shared[index] = dataclasses.replace(tensors[index], pitch=2, matrix_address=0)
    assert contradiction(chains, shared) == "tensor 1 has the pitch 2 where 0 is due"


BESIDE = {
    # kernels that read x in the group of the concatenation, the first for what is appended -> is it in place?
    "a point has passed by": ((1,), True),
    "a window's next row still looks back": ((3,), False),
    "another one comes later": ((1, 5), False),
}


@pytest.mark.parametrize(("kernels", "in_place"), BESIDE.values(), ids=BESIDE)
def test_row_by_row_a_concatenation_stays_behind_the_others_that_read_its_source(kernels, in_place):
    n = Layers(16, 64)
    x = n.add(Kind.CONV, 0, 16, 64, stage=BIAS)
    for kernel in kernels:
        n.add(Kind.CONV, x, 16, 32, kernel, 1, kernel // 2, BIAS)
    n.add(Kind.IDENTITY, n.concat(x, 2), 16, 96)
    tight = dataclasses.replace(MACHINE, addsub_vrf_1=100)  # what is appended has 256 vectors: streamed
    chains, tensors = allocate(n.chains, n.tensors, n.names, tight)
    assert Files.STREAMED in tensors[2].files
    assert bool(tensors[x].pitch) is in_place
    play(chains, tensors, sizes_of(chains, tensors))


DAMAGE = {
    "a file too many": (
        lambda t: {"files": t.files | Files.FLOAT16},
        "not in the files that its readers read",
    ),
    "streamed beyond its group": (lambda t: {"files": t.files | Files.STREAMED}, "not grouped"),
    "a pitch of its own": (lambda t: {"pitch": 3}, "tensor 1 has the pitch 2 where"),
    "no pitch": (lambda t: {"pitch": 0}, "tensor 1 has the pitch 2 where 0 is due"),
    "somebody's registers": (
        lambda t: {"matrix_address": t.matrix_address + 1},
        "tensor 1 has the pitch 2 where 0 is due",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(change, message):
    chains, tensors = grown()
    damaged = [*tensors[:3], dataclasses.replace(tensors[3], **change(tensors[3])), *tensors[4:]]
    assert message in (contradiction(chains, damaged) or "")


FRONTS = {"it fits": (700, [0, 0, 0, 0, 0, 1]), "only its first part does": (660, [0, 0, 0, 0, 1, 2])}


@pytest.mark.parametrize(("vectors", "groups"), FRONTS.values(), ids=FRONTS)
def test_a_front_block_is_one_group_where_that_fits(vectors, groups):
    n = Layers(64)
    taps = {"stage": BIAS, "accumulation": Accumulation.FP16_TAPS}
    x = n.add(Kind.EXPAND, 0, 64, 64, 3, 1, 1, BIAS)
    x = n.add(Kind.CONV, x, 64, 64, 3, 1, 1, **taps)
    x = n.add(Kind.MAX_POOL, x, 32, 64, 2, 2, 0, Stage.NONE)
    x = n.add(Kind.MAX_POOL, x, 16, 64, 2, 2, 0, Stage.NONE)
    x = n.add(Kind.CONV, x, 16, 64, 3, 1, 1, **taps)
    n.add(Kind.CONV, x, 1, 8, 16, stage=BIAS)  # sees all rows at once
    machine = dataclasses.replace(MACHINE, initial_vrf=vectors)
    chains, tensors = allocate(n.chains, n.tensors, n.names, machine)
    assert [chain.group for chain in chains] == groups
    assert need_of(chains, tensors).vector_memory == 4 + 66  # biases; zeros for a padded row of 64
