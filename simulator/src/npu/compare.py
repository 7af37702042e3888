"""How far each number format takes a model from float32: layer by layer, and in what the model answers.

The float32 side is the model itself with every tensor that a chain makes as an output, so that each layer is
compared with what it should have been, errors of the layers before it included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu import bfp, float16
from npu.compiler import Compiled, compile_model
from npu.compiler.geometry import TO_NHWC, Layout, layouts
from npu.compiler.graph import load
from npu.errors import TensorError
from npu.execute import Execution, HostGraph, batches, inputs_of
from npu.sku import DEFAULT_SKU

__all__ = ["Comparison", "LayerError", "PresetError", "compare"]

NUMBERS_AT_ONCE = 200_000  # of one input: what bounds the float32 tensors in memory


@dataclass(frozen=True)
class LayerError:
    """One chain against the float32 tensor that it stands for.

    `snr_db` is 10 log10(signal / error), both as energies over all pictures; infinite where nothing differs.
    `loss_db` is how much worse that is than the worst of what the chain reads (a first layer has none): the layer's
    own share. `saturated` is the share of numbers at float16's largest, 65504.
    """

    name: str
    tensor: str
    kind: str
    snr_db: float
    loss_db: float | None
    saturated: float


@dataclass(frozen=True)
class PresetError:
    """One format against float32. `agreement` and `accuracy` are shares of pictures, None without class scores or
    labels; `relative_l2` is the length of the error over the length of the answer.
    """

    precision: str
    relative_l2: float
    agreement: float | None
    accuracy: float | None
    saturated: float
    layers: tuple[LayerError, ...] = field(repr=False)

    def worst(self, count: int) -> list[LayerError]:
        """The layers with the least SNR, worst first."""
        return sorted(self.layers, key=lambda layer: layer.snr_db)[:count]


@dataclass(frozen=True)
class Comparison:
    """All formats over the same pictures. `accuracy` is float32's."""

    samples: int
    output: str
    accuracy: float | None
    presets: tuple[PresetError, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; what is infinite is null."""
        return _finite(asdict(self))  # type: ignore[no-any-return]


def compare(
    model: Any,
    feeds: Mapping[str, NDArray[Any]],
    precisions: Sequence[str | bfp.Preset] = tuple(bfp.PRESETS),
    *,
    labels: NDArray[Any] | None = None,
    sku: str = DEFAULT_SKU,
    rounding: str = "nearest-even",
    accumulation: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare an onnx.ModelProto in each precision with itself in float32 on the inputs `feeds`.

    `labels` are class numbers, one per picture; `rounding` and `accumulation` are the compiler's; `say` hears what is
    being computed. Raises CompileError, SkuError and TensorError.
    """
    inputs = inputs_of(model)
    numbers = max(feeds[i.name].size // max(len(feeds[i.name]), 1) for i in inputs)
    parts = list(batches(feeds, inputs, max(1, NUMBERS_AT_ONCE // max(numbers, 1))))
    axes = layouts(load(model))
    reference: _Answers | None = None
    results, name = [], ""
    for precision in precisions:
        compiled = compile_model(
            model, precision=precision, sku=sku, rounding=rounding, accumulation=accumulation
        )
        spelt = compiled.program.preset.name
        outputs = [value.name for value in model.graph.output]
        made = [tensor for tensor in compiled.tensors if tensor]
        float_graph = HostGraph(_with_outputs(model, made))
        execution = Execution(compiled)
        tally = _Tally(compiled, axes)
        wanted, got = _Answers(outputs), _Answers(outputs)
        for number, part in enumerate(parts):
            say(f"{spelt}: batch {number + 1} of {len(parts)}")
            expected = float_graph.run(part)
            wanted.add(expected)
            tally.expect(expected)
            got.add(execution.run(part, tally.watch))
        reference = wanted
        name = reference.scores()
        results.append(_result(spelt, tally, reference, got, labels))
    if reference is None:
        raise TensorError("no precision to compare; name at least one")
    return Comparison(
        samples=reference.count,
        output=name,
        accuracy=_accuracy(reference, labels),
        presets=tuple(results),
    )


class _Tally:
    """Energies of signal and error per chain, fed by the oracle while it runs."""

    def __init__(self, compiled: Compiled, axes: Mapping[str, Layout]) -> None:
        self.compiled, self.axes = compiled, axes
        chains = len(compiled.program.chains)
        self.signal, self.error = np.zeros(chains), np.zeros(chains)
        self.saturated, self.numbers = np.zeros(chains, np.int64), np.zeros(chains, np.int64)
        self._expected: dict[str, NDArray[Any]] = {}
        self._picture = [0] * chains

    def expect(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """The next batch's float32 tensors."""
        self._picture = [0] * len(self._picture)
        self._expected = {
            name: tensors[name].transpose(TO_NHWC) if self.axes[name] is Layout.NCHW else tensors[name]
            for name in set(self.compiled.tensors) - {""}
        }

    def watch(self, index: int, result: bfp.Float32) -> None:
        """One chain's result for the next picture of the batch."""
        self.saturated[index] += np.count_nonzero(np.abs(result) >= float16.LARGEST)
        self.numbers[index] += result.size
        tensor = self.compiled.tensors[index]
        if tensor:
            expected = self._expected[tensor][self._picture[index]].astype(np.float64)
            self.signal[index] += np.square(expected).sum()
            self.error[index] += np.square(expected - result).sum()
        self._picture[index] += 1

    def layers(self) -> tuple[LayerError, ...]:
        """Every chain that has a float32 tensor, in the order of execution."""
        program = self.compiled.program
        reached = {0: inf}  # tensor -> the SNR with which its readers begin
        found = []
        for index, chain in enumerate(program.chains):
            before = min(reached[t] for t in (chain.source, chain.residual) if t is not None)
            tensor = self.compiled.tensors[index]
            snr = _decibels(self.signal[index], self.error[index]) if tensor else before
            reached[chain.target] = snr
            if tensor:
                loss = None if inf in (before, snr) else before - snr
                share = float(self.saturated[index] / max(self.numbers[index], 1))
                name = program.chain_names[index]
                found.append(LayerError(name, tensor, chain.kind.name.lower(), snr, loss, share))
        return tuple(found)


class _Answers:
    """A model's outputs over all batches."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}

    def add(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        for name, parts in self._parts.items():
            parts.append(np.asarray(outputs[name]))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.concatenate(self._parts[name])

    @property
    def count(self) -> int:
        return len(self[self.names[0]])

    def scores(self) -> str:
        """The output that holds class scores, [N, classes]; empty if there is none."""
        fits = [n for n in self.names if (a := self[n]).dtype.kind == "f" and a.ndim == 2 and a.shape[1] > 1]
        return fits[0] if fits else ""


def _result(
    precision: str, tally: _Tally, wanted: _Answers, got: _Answers, labels: NDArray[Any] | None
) -> PresetError:
    error = signal = 0.0
    for name in wanted.names:
        if wanted[name].dtype.kind == "f":
            expected = wanted[name].astype(np.float64)
            signal += np.square(expected).sum()
            error += np.square(expected - got[name]).sum()
    scores = wanted.scores()
    agreement = None
    if scores:
        agreement = float((wanted[scores].argmax(axis=1) == got[scores].argmax(axis=1)).mean())
    return PresetError(
        precision=precision,
        relative_l2=float((error / signal) ** 0.5) if signal else float(error > 0),
        agreement=agreement,
        accuracy=_accuracy(got, labels),
        saturated=float(tally.saturated.sum() / max(tally.numbers.sum(), 1)),
        layers=tally.layers(),
    )


def _accuracy(answers: _Answers, labels: NDArray[Any] | None) -> float | None:
    if labels is None:
        return None
    scores = answers.scores()
    if not scores:
        raise TensorError(
            "--labels: the model has no output [N, classes] of class scores; leave the labels out"
        )
    if labels.shape != (answers.count,):
        raise TensorError(
            f"--labels: the array has the shape {list(labels.shape)}; give one class number for each of the "
            f"{answers.count} pictures"
        )
    return float((answers[scores].argmax(axis=1) == labels).mean())


def _with_outputs(model: Any, tensors: Sequence[str]) -> Any:
    """The model with more of its tensors as outputs."""
    import onnx

    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    for name in dict.fromkeys(tensors):
        if name not in there:
            wider.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return wider


def _decibels(signal: float, error: float) -> float:
    if error == 0:
        return inf
    return 10 * log10(signal / error) if signal else -inf


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and abs(value) == inf else value
