"""From ONNX to a program for the device and graphs for the host around it.

The order of work: `graph` reads and folds, `operators` judges each node, `partition` chooses the region,
`lowering` makes layers of it, `assemble` makes the program, `split` makes the host's graphs.
"""

from dataclasses import dataclass
from typing import Any

from npu import bfp
from npu.compiler.assemble import assemble
from npu.compiler.geometry import picture_shape
from npu.compiler.graph import label, load
from npu.compiler.lowering import lower
from npu.compiler.operators import Role, judge
from npu.compiler.partition import choose
from npu.compiler.split import split
from npu.errors import UnsupportedModel
from npu.program import Program
from npu.sku import DEFAULT_SKU, Sku, load_sku

__all__ = ["Compiled", "compile_model"]


@dataclass(frozen=True)
class Compiled:
    """A model cut in three. Data flow: model inputs -> `pre` -> program, picture by picture -> `post` ->
    outputs.

    `pre` also gives the tensors that `post` reads beside the device's output; a model input that `post` reads
    is fed to it directly. `composed` is for interchange: ONNX Runtime has no such operator.
    """

    pre: Any  # onnx.ModelProto or None
    program: Program
    post: Any  # onnx.ModelProto or None
    composed: Any  # onnx.ModelProto
    device_input: str
    device_output: str
    offloaded_ops: int
    host_ops: int
    host_reasons: dict[str, str]  # operator and name -> why it stays on the host
    tensors: tuple[str, ...] = ()  # per chain: the model's tensor that it makes, empty where there is none


def compile_model(
    model: Any, *, precision: str | bfp.Preset = bfp.DEFAULT, sku: str = DEFAULT_SKU, name: str | None = None
) -> Compiled:
    """Compile an `onnx.ModelProto` (float32, NCHW, or with a converter's transposes; any batch).

    A `precision` that is no official preset may be given as a `bfp.Preset` to study formats: the oracle runs such a
    program, and no device takes it. Raises a CompileError: NothingToOffload, UnsupportedModel, or what does not fit;
    SkuError for the SKU.
    """
    preset = precision if isinstance(precision, bfp.Preset) else bfp.preset(precision)
    machine = load_sku(sku)
    try:
        return _compile(model, preset, machine, name)
    except UnicodeDecodeError as error:  # protobuf decodes names when they are read
        raise UnsupportedModel(f"the model has names that are not UTF-8: {error}") from error


def _compile(model: Any, preset: bfp.Preset, machine: Sku, name: str | None) -> Compiled:
    graph = load(model)
    verdicts = judge(graph)
    region = choose(graph, verdicts)
    layers = lower(graph, verdicts, region)
    shape = picture_shape(graph, region.input, region.input_layout)
    program = assemble(name or model.graph.name or "model", shape, layers, preset, machine)
    host = split(graph, region, program)
    inside = set(region.nodes)
    reasons = {
        label(node): verdict.reason or "outside of the largest part with one input and one output"
        for index, (node, verdict) in enumerate(zip(graph.nodes, verdicts, strict=True))
        if index not in inside
    }
    return Compiled(
        pre=host.pre,
        program=program,
        post=host.post,
        composed=host.composed,
        device_input=host.device_input,
        device_output=host.device_output,
        offloaded_ops=sum(verdicts[i].role is Role.WORK for i in inside),
        host_ops=host.nodes,
        host_reasons=reasons,
        tensors=tuple(layer.tensor for layer in layers),
    )
