"""A whole compiled model on this machine: the host's graphs, with the oracle between them as the device.

Batches are the model's business here: the device computes picture by picture, and a model whose batch is fixed
is run as often as its inputs ask for.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Float32
from npu.errors import TensorError
from npu.oracle import Oracle

if TYPE_CHECKING:
    from npu.compiler import Compiled  # with it comes onnx, which takes its time

__all__ = ["Arrays", "Execution", "HostGraph", "Input", "batches", "inputs_of"]

Arrays = dict[str, NDArray[Any]]
Watcher = Callable[[int, Float32], None]


@dataclass(frozen=True)
class Input:
    """One input of a model as it says; None where a length is not known before the data."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @property
    def text(self) -> str:
        """`name [N,3,8,8] float32`, for messages."""
        return f"{self.name} [{','.join('N' if n is None else str(n) for n in self.shape)}] {self.dtype}"


class HostGraph:
    """An ONNX model that this machine computes: by ONNX Runtime where it is installed, else by ONNX's own evaluator."""

    def __init__(self, model: Any) -> None:
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self._run = _evaluator(model)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name; `tensors` may hold more than the graph reads."""
        missing = [name for name in self.inputs if name not in tensors]
        if missing:
            raise TensorError(f"the model's input {missing[0]!r} is not given; name it in an .npz file")
        answers = self._run(self.outputs, {name: tensors[name] for name in self.inputs})
        return dict(zip(self.outputs, (np.asarray(answer) for answer in answers), strict=True))


class Execution:
    """A compiled model, ready to run any number of times.

    `outputs` are the model's, by name; absent, they are asked of the composed graph, which is then made.
    """

    def __init__(self, compiled: "Compiled", outputs: Sequence[str] | None = None) -> None:
        self.compiled = compiled
        self.oracle = Oracle(compiled.program)
        self._pre = None if compiled.pre is None else HostGraph(compiled.pre)
        self._post = None if compiled.post is None else HostGraph(compiled.post)
        self._outputs = outputs or [value.name for value in compiled.composed.graph.output]

    def run(self, feeds: Mapping[str, NDArray[Any]], watch: Watcher | None = None) -> Arrays:
        """The model's outputs by name for its inputs by name.

        `watch` is called with each chain's index and result, picture after picture. Raises TensorError.
        """
        tensors: Arrays = dict(feeds)
        if self._pre is not None:
            tensors |= self._pre.run(tensors)
        pictures = tensors[self.compiled.device_input]
        tensors[self.compiled.device_output] = np.stack([self.oracle.run(p, watch) for p in pictures])
        if self._post is not None:
            tensors |= self._post.run(tensors)
        return {name: tensors[name] for name in self._outputs}


def inputs_of(model: Any) -> tuple[Input, ...]:
    """What a model must be given: its inputs without those that have a value already."""
    from onnx import helper

    given = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        Input(
            value.name,
            np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in model.graph.input
        if value.name not in given
    )


def batches(
    feeds: Mapping[str, NDArray[Any]], inputs: tuple[Input, ...], most: int
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Cut along the first axis, `most` pictures at once, or as many as the model fixes.

    Inputs of which one has no batch, or that disagree about it, are one batch.
    """
    lengths = {len(feeds[i.name]) if feeds[i.name].ndim else -1 for i in inputs if i.name in feeds}
    fixed = {i.shape[0] if i.shape else None for i in inputs} - {None}
    if len(lengths) != 1 or min(lengths) < 1 or len(fixed) > 1:
        yield feeds
        return
    count, size = lengths.pop(), fixed.pop() if fixed else most
    assert size is not None
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in feeds.items()}


def _evaluator(model: Any) -> Callable[[list[str], Arrays], Any]:
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run  # type: ignore[no-any-return]  # onnx ships no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # as everything else here does
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise TensorError(f"ONNX Runtime cannot execute the graph {model.graph.name!r}: {error}") from error
    return session.run  # type: ignore[no-any-return]
