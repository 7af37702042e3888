"""Is it really ONNX that ONNX Runtime executes? tf2onnx and users are both believed only after these."""

from collections.abc import Iterator
from typing import Any

import onnx

from accel_toolchain.conditions import Terminal, is_out_of_memory, listed


def refuse_unknown_operators(proto: onnx.ModelProto) -> None:
    """Raise Terminal (UnsupportedOperator) listing operators that ONNX of the model's opset lacks."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 1))
    unknown = sorted(
        {
            f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
            for node in all_nodes(proto.graph)
            if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset)
        }
    )
    if unknown:
        raise Terminal(
            "UnsupportedOperator",
            f"spec.source: ONNX (opset {opset}) has no counterpart of {listed(unknown)}. Export the model "
            "without them, or cut them off: name tensors before them in spec.conversion.outputs, or behind them in "
            "spec.conversion.inputs.",
        )


def all_nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from all_nodes(inner)


def check(content: bytes) -> list[str]:
    """Check a model with ONNX's checker and by loading it; return complaints that do not matter.

    The full checker rejects some models that run (a missing shape of a table, for one): that is reported, and
    ONNX Runtime decides.

    Raises:
        Terminal: InvalidModel.
    """
    complaints = []
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        complaints.append(f"onnx.checker: {' '.join(str(error).split())[:300]}")
    open_session(content)
    return complaints


def open_session(content: bytes) -> Any:
    """Return a single-threaded ONNX Runtime session of the model; raises Terminal (InvalidModel)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        if is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        raise Terminal(
            "InvalidModel", f"spec.source: ONNX Runtime does not load the model: {text}"
        ) from error
