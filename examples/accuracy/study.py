"""Train, convert, compile, compute, count: for each network, fold and format.

The way is the product's: SavedModel, the toolchain's converter, the compiler, the oracle (which is what the
emulated device computes, bit for bit), the host's graphs.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from accel_toolchain.jobs import Conversion
from accel_toolchain.tf.saved_model import read_saved_model
from npu import bfp
from npu.compiler import compile_model
from npu.execute import Execution, HostGraph
from numpy.typing import NDArray

from examples.accuracy.networks import export
from examples.accuracy.results import FLOAT32, TUNED, NetworkResult, Outcome
from examples.accuracy.training import Data, fine_tune, folds, train

__all__ = ["SWEEP", "answers", "converted", "counted", "run_fold", "study"]

TUNED_FORM = bfp.preset("ms-fp8")
# As the 5-bit formats of the device, with each number of mantissa bits that a signed byte can hold.
SWEEP = {
    f"m = {bits}": bfp.Preset(f"m = {bits}", 128, 5, bits, bfp.Accumulation.FP32_SEQ) for bits in range(1, 8)
}

Classes = dict[str, NDArray[np.int64]]  # format -> each picture's class


def study(name: str, data: Data, say: Callable[[str], None]) -> NetworkResult:
    """All folds of one network, all formats."""
    cut, found = folds(data), []
    for number, (given, held_out) in enumerate(cut):
        say(f"{name}: fold {number + 1} of {len(cut)}")
        found.append(run_fold(name, data[given], data[held_out], number, forms(), say))
    return counted(
        name, [(data.labels[held_out], fold) for (_, held_out), fold in zip(cut, found, strict=True)]
    )


def counted(name: str, folds: Sequence[tuple[NDArray[np.int64], Classes]]) -> NetworkResult:
    """The counts of a network's folds, each given as right classes and answered ones."""
    outcomes = []
    for form in folds[0][1]:
        there = [(labels, found) for labels, found in folds if form in found]
        outcomes.append(
            Outcome(
                format=form,
                mantissa_bits=_bits(form),
                official=form not in SWEEP,
                pictures=sum(len(labels) for labels, _ in there),
                right=sum(int((found[form] == labels).sum()) for labels, found in there),
                differ=sum(int((found[form] != found[FLOAT32]).sum()) for _, found in there),
            )
        )
    return NetworkResult(name, len(folds), tuple(outcomes))


def forms() -> dict[str, bfp.Preset]:
    """The device's formats, and the curve's."""
    return {**bfp.PRESETS, **SWEEP}


def run_fold(
    name: str,
    given: Data,
    held_out: Data,
    seed: int,
    wanted: Mapping[str, bfp.Preset],
    say: Callable[[str], None],
    *,
    tune: bool = True,
) -> Classes:
    """Train on `given`; the class of each held-out picture in float32, in each format, and fine-tuned."""
    network = train(name, given, seed)
    model = converted(network)
    found = {FLOAT32: _top(HostGraph(model).run(_fed(model, held_out)))}
    say(f"  float32: {_right(found[FLOAT32], held_out)}")
    for label, form in wanted.items():
        same = next((other for other, f in wanted.items() if other in found and _equal(f, form)), None)
        found[label] = found[same] if same else answers(model, form, held_out)
        say(f"  {label}: {_right(found[label], held_out)}")
    if tune:
        found[TUNED] = answers(converted(fine_tune(network, TUNED_FORM, given, seed)), TUNED_FORM, held_out)
        say(f"  {TUNED}: {_right(found[TUNED], held_out)}")
    return found


def converted(network: keras.Model) -> Any:
    """The network as the toolchain converts it: float32 ONNX, batch normalisations apart."""
    with tempfile.TemporaryDirectory() as folder:
        export(network, Path(folder) / "model")
        return read_saved_model(Path(folder) / "model", Conversion(), 1, lambda _: None).proto


def answers(model: Any, form: bfp.Preset, data: Data) -> NDArray[np.int64]:
    """The class of each picture on the device in that format."""
    return _top(Execution(compile_model(model, precision=form)).run(_fed(model, data)))


def _fed(model: Any, data: Data) -> dict[str, NDArray[np.float32]]:
    (pixels,) = model.graph.input
    return {pixels.name: data.pixels}


def _top(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    (scores,) = outputs.values()
    return np.asarray(scores.argmax(axis=1), np.int64)


def _equal(one: bfp.Preset, other: bfp.Preset) -> bool:
    """Whether two formats are the same but for their names."""
    return (one.box, one.exponent_bits, one.mantissa_bits) == (
        other.box,
        other.exponent_bits,
        other.mantissa_bits,
    )


def _bits(form: str) -> int | None:
    return (
        None
        if form == FLOAT32
        else TUNED_FORM.mantissa_bits
        if form == TUNED
        else forms()[form].mantissa_bits
    )


def _right(classes: NDArray[np.int64], data: Data) -> str:
    return f"{int((classes == data.labels).sum())} of {len(classes)} right"
