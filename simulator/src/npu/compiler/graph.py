"""An ONNX graph as the compiler reads it: nodes in order, constants as arrays, shapes, who makes and who
reads what.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import shape_inference

from npu.compiler.folding import array, fold
from npu.compiler.functions import expanded
from npu.errors import UnsupportedModel

__all__ = ["Graph", "attributes", "label", "load", "reads"]

MAX_NODES = 20_000  # ResNet-152 has 516; a converter that unrolls everything, a few thousand
FLOAT = onnx.TensorProto.FLOAT


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

    @cached_property
    def _output_names(self) -> set[str]:
        return {value.name for value in self.outputs}

    def constant(self, name: str) -> NDArray[Any]:
        """The value of a constant tensor."""
        return array(self.constants[name])

    def are_float32(self, names: Iterable[str]) -> bool:
        """Whether all constants among the names hold float32 numbers."""
        return all(self.constants[n].data_type == FLOAT for n in names if n in self.constants)

    def is_read(self, name: str) -> bool:
        """Whether a node reads the tensor, or it is an output of the model."""
        return name in self.consumers or name in self.output_names()

    def inputs_of(self, index: int) -> list[str]:
        """The tensors that a node reads and that are no constants, with those that its subgraphs capture."""
        return [name for name in reads(self.nodes[index]) if name not in self.constants]

    def output_names(self) -> set[str]:
        """The names of the model's outputs."""
        return self._output_names


def load(model: Any) -> Graph:
    """Read an ONNX ModelProto; UnsupportedModel if it cannot be read as a float32 graph in one file."""
    if not isinstance(model, onnx.ModelProto) or not model.graph.node:
        raise UnsupportedModel("the model has no nodes; give an ONNX ModelProto with a graph")
    if model.graph.sparse_initializer:
        raise UnsupportedModel("sparse initializers are not supported; store them dense")
    if len(model.graph.node) > MAX_NODES:
        raise UnsupportedModel(f"the model has {len(model.graph.node)} nodes; at most {MAX_NODES} are read")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in constants.values():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UnsupportedModel(
                f"the weights {tensor.name!r} lie in another file; save the model as one file"
            )
        if any(length < 0 for length in tensor.dims):
            raise UnsupportedModel(f"the constant {tensor.name!r} is damaged: it has negative lengths")
    _check_names(model)
    if model.functions:
        return load(expanded(model))
    _check_nodes(model)
    inputs = [value for value in model.graph.input if value.name not in constants]
    nodes = _needed(list(fold(model, constants)), model)
    graph = Graph(model, nodes, constants, inputs, list(model.graph.output))
    _connect(graph)
    _infer_shapes(graph)
    return graph


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def label(node: Any) -> str:
    """Operator and name, for messages."""
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '?')!r}"


def reads(node: Any) -> list[str]:
    """The tensors that a node reads, with those that its subgraphs capture."""
    return [name for name in [*node.input, *_captured(node)] if name]


def _captured(node: Any) -> Iterable[str]:
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            made = {name for n in inner.node for name in n.output} | {value.name for value in inner.input}
            made |= {tensor.name for tensor in inner.initializer}
            read = {name for n in inner.node for name in reads(n)} | {value.name for value in inner.output}
            yield from sorted(read - made, key=str)


def _check_names(model: Any) -> None:
    """Protobuf gives names that are not UTF-8 as bytes."""
    graph = model.graph
    names = [
        graph.name,
        *(named.name for part in (graph.input, graph.output, graph.initializer) for named in part),
    ]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    damaged = [name for name in names if not isinstance(name, str)]
    if damaged:
        raise UnsupportedModel(f"the model has names that are not UTF-8: {damaged[0]!r}")


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


def _connect(graph: Graph) -> None:
    """Note who makes and who reads what; UnsupportedModel where that is not clear."""
    known = {value.name for value in graph.inputs} | set(graph.constants)
    for index, node in enumerate(graph.nodes):
        for name in reads(node):
            if name not in known:
                raise UnsupportedModel(
                    f"{label(node)} reads {name!r} before it is made, or nobody makes it; sort the graph, or repair it"
                )
            graph.consumers.setdefault(name, []).append(index)
        for name in filter(None, node.output):
            if name in known:
                raise UnsupportedModel(
                    f"{label(node)} makes {name!r} a second time; give each tensor its own name"
                )
            known.add(name)
            graph.producer[name] = index
    for value in graph.outputs:
        if value.name not in known:
            raise UnsupportedModel(f"nobody makes the output {value.name!r}; repair the graph")
        if value.name in graph.constants:
            raise UnsupportedModel(f"the output {value.name!r} is a constant; remove it from the outputs")


def _needed(nodes: list[Any], model: Any) -> list[Any]:
    """Without the nodes that no output of the model needs."""
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def _infer_shapes(graph: Graph) -> None:
    # On a copy without the nodes' large constants: their values matter for nothing but shapes given as
    # tensors.
    slim = onnx.ModelProto()
    slim.ir_version = max(graph.model.ir_version, 4)  # before, constants had to be listed as inputs
    slim.opset_import.extend(graph.model.opset_import)
    slim.functions.extend(graph.model.functions)
    slim.graph.name = "shapes"
    slim.graph.node.extend(graph.nodes)
    slim.graph.input.extend(graph.inputs)
    slim.graph.output.extend(graph.outputs)
    for name, tensor in graph.constants.items():
        if math.prod(tensor.dims) <= 1024:
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
        if value.name in graph.shapes:  # an input that is an output too
            continue
        graph.infos[value.name] = value
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            graph.shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in value.type.tensor_type.shape.dim
            )
    for name, tensor in graph.constants.items():
        graph.shapes[name] = tuple(tensor.dims)
