"""Constant expressions computed at compile time, because converters leave weights behind transposes and reshapes.

Nothing here may make much out of little: a file of a stranger must not become a huge tensor.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from npu.errors import UnsupportedModel

__all__ = ["array", "fold"]

FOLDED = frozenset(
    {"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)  # as many numbers as before
FOLDED_IF_SMALL = frozenset({"Add", "Concat", "Div", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"})
SMALL = 1 << 16  # numbers that come out
FREE_BYTES = 1 << 26  # that folding may make beyond twice what the file holds


def fold(model: Any, constants: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that remain, and add what the others compute to `constants`."""
    outputs = {value.name for value in model.graph.output}
    opsets = {imported.domain: imported.version for imported in model.opset_import}
    budget = 2 * sum(len(t.raw_data) + 4 * len(t.float_data) for t in constants.values()) + FREE_BYTES
    for node in model.graph.node:
        value = None
        if len(node.output) == 1 and node.output[0] not in outputs and node.output[0] not in constants:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                value = _constant_value(node)
                budget += 0 if value is None else value.nbytes
            elif _foldable(node, constants):
                value = _evaluate(node, constants, opsets)
        if value is not None:
            budget -= value.nbytes
        if value is None or budget < 0:
            yield node
        else:
            constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])


def array(tensor: Any) -> NDArray[Any]:
    """The numbers of a TensorProto; UnsupportedModel if it is damaged."""
    try:
        value: NDArray[Any] = numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"the constant {tensor.name!r} is damaged: {error}") from error
    return value


def _constant_value(node: Any) -> NDArray[Any] | None:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if "value" in given:
        return array(given["value"])
    for key, kind in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in given:
            return np.asarray(given[key], kind)
    return None


def _foldable(node: Any, constants: dict[str, Any]) -> bool:
    if node.domain not in ("", "ai.onnx") or not node.input:
        return False
    names = [name for name in node.input if name]
    if not all(name in constants for name in names):
        return False
    if node.op_type in FOLDED:
        return all(a.name != "to" or a.i != onnx.TensorProto.STRING for a in node.attribute)
    return (
        node.op_type in FOLDED_IF_SMALL and _result(node, [constants[name].dims for name in names]) <= SMALL
    )


def _result(node: Any, shapes: list[Any]) -> int:
    """How many numbers a node makes out of these shapes."""
    if node.op_type == "Concat":
        return sum(map(math.prod, shapes))
    try:
        return math.prod(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))
    except ValueError:
        return SMALL + 1


def _evaluate(node: Any, constants: dict[str, Any], opsets: dict[str, int]) -> NDArray[Any] | None:
    feeds = {name: array(constants[name]) for name in node.input if name}
    if node.op_type == "Transpose" and len(node.attribute) == 1:  # the one that large weights go through
        perm = list(node.attribute[0].ints)
        if sorted(perm) != list(range(feeds[node.input[0]].ndim)):
            return None
        return np.ascontiguousarray(feeds[node.input[0]].transpose(perm))
    try:
        if node.op_type == "Unsqueeze" and len(node.attribute) == 1:  # up to opset 12; the evaluator knows 13
            return np.expand_dims(feeds[node.input[0]], tuple(node.attribute[0].ints))
        found = ReferenceEvaluator(node, opsets=opsets).run(None, feeds)[0]
    except Exception:  # whatever the evaluator cannot do stays a node
        return None
    return np.asarray(found)
