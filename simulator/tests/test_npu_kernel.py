"""The kernel's three calls: the oracle's bits, errors that say what to do, and another implementation behind
them.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from npu import kernel, oracle
from npu.compiler import compile_model
from npu.errors import KernelClosed, NpuError, ProgramError, SkuError, TensorError
from npu.sku import DEFAULT_SKU

PICTURE = np.random.default_rng(0).normal(0, 1, (12, 12, 3)).astype(np.float32)


@pytest.fixture
def program(small_residual):
    return compile_model(small_residual, name="small").program


def test_it_computes_what_the_oracle_computes(program):
    with kernel.open(program.to_bytes(), DEFAULT_SKU) as opened:
        assert (opened.input_shape, opened.output_shape) == ((12, 12, 3), (6, 6, 16))
        expected = oracle.run(program, PICTURE)
        for picture in (PICTURE, PICTURE.astype(np.float64), np.asfortranarray(PICTURE)):
            result = opened.run(picture)
            assert result.dtype == np.float32
            assert result.tobytes() == expected.tobytes()


def test_threads_take_turns(program):
    pictures = [PICTURE + index for index in range(6)]
    with kernel.open(program, DEFAULT_SKU) as opened, ThreadPoolExecutor(3) as threads:
        results = list(threads.map(opened.run, pictures))
    assert [result.tobytes() for result in results] == [oracle.run(program, x).tobytes() for x in pictures]


BAD_INPUT = {
    "transposed": (PICTURE.transpose(2, 0, 1), r"shape \[3, 12, 12\], the program takes \[12, 12, 3\]"),
    "a batch": (PICTURE[np.newaxis], r"shape \[1, 12, 12, 3\]"),
    "not a number": (np.where(PICTURE > 1, np.nan, PICTURE), "not finite"),
    "beyond float32": (np.full(PICTURE.shape, 1e300), "not finite in float32"),
}


@pytest.mark.parametrize(("picture", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_a_bad_input_is_refused_and_the_next_one_runs(program, picture, message):
    with kernel.open(program, DEFAULT_SKU) as opened:
        with pytest.raises(TensorError, match=message):
            opened.run(picture)
        opened.run(PICTURE)


def test_a_closed_kernel_says_so(program):
    opened = kernel.open(program, DEFAULT_SKU)
    opened.close()
    opened.close()
    with pytest.raises(KernelClosed, match="open the program again"):
        opened.run(PICTURE)


def test_what_does_not_open(program):
    with pytest.raises(ProgramError, match="compile the model again"):
        kernel.open(b"", DEFAULT_SKU)
    with pytest.raises(
        SkuError, match="compiled for the SKU bw-cnn-a10, not for bw-a10; compile it for bw-a10"
    ):
        kernel.open(program, "bw-a10")
    with pytest.raises(SkuError, match="unknown; choose one of"):
        kernel.open(replace(program, sku="gpu"), "gpu")
    with pytest.raises(SkuError, match=r"bw-s10 is only timed .* vectors of 400"):
        kernel.open(replace(program, sku="bw-s10"), "bw-s10")
    with pytest.raises(SkuError, match="matrix_memory"):
        kernel.open(replace(program, need=replace(program.need, matrix_memory=1 << 30)), DEFAULT_SKU)
    with pytest.raises(NpuError, match="'fpga' is unknown; choose one of oracle"):
        kernel.open(program, DEFAULT_SKU, implementation="fpga")


class Slow:
    """Another implementation behind the same calls: it stands still until it is told to go on."""

    def __init__(self, program):
        self.running, self.may_go_on, self.calls = Event(), Event(), []
        self.handle = kernel.IMPLEMENTATIONS[kernel.DEFAULT](program)

    def run(self, x, out):
        assert x.flags.c_contiguous
        assert out.flags.c_contiguous
        assert x.dtype == out.dtype == np.float32
        self.running.set()
        assert self.may_go_on.wait(30)
        self.handle.run(x, out)
        self.calls.append("run")

    def close(self):
        self.calls.append("close")


@pytest.fixture
def slow(monkeypatch):
    """The implementation's name, and the handles it makes."""
    made = []

    def opener(program):
        made.append(Slow(program))
        return made[-1]

    monkeypatch.setattr(kernel, "IMPLEMENTATIONS", {**kernel.IMPLEMENTATIONS, "slow": opener})
    return made


def test_close_waits_for_the_call_that_runs(program, slow):
    opened = kernel.open(program, DEFAULT_SKU, implementation="slow")
    with ThreadPoolExecutor(2) as threads:
        result = threads.submit(opened.run, PICTURE)
        assert slow[0].running.wait(30)
        closed = threads.submit(opened.close)
        assert not closed.done()
        slow[0].may_go_on.set()
        assert result.result(30).tobytes() == oracle.run(program, PICTURE).tobytes()
        closed.result(30)
    assert slow[0].calls == ["run", "close"]


def test_a_kernel_that_nobody_holds_closes_itself(program, slow):
    opened = kernel.open(program, DEFAULT_SKU, implementation="slow")
    del opened
    assert slow[0].calls == ["close"]
