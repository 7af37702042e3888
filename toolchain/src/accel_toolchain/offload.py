"""Deciding what the FPGA computes: compile, estimate, compose."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import onnx
from npu.compiler import OnHost, compile_model
from npu.compiler.account import count
from npu.errors import CompileError, DoesNotFit, NothingToOffload, NpuError, SkuError, UnsupportedModel
from npu.timing import estimate

from accel_toolchain.artifact import Parts
from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import FloatModel

_DOMAIN: Final = "accel"
_REASONS: Final = 16
"""Pairs of operator and reason that the status shows; the log has one line for each node."""
_REASON_CHARACTERS: Final = 160


def offload(
    model: FloatModel, conversion: Conversion, say: Callable[[str], None]
) -> tuple[Parts, dict[str, Any] | None]:
    """Partition and compile for the card that is asked for; return the parts and what is known of the device.

    Without a program there are no figures: `fits` is False where the host computes what does not fit, and absent where
    nothing could be offloaded; None is known where the compiler could not read the model.

    Raises:
        Terminal: DoesNotFit, NothingToOffload, UnsupportedOperator, InvalidModel, InvalidJob.
    """
    try:
        compiled = compile_model(model.proto, precision=conversion.precision, sku=conversion.sku)
        timing = estimate(compiled.program, conversion.sku)
    except NothingToOffload as error:
        stays = counted(error.reasons)
        if conversion.require_fpga:
            raise Terminal(
                "NothingToOffload",
                f"spec.conversion.requireFpga: no part of the model can run on the FPGA ({_listed(stays)}). "
                "Set requireFpga to false to serve it on the host, or use a convolutional network.",
            ) from error
        parts = _host_only(model, f"nothing to offload: {error}", say)
        reasons = host_reasons(stays)
        return parts, {"offloadedOps": 0, "hostOps": len(model.proto.graph.node), "hostReasons": reasons}
    except DoesNotFit as error:
        if conversion.require_fpga:
            raise Terminal(
                "DoesNotFit",
                f"spec.conversion.sku: {error}. Otherwise name a larger card, or set spec.conversion.requireFpga to "
                "false to serve it on the host.",
            ) from error
        parts = _host_only(model, str(error), say)
        nodes = len(model.proto.graph.node)
        unfit = {"operator": "all", "count": max(1, nodes), "reason": _cut(f"does not fit: {error}")}
        return parts, {
            "sku": conversion.sku,
            "fits": False,
            "offloadedOps": 0,
            "hostOps": nodes,
            "hostReasons": [unfit],
        }
    except SkuError as error:
        raise Terminal(
            "InvalidJob", f"spec.conversion.sku: {error}. Operator and converter image do not match."
        ) from error
    except UnsupportedModel as error:
        raise Terminal("InvalidModel", f"spec.source: {error}") from error
    except (CompileError, NpuError, ValueError) as error:
        if conversion.require_fpga:
            raise Terminal("UnsupportedOperator", f"spec.source: {error}") from error
        return _host_only(model, str(error), say), None
    say(f"compiled: {compiled.offloaded_ops} operators on the device, {compiled.host_ops} on the host")
    for operator, reason in list(compiled.host_reasons.items())[:50]:
        say(f"  host: {operator}: {reason}")
    device = {
        "sku": compiled.program.sku,
        "fits": True,
        "tiles": timing.tiles,
        "vectors": timing.vectors,
        "latencyMs": round(timing.latency_ms, 4),
        "inferencesPerSecond": round(timing.inferences_per_second, 1),
        "boundBy": timing.bound_by,
        "offloadedOps": compiled.offloaded_ops,
        "hostOps": compiled.host_ops,
        "hostReasons": host_reasons(compiled.host_counts),
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


def host_reasons(stays: Iterable[OnHost]) -> list[dict[str, Any]]:
    """Return why operators stay on the host, for the status: the most frequent first, as they come, at most 16."""
    return [
        {"operator": entry.operator, "count": entry.count, "reason": _cut(entry.reason)}
        for entry in list(stays)[:_REASONS]
    ]


def counted(reasons: Mapping[str, str]) -> tuple[OnHost, ...]:
    """Count nodes, `Type 'name'` to reason, by type and reason."""
    return count((*label.partition(" ")[::2], reason) for label, reason in reasons.items())


def _cut(text: str) -> str:
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 1]}…"


def _listed(stays: Iterable[OnHost]) -> str:
    """Return them for a message: `2 MatMul: …, 1 Sin: …`."""
    return listed([f"{entry.count} {entry.operator}: {entry.reason}" for entry in stays], 8)


def _host_only(model: FloatModel, why: str, say: Callable[[str], None]) -> Parts:
    say(f"the host computes everything: {why}")
    return Parts(pre=_bytes(model.proto), composed=_bytes(with_decoder(model.proto, model.decode)))


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
