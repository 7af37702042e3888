"""GraphDefs: names, neighbours, surgery, and running them. No knowledge of any operator's meaning."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

GraphDef = Any
NodeDef = Any


def node_name(reference: str) -> str:
    """Return the node of an input or tensor name (`a`, `a:1`, `^a`)."""
    return reference.lstrip("^").partition(":")[0]


def tensor_name(reference: str) -> str:
    """Return a data input with its output number (`a` is `a:0`)."""
    return reference if ":" in reference else f"{reference}:0"


def data_inputs(node: NodeDef) -> list[str]:
    """Return a node's inputs as tensor names, without control dependencies."""
    return [tensor_name(reference) for reference in node.input if not reference.startswith("^")]


def by_name(graph: GraphDef) -> dict[str, NodeDef]:
    """Return the nodes by name."""
    return {node.name: node for node in graph.node}


def ancestors(graph: GraphDef, tensors: Iterable[str], stop: Iterable[str] = ()) -> list[NodeDef]:
    """Return what the tensors depend on, in the graph's order; nothing behind the `stop` nodes."""
    nodes, halt = by_name(graph), set(stop)
    seen: set[str] = set()
    waiting = [node_name(tensor) for tensor in tensors]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if name not in halt:
            waiting += [node_name(reference) for reference in nodes[name].input]
    return [node for node in graph.node if node.name in seen]


def subgraph(graph: GraphDef, tensors: Iterable[str]) -> GraphDef:
    """Return a graph of only what the tensors need, functions included."""
    result = tf.compat.v1.GraphDef(versions=graph.versions)
    result.node.extend(ancestors(graph, tensors))
    functions = {function.signature.name: function for function in graph.library.function}
    waiting = [name for node in result.node for name in called(node)]
    taken: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in taken:
            taken.add(name)
            result.library.function.add().CopyFrom(functions[name])
            waiting += [inner for node in functions[name].node_def for inner in called(node)]
    return result


def called(node: NodeDef) -> list[str]:
    """Return the names of the functions that a node calls."""
    attributes = node.attr.values()
    names = [name for a in attributes for name in (a.func.name, *(func.name for func in a.list.func))]
    return [name for name in names if name]


def rewire(graph: GraphDef, replacements: Mapping[str, str]) -> None:
    """Let all readers of the tensors on the left read those on the right, in place."""
    for node in graph.node:
        for place, reference in enumerate(node.input):
            if not reference.startswith("^") and tensor_name(reference) in replacements:
                node.input[place] = replacements[tensor_name(reference)]


def constant(name: str, value: NDArray[Any]) -> NodeDef:
    """Return a Const node."""
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def placeholder(name: str, dtype: Any, shape: Iterable[int | None]) -> NodeDef:
    """Return a Placeholder node."""
    node = tf.compat.v1.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(list(shape)).as_proto())
    return node


def const_value(node: NodeDef) -> NDArray[Any]:
    """Return what a Const node holds."""
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


def run(graph: GraphDef, feeds: Mapping[str, Any], fetches: list[str]) -> list[NDArray[Any]]:
    """Execute a GraphDef with TensorFlow, as it stands: no rewriting by its optimiser."""
    options = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        with tf.compat.v1.Session(graph=imported, config=options) as session:
            return list(session.run(fetches, feed_dict=dict(feeds)))


def shapes(graph: GraphDef, tensors: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
    """Return TensorFlow's inferred shapes; None for an unknown rank."""
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        found: dict[str, tuple[int | None, ...] | None] = {}
        for name in tensors:
            shape = imported.get_tensor_by_name(name).shape
            found[name] = None if shape.rank is None else tuple(shape.as_list())
        return found
