"""ONNX as a source: no TensorFlow, seconds instead of minutes."""

from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from accel_toolchain import samples
from accel_toolchain.artifact import Tensor
from accel_toolchain.conditions import Terminal, is_out_of_memory
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import FloatModel, Sample, dtype_name
from accel_toolchain.onnx_checks import all_nodes, check, open_session, refuse_unknown_operators
from accel_toolchain.onnx_cut import cut

_OLDEST_OPSET: Final = 9
_EXTERNAL: Final = onnx.TensorProto.EXTERNAL


def read_onnx(path: Path, conversion: Conversion, count: int) -> FloatModel:
    """Read an ONNX file; its own answers to the samples are the reference.

    Raises:
        Terminal: InvalidModel, UnknownTensor, UnsupportedOperator.
    """
    proto = _load(path)
    cut(proto, conversion)
    refuse_unknown_operators(proto)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if not _OLDEST_OPSET <= opset <= onnx.defs.onnx_opset_version():
        raise Terminal(
            "InvalidModel",
            f"spec.source: the model has ONNX opset {opset}; {_OLDEST_OPSET} to "
            f"{onnx.defs.onnx_opset_version()} are read.",
        )
    content = proto.SerializeToString(deterministic=True)
    complaints = check(content)
    inputs = tuple(_describe(value) for value in _real_inputs(proto))
    outputs = tuple(_describe(value) for value in proto.graph.output)
    seeded = _answers(content, inputs, outputs, count)
    outputs = tuple(_filled(tensor, seeded[0].outputs[tensor.name]) for tensor in outputs)
    return FloatModel(proto, "", inputs, outputs, None, seeded, tuple(complaints))


def _load(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise Terminal(
            "InvalidModel", f"spec.source: {path.name} is no ONNX file (truncated?). Push it again."
        ) from error
    if not proto.graph.node:
        raise Terminal("InvalidModel", f"spec.source: {path.name} holds no graph. Push it again.")
    _check_external(proto, path.parent)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise Terminal("InvalidModel", f"spec.source: its external data cannot be read: {error}.") from error
    _modernise(proto)
    return proto


def _modernise(proto: onnx.ModelProto) -> None:
    """Bring IR 3 to IR 4: there, weights are inputs as well, and shape inference does not look at their values."""
    real = _real_inputs(proto)
    if len(real) < len(proto.graph.input):
        del proto.graph.input[:]
        proto.graph.input.extend(real)
    proto.ir_version = max(4, proto.ir_version)


def _check_external(proto: onnx.ModelProto, folder: Path) -> None:
    """Refuse external data outside of the source: an absolute path, one with .., a link."""
    for tensor in _tensors(proto):
        if tensor.data_location != _EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        path = PurePosixPath(location)
        if not location or path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
            raise Terminal(
                "InvalidModel",
                f"spec.source: the tensor {tensor.name} keeps its data in '{location}', which is not in the "
                "source. Push both files.",
            )


def _tensors(proto: onnx.ModelProto) -> list[Any]:
    found = list(proto.graph.initializer)
    for node in all_nodes(proto.graph):
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors, *attribute.g.initializer]
    return found


def _real_inputs(proto: onnx.ModelProto) -> list[Any]:
    """Return the inputs that are not weights (before IR 4 weights were inputs too)."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _describe(value: Any) -> Tensor:
    kind = value.type.tensor_type
    try:
        dtype = dtype_name(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
    except (KeyError, TypeError) as error:
        raise Terminal(
            "InvalidModel", f"spec.source: the tensor {value.name} has no type that can be served."
        ) from error
    if dtype == "string":
        raise Terminal(
            "UnsupportedOperator",
            f"spec.source: the ONNX input {value.name} is a string; pictures come as arrays.",
        )
    shape = tuple(
        int(size.dim_value) if size.HasField("dim_value") and size.dim_value > 0 else -1
        for size in kind.shape.dim
    )
    return Tensor(value.name, value.name, dtype, shape)


def _answers(
    content: bytes, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], count: int
) -> tuple[Sample, ...]:
    session = open_session(content)
    names = [tensor.name for tensor in outputs]
    taken = []
    for number in range(max(1, count)):
        fed = {
            tensor.name: samples.array(
                number, np.dtype(tensor.dtype), tensor.shape, f"the input {tensor.name}"
            )
            for tensor in inputs
        }
        try:
            taken.append(Sample(fed, dict(zip(names, session.run(names, fed), strict=True))))
        except Exception as error:  # onnxruntime's errors share no base class of their own
            if is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:300]
            raise Terminal(
                "InvalidModel", f"spec.source: the model itself fails on a sample input: {text}"
            ) from error
    return tuple(taken)


def _filled(tensor: Tensor, example: Any) -> Tensor:
    """Fill sizes that the file leaves open, except the batch."""
    shape = tuple(
        stated if place == 0 or stated > 0 else int(size)
        for place, (stated, size) in enumerate(
            zip(tensor.shape or (-1,) * example.ndim, example.shape, strict=True)
        )
    )
    return Tensor(tensor.name, tensor.alias, tensor.dtype, shape)
