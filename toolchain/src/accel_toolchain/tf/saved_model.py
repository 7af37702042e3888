"""A SavedModel becomes float32 ONNX: screened, loaded, asked, frozen, cut, converted, checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from accel_toolchain import samples
from accel_toolchain.artifact import Tensor
from accel_toolchain.conditions import Terminal
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import Arrays, FloatModel, Sample, dtype_name
from accel_toolchain.onnx_checks import check
from accel_toolchain.tf.batchnorm import recover
from accel_toolchain.tf.folding import fold_constants
from accel_toolchain.tf.freezing import Frozen, InputSpec, Original
from accel_toolchain.tf.picture_head import cut_head
from accel_toolchain.tf.screening import screen
from accel_toolchain.tf.signature import Port, Signature, choose_signature
from accel_toolchain.tf.to_onnx import to_onnx


def read_saved_model(
    path: Path, conversion: Conversion, count: int, say: Callable[[str], None]
) -> FloatModel:
    """Convert the SavedModel in a folder; `count` samples are answered by the original first.

    Raises:
        Terminal: NotASavedModel, ForbiddenOperator, InvalidModel, UnknownTensor, UnsupportedOperator,
        ConversionFailed.
    """
    meta_graph = _meta_graph(path)
    signature = choose_signature(meta_graph, conversion)
    screen(meta_graph, [port.name for port in signature.outputs])
    original = Original.of_saved_model(path, meta_graph, signature)
    say(f"TensorFlow {tf.__version__} loaded the signature {signature.key}")
    return answer_and_convert(original, signature, count, say)


def answer_and_convert(
    original: Original, signature: Signature, count: int, say: Callable[[str], None]
) -> FloatModel:
    """Ask a loaded model for its answers to `count` samples, freeze it and convert it; raises Terminal."""
    specs = original.input_specs()
    seeded = _samples(original, signature, specs, count)
    frozen = original.freeze()
    say(f"frozen: {len(frozen.graph.node)} nodes")
    return _convert(frozen, signature, specs, seeded, say)


def _convert(
    frozen: Frozen,
    signature: Signature,
    specs: dict[Port, InputSpec],
    seeded: tuple[Sample, ...],
    say: Callable[[str], None],
) -> FloatModel:
    ends = list(frozen.outputs.values())
    graph, history = fold_constants(frozen.graph, ends)
    frozen.graph.Clear()
    decode: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    inputs = {frozen.inputs[port]: port.name for port in signature.inputs}
    strings = [port for port in signature.inputs if specs[port].dtype.kind == "O"]
    if len(strings) > 1:
        raise Terminal(
            "UnsupportedOperator",
            f"spec.source: {len(strings)} inputs are strings; one batch of pictures is known.",
        )
    if strings:
        head = cut_head(graph, frozen.inputs[strings[0]], strings[0].name, ends)
        graph, decode, notes = head.graph, head.decode, head.notes
        del inputs[frozen.inputs[strings[0]]]
        inputs = {decode["tensor"]: decode["tensor"], **inputs}
        say(f"pictures are decoded by the server: {decode['steps']}")
    recover(graph, history)
    proto = to_onnx(graph, inputs, {tensor: port.name for port, tensor in frozen.outputs.items()})
    complaints = check(proto.SerializeToString(deterministic=True))
    for complaint in (*notes, *complaints):
        say(complaint)
    outputs = tuple(_output(port, seeded[0].outputs[port.name]) for port in signature.outputs)
    described = tuple(
        Tensor(
            port.name,
            port.alias,
            dtype_name(specs[port].dtype),
            tuple(-1 if s is None else s for s in specs[port].shape),
        )
        for port in signature.inputs
    )
    return FloatModel(proto, signature.key, described, outputs, decode, seeded, (*notes, *complaints))


def _meta_graph(path: Path) -> Any:
    """Return the MetaGraphDef that serves."""
    document = saved_model_pb2.SavedModel()
    try:
        document.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise Terminal(
            "NotASavedModel", "spec.source: its saved_model.pb is no SavedModel (truncated?). Push it again."
        ) from error
    for meta_graph in document.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return meta_graph
    tags = [sorted(meta_graph.meta_info_def.tags) for meta_graph in document.meta_graphs]
    raise Terminal(
        "NotASavedModel",
        f"spec.source: no graph in it is tagged 'serve' (tags: {tags}). Export it for serving.",
    )


def _samples(
    original: Original, signature: Signature, specs: dict[Port, InputSpec], count: int
) -> tuple[Sample, ...]:
    """Return the original's answers; pictures are PNGs, and the first is a JPEG too."""
    pictures = any(spec.dtype.kind == "O" for spec in specs.values())
    plan = [(number, "PNG") for number in range(max(1, count))] + ([(0, "JPEG")] if pictures else [])
    taken = []
    for number, kind in plan:
        values = {port: _sample(number, kind, port, specs[port]) for port in signature.inputs}
        answers = original.answer(values)
        inputs: Arrays = {port.name: value for port, value in values.items()}
        taken.append(Sample(inputs, {port.name: value for port, value in answers.items()}, kind == "PNG"))
    return tuple(taken)


def _sample(number: int, kind: str, port: Port, spec: InputSpec) -> Any:
    if spec.dtype.kind != "O":
        return samples.array(number, spec.dtype, spec.shape, f"the input {port.name}")
    if len(spec.shape) != 1:
        raise Terminal(
            "InvalidModel",
            f"spec.source: the input {port.name} is no batch of encoded pictures (a vector of strings).",
        )
    return np.array([samples.encoded(samples.picture(number), kind)], dtype=object)


def _output(port: Port, example: Any) -> Tensor:
    shape = tuple(-1 if place == 0 else int(size) for place, size in enumerate(example.shape))
    return Tensor(port.name, port.alias, dtype_name(example.dtype), shape)
