"""An ONNX graph as the compiler reads it: nodes in order, constants as arrays, shapes, who makes and who
reads what.

Constant expressions are folded here, because converters leave weights behind transposes and reshapes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from npu.errors import UnsupportedModel

__all__ = ["Graph", "attributes", "label", "load", "reads"]

# Cheap, deterministic, and never larger than what goes in: nothing that could make a small file a huge
# tensor.
FOLDED = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
FOLDED_IF_SMALL = frozenset({"Add", "Concat", "Div", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"})
SMALL = 1 << 16


@dataclass
class Graph:
    """`shapes` holds None for a dimension that is not known before run time (as the batch)."""

    model: Any
    nodes: list[Any]
    constants: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)
    producer: dict[str, int] = field(default_factory=dict)
    consumers: dict[str, list[int]] = field(default_factory=dict)

    def constant(self, name: str) -> NDArray[Any]:
        """The value of a constant tensor."""
        return _array(self.constants[name])

    def inputs_of(self, index: int) -> list[str]:
        """The tensors that a node reads and that are no constants, with those that its subgraphs capture."""
        return [name for name in reads(self.nodes[index]) if name not in self.constants]

    def output_names(self) -> set[str]:
        """The names of the model's outputs."""
        return {value.name for value in self.outputs}


def load(model: Any) -> Graph:
    """Read an ONNX ModelProto; UnsupportedModel if it cannot be read as a float32 graph in one file."""
    if not isinstance(model, onnx.ModelProto) or not model.graph.node:
        raise UnsupportedModel("the model has no nodes; give an ONNX ModelProto with a graph")
    if model.graph.sparse_initializer:
        raise UnsupportedModel("sparse initializers are not supported; store them dense")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in constants.values():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UnsupportedModel(
                f"the weights {tensor.name!r} lie in another file; save the model as one file"
            )
    _check_nodes(model)
    nodes = list(_fold(model, constants))
    graph = Graph(
        model,
        nodes,
        constants,
        [value for value in model.graph.input if value.name not in constants],
        list(model.graph.output),
    )
    for index, node in enumerate(nodes):
        for name in reads(node):
            graph.consumers.setdefault(name, []).append(index)
        for name in node.output:
            graph.producer[name] = index
    for index in range(len(nodes)):
        late = [n for n in graph.inputs_of(index) if graph.producer.get(n, -1) >= index]
        if late:
            raise UnsupportedModel(
                f"{label(nodes[index])} reads {late[0]!r} before it is made; sort the graph"
            )
    _infer_shapes(graph)
    return graph


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def label(node: Any) -> str:
    """Operator and name, for messages."""
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '?')!r}"


def _array(tensor: Any) -> NDArray[Any]:
    try:
        value: NDArray[Any] = numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"the constant {tensor.name!r} is damaged: {error}") from error
    return value


def reads(node: Any) -> list[str]:
    """The tensors that a node reads, with those that its subgraphs capture."""
    return [name for name in [*node.input, *_captured(node)] if name]


def _captured(node: Any) -> Iterable[str]:
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            made = {name for n in inner.node for name in n.output} | {value.name for value in inner.input}
            made |= {tensor.name for tensor in inner.initializer}
            read = {name for n in inner.node for name in reads(n)} | {value.name for value in inner.output}
            yield from sorted(read - made)


def _check_nodes(model: Any) -> None:
    """Every standard operator has the inputs and attributes that its definition asks for."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {imported.domain: imported.version for imported in model.opset_import}
    for node in model.graph.node:
        try:
            if node.domain in ("", "ai.onnx"):
                onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
            raise UnsupportedModel(f"not valid ONNX: {error}") from error


def _fold(model: Any, constants: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that remain, and add what the others compute to `constants`."""
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        value = None
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output[0] not in outputs:
            value = _constant_value(node)
        elif _foldable(node, constants) and node.output[0] not in outputs:
            value = _evaluate(node, constants, model)
        if value is None:
            yield node
        else:
            constants[node.output[0]] = numpy_helper.from_array(np.asarray(value), node.output[0])


def _constant_value(node: Any) -> Any:
    given = attributes(node)
    if "value" in given:
        return _array(given["value"])
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
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or not node.input:
        return False
    if not all(name in constants for name in node.input if name):
        return False
    if node.op_type in FOLDED:
        return True
    return node.op_type in FOLDED_IF_SMALL and all(
        int(np.prod(constants[name].dims)) <= SMALL for name in node.input if name
    )


def _evaluate(node: Any, constants: dict[str, Any], model: Any) -> Any:
    feeds = {name: _array(constants[name]) for name in node.input if name}
    try:
        opsets = {imported.domain: imported.version for imported in model.opset_import}
        return ReferenceEvaluator(node, opsets=opsets).run(None, feeds)[0]
    except Exception:  # whatever the evaluator cannot do stays a node
        return None


def _infer_shapes(graph: Graph) -> None:
    # On a copy without the nodes' large constants: their values matter for nothing but shapes given as
    # tensors.
    slim = onnx.ModelProto()
    slim.ir_version = graph.model.ir_version
    slim.opset_import.extend(graph.model.opset_import)
    slim.functions.extend(graph.model.functions)
    slim.graph.name = "shapes"
    slim.graph.node.extend(graph.nodes)
    slim.graph.input.extend(graph.inputs)
    slim.graph.output.extend(graph.outputs)
    for name, tensor in graph.constants.items():
        if int(np.prod(tensor.dims)) <= 1024:
            slim.graph.initializer.append(tensor)
        else:
            slim.graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    try:
        inferred = shape_inference.infer_shapes(slim, data_prop=True)
    except Exception as error:
        raise UnsupportedModel(f"shapes cannot be inferred: {error}") from error
    for value in [*graph.inputs, *inferred.graph.value_info, *inferred.graph.output]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            graph.shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in value.type.tensor_type.shape.dim
            )
        graph.infos[value.name] = value
    for name, tensor in graph.constants.items():
        graph.shapes[name] = tuple(tensor.dims)
