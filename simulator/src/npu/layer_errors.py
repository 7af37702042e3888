"""Each chain against the float32 tensor that it stands for, and where its error comes from.

Relative errors add up, as long as the terms of a sum are unlike each other: what a layer's operands bring along from
earlier layers, what quantising its input adds, what quantising its weights adds. A layer that comes out worse than
these three sums signals that cancel (or are cut off by ReLU) while their errors do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu import bfp, float16
from npu.chain import Kind
from npu.compiler import Compiled
from npu.compiler.geometry import TO_NHWC, Layout, layouts
from npu.compiler.graph import Graph
from npu.training import fake_quantise, fake_quantise_weights

__all__ = ["LayerError", "LayerErrors"]

CANCELS_DB = 3.0  # worse than its parts by so much: half of the signal's energy is gone


@dataclass(frozen=True)
class LayerError:
    """Signal-to-noise ratios in dB: 10 log10(signal / error), energies over all pictures; inf: nothing differs.

    `snr_db` is the layer's own; the parts are None where there is none: `before_db` the worst of what it reads,
    `input_db` float32's input quantised (unknown for the picture itself), `weights_db` its weights quantised.
    `saturated` is the share of its numbers at float16's largest, 65504.
    """

    name: str
    tensor: str
    kind: str
    snr_db: float
    before_db: float | None
    input_db: float | None
    weights_db: float | None
    saturated: float

    @property
    def parts_db(self) -> float:
        """What the three parts let expect."""
        parts = (self.before_db, self.input_db, self.weights_db)
        noise = sum(10 ** (-part / 10) for part in parts if part is not None)
        return -10 * log10(noise) if noise else inf

    @property
    def cause(self) -> str:
        """What brings the most of the error, in words."""
        if self.saturated:
            return "numbers beyond float16"
        if self.before_db is None and self.input_db is None:
            return "the picture and its weights in blocks"
        if self.parts_db < inf and self.parts_db - self.snr_db >= CANCELS_DB:
            return f"its sums cancel ({self.parts_db - self.snr_db:.1f} dB)"
        parts = {
            "the layers before": self.before_db,
            "its input in blocks": self.input_db,
            "its weights in blocks": self.weights_db,
        }
        known = {words: part for words, part in parts.items() if part is not None}
        return min(known, key=lambda words: known[words])


class LayerErrors:
    """Energies of signal and error per chain, fed by the oracle while it runs."""

    def __init__(self, compiled: Compiled, graph: Graph) -> None:
        self.compiled, self._graph = compiled, graph
        self._axes = layouts(graph)
        program = compiled.program
        # Index of a tensor -> what the model calls it; the input has no float32 tensor to compare with.
        self._names = {c.target: compiled.tensors[i] for i, c in enumerate(program.chains)}
        count = len(program.chains)
        self._signal, self._error = np.zeros(count), np.zeros(count)
        self._input_signal, self._input_error = np.zeros(count), np.zeros(count)
        self._saturated, self._numbers = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._expected: dict[str, NDArray[Any]] = {}
        self._picture = [0] * count

    def expect(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """The next batch's float32 tensors, as the model lays them out."""
        self._picture = [0] * len(self._picture)
        self._expected = {
            name: tensors[name].transpose(TO_NHWC) if self._axes[name] is Layout.NCHW else tensors[name]
            for name in set(self.compiled.tensors) - {""}
        }

    def watch(self, index: int, result: bfp.Float32) -> None:
        """One chain's result for the next picture of the batch."""
        program, picture = self.compiled.program, self._picture[index]
        self._picture[index] += 1
        self._saturated[index] += np.count_nonzero(np.abs(result) >= float16.LARGEST)
        self._numbers[index] += result.size
        if tensor := self.compiled.tensors[index]:
            _add(self._signal, self._error, index, self._expected[tensor][picture], result)
        if source := self._names.get(program.chains[index].source):
            given = np.ascontiguousarray(self._expected[source][picture], np.float32)
            quantised = fake_quantise(float16.round16(given), program.preset, program.rounding)
            _add(self._input_signal, self._input_error, index, given, quantised)

    @property
    def saturated(self) -> float:
        """The share of all chains' numbers at float16's largest."""
        return float(self._saturated.sum() / max(self._numbers.sum(), 1))

    def layers(self) -> tuple[LayerError, ...]:
        """Every chain that has a float32 tensor, in the order of execution."""
        program = self.compiled.program
        reached = {0: inf}  # tensor -> the SNR that its readers begin with
        found = []
        for index, chain in enumerate(program.chains):
            before = min(reached[t] for t in (chain.source, chain.residual) if t is not None)
            tensor = self.compiled.tensors[index]
            reached[chain.target] = snr = (
                _decibels(self._signal[index], self._error[index]) if tensor else before
            )
            if tensor:
                given = self._input_signal[index], self._input_error[index]
                found.append(
                    LayerError(
                        name=program.chain_names[index],
                        tensor=tensor,
                        kind=chain.kind.name.lower(),
                        snr_db=snr,
                        before_db=None if before == inf else before,
                        input_db=_decibels(*given) if given[0] else None,
                        weights_db=self._weights(index),
                        saturated=float(self._saturated[index] / max(self._numbers[index], 1)),
                    )
                )
        return tuple(found)

    def _weights(self, index: int) -> float | None:
        """The SNR of a convolution's stored weights."""
        program = self.compiled.program
        if program.chains[index].kind not in (Kind.CONV, Kind.EXPAND):
            return None
        name = program.chain_names[index]
        node = next(
            (n for n in self._graph.nodes if name in (n.name, n.output[0]) and n.op_type == "Conv"), None
        )
        if node is None:
            return None
        weights = self._graph.constant(node.input[1]).astype(np.float32).transpose(0, 2, 3, 1)
        if program.chains[index].kind is Kind.EXPAND:
            weights = weights.reshape(len(weights), -1)  # the Expander's window is one vector, cut at 128
        stored = fake_quantise_weights(weights, program.preset, program.rounding, axis=-1)
        return _decibels(_energy(weights), _energy(weights - stored))


def _add(
    signal: NDArray[np.float64],
    error: NDArray[np.float64],
    index: int,
    expected: NDArray[Any],
    got: NDArray[Any],
) -> None:
    exact = expected.astype(np.float64)
    signal[index] += _energy(exact)
    error[index] += _energy(exact - got)


def _energy(numbers: NDArray[Any]) -> float:
    return float(np.square(numbers, dtype=np.float64).sum())


def _decibels(signal: float, error: float) -> float:
    if error == 0:
        return inf
    return 10 * log10(signal / error) if signal else -inf
