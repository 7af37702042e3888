"""Cutting an ONNX graph at the tensors that `spec.conversion.inputs` and `outputs` name.

What lies before the inputs and behind the outputs is gone afterwards, operators that nobody knows included.
"""

import difflib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import onnx

from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.jobs import Conversion
from accel_toolchain.onnx_checks import all_nodes

_INPUTS: Final = "spec.conversion.inputs"
_OUTPUTS: Final = "spec.conversion.outputs"


def cut(proto: onnx.ModelProto, conversion: Conversion) -> None:
    """Keep what leads from the named inputs to the named outputs; without names, everything.

    Expects a model of IR 4 or newer, whose weights are not inputs. Types and shapes of tensors inside the graph come
    from shape inference.

    Raises:
        Terminal: UnknownTensor (not in the graph, an input that leads to no output, an input of unknown shape),
            InvalidModel (the outputs need an input that is not named).
    """
    if not conversion.inputs and not conversion.outputs:
        return
    graph = proto.graph
    own_inputs = [value.name for value in graph.input]
    own_outputs = [value.name for value in graph.output]
    computed = [name for node in graph.node for name in node.output if name]
    _check_names(_INPUTS, conversion.inputs, [*own_inputs, *computed], "input", len(own_inputs))
    _check_names(_OUTPUTS, conversion.outputs, [*own_outputs, *computed], "output", len(own_outputs))
    outputs = list(dict.fromkeys(conversion.outputs)) or own_outputs
    inputs = list(dict.fromkeys(conversion.inputs))
    both = [name for name in outputs if name in inputs]
    if both:
        raise Terminal(
            "UnknownTensor", f"{_INPUTS}: {listed(both)} is an output as well. Name another tensor."
        )
    places, reached = _behind(graph, outputs, stops=set(inputs or own_inputs))
    left = {name for place in places for name in graph.node[place].output}
    _check_ends(inputs, own_inputs, reached, left)
    known = _described(proto)
    new_inputs = [
        _input(name, known, own_inputs) for name in inputs or own_inputs if inputs or name in reached
    ]
    new_outputs = [known.get(name) or onnx.ValueInfoProto(name=name) for name in outputs]
    _replace(graph.input, new_inputs)
    _replace(graph.output, new_outputs)
    inside = (reached | left) - {*inputs, *own_inputs, *outputs}
    _keep(graph.node, [place in places for place in range(len(graph.node))])
    _keep(graph.initializer, [tensor.name in reached for tensor in graph.initializer])
    _keep(graph.sparse_initializer, [tensor.values.name in reached for tensor in graph.sparse_initializer])
    _keep(graph.value_info, [value.name in inside for value in graph.value_info])
    domains = {"", "ai.onnx", *(node.domain for node in all_nodes(graph))}
    _keep(proto.opset_import, [entry.domain in domains for entry in proto.opset_import])
    _keep(proto.functions, [function.domain in domains for function in proto.functions])


def _check_names(field: str, names: tuple[str, ...], existing: list[str], what: str, own: int) -> None:
    """Refuse names that are not there; `existing` begins with the model's `own` inputs or outputs."""
    for name in names:
        if name in existing:
            continue
        close = difflib.get_close_matches(name, existing, n=3, cutoff=0.7)
        hint = f" Similar in the graph: {listed(close)}." if close else ""
        others = list(dict.fromkeys(other for other in existing[own:] if other not in existing[:own]))
        inside = f" Inside, it has {listed(others)}." if others else ""
        raise Terminal(
            "UnknownTensor",
            f"{field}: the model has no {what} or inner tensor '{name}'. It has the {what} "
            f"{listed(existing[:own])}.{inside}{hint}",
        )


def _behind(graph: Any, outputs: list[str], stops: set[str]) -> tuple[set[int], set[str]]:
    """Return the places of the nodes that the outputs need, and the names that are read or asked for."""
    producer = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    places: set[int] = set()
    reached: set[str] = set()
    pending = list(outputs)
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        place = producer.get(name)
        if place is None or name in stops or place in places:
            continue
        places.add(place)
        pending += [read for read in _read(graph.node[place]) if read]
    return places, reached


def _read(node: Any) -> Iterator[str]:
    """Yield what a node reads, and what the graphs inside it may read of the graph around it."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _read(inner)


def _check_ends(inputs: list[str], own: list[str], reached: set[str], computed: set[str]) -> None:
    if not inputs:
        if not reached.intersection(own):
            raise Terminal("UnknownTensor", f"{_OUTPUTS}: they depend on no input of the model. Name others.")
        return
    missing = [name for name in own if name in reached and name not in inputs]
    if missing:
        raise Terminal(
            "InvalidModel",
            f"{_INPUTS}: the outputs need the model's input {listed(missing)} as well. Name it too, or name all "
            "tensors between it and the outputs.",
        )
    idle = [name for name in inputs if name not in reached and name not in own]
    if idle:
        raise Terminal(
            "UnknownTensor",
            f"{_INPUTS}: {listed(idle)} leads to none of the outputs. Name a tensor before them.",
        )
    twice = [name for name in inputs if name in computed]
    if twice:
        raise Terminal(
            "InvalidModel",
            f"{_INPUTS}: the operator that computes {listed(twice)} has other results that the outputs need. Name "
            "these too.",
        )


def _described(proto: onnx.ModelProto) -> dict[str, Any]:
    """Return type and shape of each tensor, as far as the file or shape inference tells."""
    graph = proto.graph
    # A graph of nonsense, or one above protobuf's 2 GiB: what the file itself says is left.
    with suppress(onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    return {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}


def _input(name: str, known: dict[str, Any], own: list[str]) -> Any:
    value = known.get(name)
    kind = value.type.tensor_type if value is not None else None
    if name not in own and (kind is None or not kind.elem_type or not kind.HasField("shape")):
        raise Terminal(
            "UnknownTensor",
            f"{_INPUTS}: type and shape of '{name}' cannot be told, neither from the file nor from the operators "
            "before it. Name a tensor behind operators of ONNX, or export the model so that it begins there.",
        )
    return value


def _replace(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)


def _keep(field: Any, wanted: list[bool]) -> None:
    """Delete in place: weights may be large, and are not copied."""
    for place in reversed(range(len(wanted))):
        if not wanted[place]:
            del field[place]
