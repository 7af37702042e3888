"""A model's own functions, which some exporters write per module, put in the places where they are called.

A few functions that call each other can stand for any number of nodes: they are counted before they are expanded.
"""

from collections.abc import Iterable
from typing import Any

from onnx import inliner

from npu.errors import UnsupportedModel

__all__ = ["expanded"]

MOST_NODES = 20_000
SUBGRAPHS = (5, 10)  # AttributeProto.GRAPH and GRAPHS
DEEPEST = 50  # calls within calls
Key = tuple[str, str]  # domain and name


def expanded(model: Any) -> Any:
    """The model without functions of its own; UnsupportedModel if that is too much, or goes round in circles."""
    if not model.functions:
        return model
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    if _count(model.graph.node, bodies, {}, ()) > MOST_NODES:
        raise UnsupportedModel(f"the model's functions stand for more than {MOST_NODES} nodes")
    try:
        made = inliner.inline_local_functions(model)
    except Exception as error:
        raise UnsupportedModel(f"the model's functions cannot be expanded: {error}") from error
    if any((node.domain, node.op_type) in bodies for node in made.graph.node):
        raise UnsupportedModel(
            "the model's functions are of other opsets than the model; export it without functions"
        )
    del made.functions[:]
    return made


def _count(
    nodes: Iterable[Any], bodies: dict[Key, Any], counted: dict[Key, int], within: tuple[Key, ...]
) -> int:
    """How many nodes these are once expanded, those of their subgraphs included."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type)
        if key in within or len(within) > DEEPEST:
            raise UnsupportedModel(f"the function {node.op_type!r} calls itself, or lies too deep in others")
        if key in bodies and key not in counted:
            counted[key] = _count(bodies[key], bodies, counted, (*within, key))
        total += counted.get(key, 1)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in SUBGRAPHS else ():
                total += _count(inner.node, bodies, counted, within)
    return total
