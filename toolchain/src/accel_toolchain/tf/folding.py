"""Constants that are computed from constants become constants, by TensorFlow's own arithmetic.

tf2onnx folds shapes but no arithmetic, and TensorFlow's grappler, which would, costs gigabytes and fuses more
than it should.
"""

from collections.abc import Mapping
from typing import Any, Final

from accel_toolchain.tf.graphs import (
    GraphDef,
    by_name,
    constant,
    data_inputs,
    node_name,
    rewire,
    run,
    subgraph,
)

# Stateless and deterministic. Nothing here reads a file or depends on time.
# fmt: off
_FOLDABLE: Final = frozenset({
    "Abs", "Add", "AddV2", "BroadcastTo", "Cast", "Concat", "ConcatV2", "Div", "Exp", "ExpandDims",
    "Fill", "FloorDiv", "GatherV2", "Inv", "Log", "Maximum", "Mean", "Minimum", "Mul", "Neg", "Pack",
    "Pow", "Prod", "Range", "RealDiv", "Reciprocal", "Reshape", "Rsqrt", "Shape", "Size", "Slice",
    "Split", "SplitV", "Sqrt", "Square", "Squeeze", "StridedSlice", "Sub", "Sum", "Tile", "Transpose",
    "Unpack",
})
# fmt: on
_FORWARDING: Final = frozenset(
    {"Identity", "StopGradient", "PreventGradient", "Snapshot", "DisableCopyOnRead"}
)


def drop_identities(graph: GraphDef, keep: set[str]) -> None:
    """Let readers of a forwarding node read its source, in place; nodes in `keep` stay."""
    sources: dict[str, str] = {}
    for node in graph.node:
        if node.op in _FORWARDING and node.name not in keep:
            sources[f"{node.name}:0"] = data_inputs(node)[0]
    resolved = {}
    for name in sources:
        target = name
        while target in sources:
            target = sources[target]
        resolved[name] = target
    rewire(graph, resolved)


def fold_constants(graph: GraphDef, outputs: list[str]) -> tuple[GraphDef, Mapping[str, frozenset[str]]]:
    """Return the graph without constant arithmetic, and for each new constant what it was made of."""
    keep = {node_name(output) for output in outputs}
    drop_identities(graph, keep)
    graph = subgraph(graph, outputs)
    nodes = by_name(graph)
    made_of: dict[str, frozenset[str]] = {}
    for node in _topological(graph):
        if node.op == "Const":
            made_of[node.name] = frozenset()
        elif node.op in _FOLDABLE and node.name not in keep and node.input:
            sources = [node_name(reference) for reference in node.input]
            if all(source in made_of for source in sources):
                made_of[node.name] = frozenset({node.op}).union(*(made_of[source] for source in sources))
    wanted = sorted(
        {
            reference
            for node in graph.node
            if node.name not in made_of or node.name in keep
            for reference in data_inputs(node)
            if node_name(reference) in made_of and nodes[node_name(reference)].op != "Const"
        }
    )
    if not wanted:
        return graph, {}
    values = run(subgraph(graph, wanted), {}, wanted)
    replacements, history = {}, {}
    for tensor, value in zip(wanted, values, strict=True):
        name = f"{tensor.replace(':', '_')}_folded"
        graph.node.append(constant(name, value))
        replacements[tensor] = f"{name}:0"
        history[name] = made_of[node_name(tensor)]
    rewire(graph, replacements)
    return subgraph(graph, outputs), history


def _topological(graph: GraphDef) -> list[Any]:
    """Return the nodes, sources first; a TensorFlow 1 loop is a cycle and comes without that promise."""
    nodes = by_name(graph)
    done: set[str] = set()
    order: list[Any] = []
    for start in graph.node:
        stack: list[tuple[str, bool]] = [(start.name, False)]
        while stack:
            name, expanded = stack.pop()
            if expanded:
                order.append(nodes[name])
                continue
            if name in done or name not in nodes:
                continue
            done.add(name)
            stack.append((name, True))
            stack += [(node_name(reference), False) for reference in nodes[name].input]
    return order
