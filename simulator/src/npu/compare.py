"""How far each number format takes a model from float32: layer by layer, and in what the model answers.

The float32 side is the model itself with every tensor that a chain makes as an output, so that each layer is
compared with what it should have been, errors of the layers before it included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu import bfp
from npu.compiler import compile_model
from npu.compiler.graph import load
from npu.errors import TensorError
from npu.execute import Execution, HostGraph, batches, inputs_of
from npu.layer_errors import LayerError, LayerErrors
from npu.sku import DEFAULT_SKU

__all__ = ["Comparison", "PresetError", "compare"]

NUMBERS_AT_ONCE = 200_000  # of one input: what bounds the float32 tensors in memory


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
        found = asdict(self)
        for preset, entry in zip(self.presets, found["presets"], strict=True):
            for layer, inner in zip(preset.layers, entry["layers"], strict=True):
                inner["cause"] = layer.cause
        return _finite(found)  # type: ignore[no-any-return]


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
    graph = load(model)
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
        execution = Execution(compiled, outputs)
        errors = LayerErrors(compiled, graph)
        wanted, got = _Answers(outputs), _Answers(outputs)
        for number, part in enumerate(parts):
            say(f"{spelt}: batch {number + 1} of {len(parts)}")
            expected = float_graph.run(part)
            wanted.add(expected)
            errors.expect(expected)
            got.add(execution.run(part, errors.watch))
        reference = wanted
        name = reference.scores()
        results.append(_result(spelt, errors, reference, got, labels))
    if reference is None:
        raise TensorError("no precision to compare; name at least one")
    return Comparison(
        samples=reference.count,
        output=name,
        accuracy=_accuracy(reference, labels),
        presets=tuple(results),
    )


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
    precision: str, errors: LayerErrors, wanted: _Answers, got: _Answers, labels: NDArray[Any] | None
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
        saturated=errors.saturated,
        layers=errors.layers(),
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and abs(value) == inf else value
