"""From ONNX to a program for the device and graphs for the host around it.

The order of work: `graph` reads and folds, `operators` judges each node, `partition` chooses the region,
`lowering` makes layers of it, `assemble` makes the program, `split` makes the host's graphs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from npu import bfp
from npu.compiler.account import OnHost, count
from npu.compiler.assemble import assemble
from npu.compiler.geometry import picture_shape
from npu.compiler.graph import label, load
from npu.compiler.lowering import lower
from npu.compiler.operators import judge
from npu.compiler.options import Options, options
from npu.compiler.partition import choose
from npu.compiler.split import split
from npu.compiler.verdicts import Role
from npu.errors import UnsupportedModel
from npu.program import Program
from npu.sku import DEFAULT_SKU, Sku, load_sku

__all__ = ["Compiled", "OnHost", "compile_model"]


@dataclass(frozen=True)
class Compiled:
    """A model cut in three. Data flow: model inputs -> `pre` -> program, picture by picture -> `post` ->
    outputs.

    `pre` also gives the tensors that `post` reads beside the device's output; a model input that `post` reads
    is fed to it directly. Several outputs of the device come as one tensor, which `post` cuts up. `composed` is
    for interchange: ONNX Runtime has no such operator.
    """

    pre: Any  # onnx.ModelProto or None
    program: Program
    post: Any  # onnx.ModelProto or None
    compose: Callable[[], Any]
    device_input: str
    device_output: str
    offloaded_ops: int
    host_ops: int
    host_reasons: dict[str, str]  # operator and name -> why it stays on the host
    tensors: tuple[str, ...] = ()  # per chain: the model's tensor that it makes, empty where there is none
    host_counts: tuple[OnHost, ...] = ()  # the same by operator and reason, the most frequent first

    @cached_property
    def composed(self) -> Any:
        """The whole as one onnx.ModelProto; made when it is asked for, because it holds everything once more."""
        return self.compose()


def compile_model(
    model: Any,
    *,
    precision: str | bfp.Preset = bfp.DEFAULT,
    sku: str = DEFAULT_SKU,
    name: str | None = None,
    accumulation: str = "auto",
    rounding: str = "nearest-even",
) -> Compiled:
    """Compile an `onnx.ModelProto` (float32, NCHW, or with a converter's transposes; any batch).

    A `precision` that is no official preset may be given as a `bfp.Preset` to study formats: the oracle runs such a
    program, and no device takes it. `accumulation` is `auto` (with float16 taps in a line-buffered front block),
    `fp32-seq` or `wide`; `rounding` is `nearest-even` or `truncate`. Raises a CompileError: NothingToOffload,
    UnsupportedModel, or what does not fit; SkuError for the SKU.
    """
    chosen, machine = options(precision, accumulation, rounding), load_sku(sku)
    try:
        return _compile(model, chosen, machine, name)
    except UnicodeDecodeError as error:  # protobuf decodes names when they are read
        raise UnsupportedModel(f"the model has names that are not UTF-8: {error}") from error


def _compile(model: Any, chosen: Options, machine: Sku, name: str | None) -> Compiled:
    graph = load(model)
    verdicts = judge(graph)
    region = choose(graph, verdicts)
    layers, outputs = lower(graph, verdicts, region)
    shape = picture_shape(graph, region.input, region.input_layout)
    program = assemble(name or model.graph.name or "model", shape, layers, chosen, machine, outputs)
    host = split(graph, region, program)
    inside = set(region.nodes)
    stays = [
        (node, region.why_outside(index, verdict))
        for index, (node, verdict) in enumerate(zip(graph.nodes, verdicts, strict=True))
        if index not in inside
    ]
    return Compiled(
        pre=host.pre,
        program=program,
        post=host.post,
        compose=host.compose,
        device_input=host.device_input,
        device_output=host.device_output,
        offloaded_ops=sum(verdicts[i].role is Role.WORK for i in inside),
        host_ops=host.nodes,
        host_reasons={label(node): reason for node, reason in stays},
        tensors=tuple(layer.tensor for layer in layers),
        host_counts=count((node.op_type, node.name, reason) for node, reason in stays),
    )
