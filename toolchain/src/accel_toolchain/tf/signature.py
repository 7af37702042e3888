"""What a SavedModel serves: which tensors go in and out, under which names and aliases."""

import difflib
from dataclasses import dataclass
from typing import Any, Final

from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.jobs import Conversion

_INTERNAL: Final = "__saved_model_init_op"
_DEFAULT: Final = "serving_default"


@dataclass(frozen=True)
class Port:
    """One tensor of a signature: TensorFlow's name (`Placeholder:0`) and the key that clients may use."""

    name: str
    alias: str


@dataclass(frozen=True)
class Signature:
    """The tensors to serve. `exact` is False where they are not the signature's own."""

    key: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    exact: bool = True


def choose_signature(meta_graph: Any, conversion: Conversion) -> Signature:
    """Return the signature that `spec.conversion` asks for, cut down to the named outputs.

    Names may be tensor names or signature keys. A TensorFlow 1 graph may be cut at any tensor.

    Raises:
        Terminal: InvalidModel (no such signature), UnknownTensor (lists those that exist).
    """
    signatures = {
        key: value
        for key, value in sorted(meta_graph.signature_def.items())
        if key != _INTERNAL and value.outputs
    }
    if not signatures:
        raise Terminal(
            "InvalidModel", "spec.source: the SavedModel has no signature. Export it with a serving function."
        )
    key = _choose_key(signatures, conversion)
    definition = signatures[key]
    inputs, outputs = _ports(definition.inputs), _ports(definition.outputs)
    if not conversion.inputs and not conversion.outputs:
        return Signature(key, inputs, outputs)
    chosen_inputs = _match("spec.conversion.inputs", conversion.inputs, inputs, meta_graph)
    chosen_outputs = _match("spec.conversion.outputs", conversion.outputs, outputs, meta_graph)
    exact = set(chosen_inputs) == set(inputs) and set(chosen_outputs) <= set(outputs)
    if not exact and not is_tensorflow1(meta_graph):
        wanted = listed(
            [port.name for port in (*chosen_inputs, *chosen_outputs) if port not in (*inputs, *outputs)]
        )
        raise _unknown("spec.conversion", wanted or "a subset of the inputs", (*inputs, *outputs), [])
    return Signature(key, chosen_inputs, chosen_outputs, exact)


def is_tensorflow1(meta_graph: Any) -> bool:
    """Tell a plain graph from an object-based SavedModel, whose nodes are mostly inside functions."""
    return not meta_graph.HasField("object_graph_def")


def _choose_key(signatures: dict[str, Any], conversion: Conversion) -> str:
    if conversion.signature is not None:
        if conversion.signature not in signatures:
            raise Terminal(
                "InvalidModel",
                f"spec.conversion.signature: there is no '{conversion.signature}'; the model has "
                f"{listed(list(signatures))}.",
            )
        return conversion.signature
    if _DEFAULT in signatures:
        return _DEFAULT
    if len(signatures) == 1:
        return next(iter(signatures))
    raise Terminal(
        "InvalidModel",
        f"spec.conversion.signature: the model has no '{_DEFAULT}' but {listed(list(signatures))}. Name one.",
    )


def _ports(tensors: Any) -> tuple[Port, ...]:
    return tuple(Port(info.name, alias) for alias, info in sorted(tensors.items()))


def _match(field: str, names: tuple[str, ...], ports: tuple[Port, ...], meta_graph: Any) -> tuple[Port, ...]:
    if not names:
        return ports
    known = {port.alias: port for port in ports} | {port.name: port for port in ports}
    chosen = []
    for name in names:
        tensor = name if ":" in name else f"{name}:0"
        if name in known or tensor in known:
            chosen.append(known.get(name) or known[tensor])
        elif is_tensorflow1(meta_graph) and _in_graph(tensor, meta_graph):
            chosen.append(Port(tensor, tensor.removesuffix(":0")))
        else:
            raise _unknown(field, name, ports, [node.name for node in meta_graph.graph_def.node])
    return tuple(dict.fromkeys(chosen))


def _in_graph(tensor: str, meta_graph: Any) -> bool:
    name = tensor.rpartition(":")[0]
    return any(node.name == name for node in meta_graph.graph_def.node)


def _unknown(field: str, name: str, ports: tuple[Port, ...], nodes: list[str]) -> Terminal:
    existing = listed([f"{port.name} (alias {port.alias})" for port in ports])
    close = difflib.get_close_matches(name.partition(":")[0], nodes, n=3, cutoff=0.7)
    hint = f" Similar in the graph: {listed([f'{node}:0' for node in close])}." if close else ""
    return Terminal(
        "UnknownTensor", f"{field}: the model has no tensor '{name}'. Its signature has {existing}.{hint}"
    )
