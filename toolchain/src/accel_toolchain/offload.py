"""Deciding what the FPGA computes: compile, estimate, compose."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import onnx
from npu.compiler import compile_model
from npu.errors import CompileError, NothingToOffload, NpuError, SkuError, UnsupportedModel
from npu.timing import estimate

from accel_toolchain.artifact import Parts
from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import FloatModel

_SKU: Final = "bw-cnn-a10"
_DOMAIN: Final = "accel"


def offload(
    model: FloatModel, conversion: Conversion, say: Callable[[str], None]
) -> tuple[Parts, dict[str, Any] | None]:
    """Partition and compile; return the parts and what is known of the device (None: all on the host).

    Raises:
        Terminal: NothingToOffload, UnsupportedOperator, InvalidModel.
    """
    try:
        compiled = compile_model(model.proto, precision=conversion.precision, sku=_SKU)
        timing = estimate(compiled.program, _SKU)
    except NothingToOffload as error:
        if conversion.require_fpga:
            raise Terminal(
                "NothingToOffload",
                f"spec.conversion.requireFpga: no part of the model can run on the FPGA ({_counted(error.reasons)}). "
                "Set requireFpga to false to serve it on the host, or use a convolutional network.",
            ) from error
        return _host_only(model, f"nothing to offload: {error}", say)
    except SkuError as error:
        if conversion.require_fpga:
            raise Terminal(
                "UnsupportedOperator", f"spec.source: the model does not fit the FPGA: {error}"
            ) from error
        return _host_only(model, str(error), say)
    except UnsupportedModel as error:
        raise Terminal("InvalidModel", f"spec.source: {error}") from error
    except (CompileError, NpuError, ValueError) as error:
        if conversion.require_fpga:
            raise Terminal("UnsupportedOperator", f"spec.source: {error}") from error
        return _host_only(model, str(error), say)
    say(f"compiled: {compiled.offloaded_ops} operators on the device, {compiled.host_ops} on the host")
    for operator, reason in list(compiled.host_reasons.items())[:50]:
        say(f"  host: {operator}: {reason}")
    device = {
        "fits": True,
        "tiles": timing.tiles,
        "vectors": timing.vectors,
        "latencyMs": round(timing.latency_ms, 4),
        "inferencesPerSecond": round(timing.inferences_per_second, 1),
        "boundBy": timing.bound_by,
        "offloadedOps": compiled.offloaded_ops,
        "hostOps": compiled.host_ops,
    }
    parts = Parts(
        pre=_bytes(compiled.pre),
        program=compiled.program.to_bytes(),
        post=_bytes(compiled.post),
        composed=_bytes(with_decoder(compiled.composed, model.decode)),
        device_input=compiled.device_input,
        device_output=compiled.device_output,
    )
    return parts, device


def _counted(reasons: Mapping[str, str]) -> str:
    """Return operators' reasons, `Type 'name'` to reason, as counts of types: `2 MatMul: …, 1 Sin: …`."""
    counts = Counter((operator.partition(" ")[0], reason) for operator, reason in reasons.items())
    return listed([f"{count} {kind}: {reason}" for (kind, reason), count in sorted(counts.items())], 8)


def _host_only(model: FloatModel, why: str, say: Callable[[str], None]) -> tuple[Parts, None]:
    say(f"the host computes everything: {why}")
    return Parts(pre=_bytes(model.proto), composed=_bytes(with_decoder(model.proto, model.decode))), None


def with_decoder(proto: onnx.ModelProto, decode: dict[str, Any] | None) -> onnx.ModelProto:
    """Return the interchange graph with the decoder at its head, one node of our own domain."""
    if decode is None:
        return proto
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    attributes = {
        "channels": decode["channels"],
        "dtype": decode["dtype"],
        "steps": [_step_text(step) for step in decode["steps"]],
    }
    node = onnx.helper.make_node(
        "DecodeImage", [decode["input"]], [decode["tensor"]], name="DecodeImage", domain=_DOMAIN, **attributes
    )
    nodes = [node, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    kept = [value for value in result.graph.input if value.name != decode["tensor"]]
    del result.graph.input[:]
    strings = onnx.helper.make_tensor_value_info(decode["input"], onnx.TensorProto.STRING, ["N"])
    result.graph.input.extend([strings, *kept])
    result.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    return result


def _step_text(step: dict[str, Any]) -> str:
    """One step as `op key=value …`, keys sorted."""
    return " ".join([step["op"], *(f"{key}={step[key]}" for key in sorted(step) if key != "op")])


def _bytes(proto: onnx.ModelProto | None) -> bytes | None:
    return None if proto is None else bytes(proto.SerializeToString(deterministic=True))
