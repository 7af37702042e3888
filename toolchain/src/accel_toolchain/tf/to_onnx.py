"""GraphDef to ONNX by tf2onnx, guarded.

tf2onnx 1.17 keeps a copy of the graph for each of its passes alive, answers success for operators that it
does not know, and fuses batch normalisations into convolutions. Each has its counter-measure here;
`read_saved_model` checks the result against the original.
"""

import gc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import tensorflow as tf

from accel_toolchain.conditions import Terminal, is_out_of_memory
from accel_toolchain.onnx_checks import refuse_unknown_operators
from accel_toolchain.tf.batchnorm import count
from accel_toolchain.tf.graphs import GraphDef

if not hasattr(np, "product"):
    np.product = np.prod  # type: ignore[attr-defined]  # tf2onnx 1.17 was written for numpy 1

OPSET: Final = 18  # the newest that tf2onnx 1.17 writes
IR_VERSION: Final = 8
# Both fold a batch normalisation's scale into the weights; the second, a Mul that looks like one.
_LEFT_OUT: Final = frozenset({"remove_back_to_back", "optimize_transpose"})


def to_onnx(graph: GraphDef, inputs: dict[str, str], outputs: dict[str, str]) -> onnx.ModelProto:
    """Convert; `inputs` and `outputs` map tensor names to the names they get.

    Raises:
        Terminal: UnsupportedOperator, ConversionFailed.
    """
    normalisations = count(graph)
    proto = _convert(graph, list(inputs), list(outputs))
    refuse_unknown_operators(proto)
    found = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    if found != normalisations:
        raise Terminal(
            "ConversionFailed",
            f"{normalisations} batch normalisations went into the converter and {found} came out. This is a "
            "defect of the converter.",
        )
    _rename(proto, inputs, outputs)
    _normalise(proto)
    return proto


def _convert(graph: GraphDef, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    import tf2onnx
    from tf2onnx import optimizer, tf_loader, tfonnx

    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        graph.Clear()  # the caller's copy: weights once in memory are enough
        tf_loader.resolve_functions(imported)
        try:
            converted = tfonnx.process_tf_graph(
                imported, opset=OPSET, input_names=list(inputs), output_names=list(outputs)
            )
        except (
            ValueError,
            KeyError,
            AssertionError,
            RuntimeError,
            TypeError,
            AttributeError,
            NotImplementedError,
        ) as error:
            if is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:300]
            raise Terminal(
                "ConversionFailed", f"tf2onnx {tf2onnx.__version__} cannot convert the graph: {text}"
            ) from error
    gc.collect()
    passes = OrderedDict(
        (name, _collecting(factory))
        for name, factory in optimizer._get_optimizers().items()  # noqa: SLF001  # there is no other way to choose
        if name not in _LEFT_OUT
    )
    converted = optimizer.optimize_graph(converted, optimizers=passes)
    proto = converted.make_model("model")
    del converted
    gc.collect()
    return proto


def _collecting(factory: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a pass: the copies of the graph that earlier passes left are freed before it makes its own."""

    def make() -> Any:
        gc.collect()
        return factory()

    return make


def _rename(proto: onnx.ModelProto, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Give inputs and outputs the names of the wire."""
    graph = proto.graph
    names = {old: new for old, new in inputs.items() if old != new}
    produced = {name for node in graph.node for name in node.output}
    names |= {old: new for old, new in outputs.items() if old != new and old in produced}
    for node in graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)
        for attribute in node.attribute:
            for inner in attribute.g.node:
                for place, name in enumerate(inner.input):
                    inner.input[place] = names.get(name, name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)


def _normalise(proto: onnx.ModelProto) -> None:
    """Remove what does not belong to the model, so that equal models have equal bytes; name the batch `N`."""
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version, proto.doc_string = "accel-toolchain", "", ""
    proto.graph.name, proto.graph.doc_string = "model", ""
    used = {node.domain for node in proto.graph.node}
    kept = [entry for entry in proto.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    del proto.opset_import[:]
    proto.opset_import.extend(sorted(kept, key=lambda entry: entry.domain))
    for node in proto.graph.node:
        node.doc_string = ""
    del proto.graph.value_info[:]  # inferred again where needed; its unknown sizes carry counters
    for value in (*proto.graph.input, *proto.graph.output):
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if not dimension.HasField("dim_value") or dimension.dim_value < 0:
                dimension.dim_param = "N" if place == 0 else f"D{place}"
