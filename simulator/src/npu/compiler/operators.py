"""Which nodes the device can run, and for each that it cannot, the sentence that says why."""

import math

from npu.chain import MAX_NUMBERS, MAX_SIDE
from npu.compiler import pointwise, windowed
from npu.compiler.geometry import NCHW_OPERATORS, Layout, WindowError, layouts
from npu.compiler.graph import Graph
from npu.compiler.verdicts import Candidate, Role, Rule, Verdict, on_host, real_readers

__all__ = ["judge"]

FLOAT = 1  # onnx.TensorProto.FLOAT
READ_ZEROS = ("Conv", "MaxPool", "AveragePool")  # a Pad in front of these becomes their padding

RULES: dict[str, Rule] = {
    "Add": pointwise.affine,
    "AveragePool": windowed.average_pool,
    "BatchNormalization": pointwise.batch_norm,
    "Cast": pointwise.cast,
    "Clip": pointwise.clip,
    "Concat": pointwise.concat,
    "Conv": windowed.conv,
    "Div": pointwise.affine,
    "Dropout": pointwise.dropout,
    "Identity": pointwise.identity,
    "MaxPool": windowed.max_pool,
    "Mul": pointwise.affine,
    "Pad": windowed.pad,
    "Relu": pointwise.relu,
    "Reshape": pointwise.reshape,
    "Sub": pointwise.affine,
    "Sum": pointwise.affine,
    "Transpose": pointwise.transpose,
}

_NO_SUCH = {
    "whole pictures are averaged on the host, in float32": "GlobalAveragePool ReduceMean",
    "whole pictures are reduced on the host": "GlobalMaxPool GlobalLpPool ReduceMax ReduceMin ReduceSum",
    "fully connected layers are computed on the host": "Gemm MatMul",
    "the device's only activation is Relu": (
        "Celu Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Selu Sigmoid Softplus Softsign Swish Tanh "
        "ThresholdedRelu"
    ),
    "it makes something else than a picture": "Flatten Squeeze Unsqueeze Shape Gather",
    "probabilities are computed on the host": "LogSoftmax Softmax",
    "the device normalises with constants only": (
        "GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization MeanVarianceNormalization "
        "ReduceL1 ReduceL2 ReduceSumSquare RMSNormalization"
    ),
    "the device has no transposed convolution": "ConvTranspose",
    "the device does not enlarge pictures": "Resize Upsample DepthToSpace",
    "the device does not take tensors apart": "Slice Split SpaceToDepth",
}
NO_SUCH = {operator: reason for reason, operators in _NO_SUCH.items() for operator in operators.split()}


def judge(graph: Graph) -> list[Verdict]:
    """One verdict per node. Nodes are judged in order, so a rule may look at what made its input."""
    known = layouts(graph)
    verdicts: list[Verdict] = []
    for index in range(len(graph.nodes)):
        verdicts.append(_judge(graph, index, known, verdicts))
    for index, node in enumerate(graph.nodes):
        if node.op_type == "Pad" and verdicts[index].role is Role.VIEW:
            verdicts[index] = _judge_zeros(graph, index, known, verdicts)
    return verdicts


def _judge(graph: Graph, index: int, known: dict[str, Layout], verdicts: list[Verdict]) -> Verdict:
    node = graph.nodes[index]
    if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
        standard = node.domain in ("", "ai.onnx")
        return on_host(
            NO_SUCH.get(node.op_type, "the device has no such operator")
            if standard
            else f"the device has no operator of the domain {node.domain!r}"
        )
    if not graph.inputs_of(index):
        return on_host("its inputs are constants")
    names = [name for name in node.output if name]
    if len(names) != 1 and (
        node.op_type not in ("Dropout", "MaxPool") or any(graph.is_read(name) for name in names[1:])
    ):
        return on_host("it has more than one output")
    for name in [*graph.inputs_of(index), node.output[0]]:
        reason = _no_picture(graph, name, known)
        if reason is not None and node.op_type == "Reshape":
            reason = NO_SUCH["Flatten"]
        if reason is not None:
            return on_host(reason)
    if node.op_type in NCHW_OPERATORS and Layout.NHWC in (known[node.input[0]], known[node.output[0]]):
        return on_host("it reads as channels what other operators read as width")
    try:
        return RULES[node.op_type](Candidate(graph, index, known, verdicts))
    except WindowError as error:
        return on_host(str(error))


def _no_picture(graph: Graph, name: str, known: dict[str, Layout]) -> str | None:
    shape = graph.shapes.get(name, ())
    if name in graph.shapes and len(shape) != 4:
        return "it works on something else than pictures"
    if len(shape) != 4 or None in shape[1:]:
        return "height, width or channels of its pictures are not known; export the model with fixed ones"
    lengths = [length or 0 for length in shape[1:]]
    if max(lengths) > MAX_SIDE or math.prod(lengths) > MAX_NUMBERS:
        return "its pictures are larger than any device"
    info = graph.infos.get(name)
    if info is not None and info.type.tensor_type.elem_type not in (0, FLOAT):
        return "its numbers are not float32"
    if name not in known:
        return "which axis holds its channels is not known"
    return None


def _judge_zeros(graph: Graph, index: int, known: dict[str, Layout], verdicts: list[Verdict]) -> Verdict:
    """A Pad vanishes if every window on the device that reads its zeros can have them as padding."""
    readers = real_readers(graph, verdicts, graph.nodes[index].output[0])
    if (
        not readers
        or any(graph.nodes[r].op_type not in READ_ZEROS for r in readers if r >= 0)
        or -1 in readers
    ):
        return on_host("its zeros are needed by an operator without a window")
    for reader in readers:
        if verdicts[reader].role is Role.WORK:
            fits = windowed.fits_behind(graph, index, reader, known)
            if fits.role is Role.HOST:
                return fits
    return verdicts[index]
