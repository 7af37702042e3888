"""Damage to ONNX models: to their bytes, and to what the bytes say."""

import numpy as np
import onnx
from onnx import helper

HOSTILE = (
    0,
    1,
    -1,
    2,
    3,
    5,
    7,
    64,
    65,
    127,
    128,
    65_535,
    65_536,
    1 << 20,
    2**31 - 1,
    -(2**31),
    1 << 40,
    2**63 - 1,
)
NUMBERS = (0.0, -0.0, 1e30, -1e-30, np.nan, np.inf, -np.inf)
OPERATORS = (
    *(
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Sum",
        "Concat",
        "Conv",
        "MaxPool",
        "AveragePool",
        "Relu",
        "Clip",
        "LeakyRelu",
    ),
    *(
        "Identity",
        "Dropout",
        "Cast",
        "Reshape",
        "Flatten",
        "Pad",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Softmax",
    ),
    *("GlobalAveragePool", "ReduceMean", "BatchNormalization", "Gemm", "MatMul", "Resize", "Slice", "Split"),
    *(
        "ConvTranspose",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "If",
        "Loop",
        "Scan",
        "Nonsense",
    ),
)
ATTRIBUTES = (
    *(
        "strides",
        "dilations",
        "pads",
        "kernel_shape",
        "group",
        "ceil_mode",
        "auto_pad",
        "axis",
        "perm",
        "epsilon",
    ),
    *("count_include_pad", "training_mode", "storage_order", "axes", "to", "mode"),
)
VALUES = (
    *([2, 2], [1, 2], [0, 0, 1, 1], [1, 1, 1, 1], [7, 7], [0, 2, 3, 1], [0, 0, 0, 0, 0, 0, 1, 1]),
    *(1, 2, 0.5, b"VALID", b"SAME_LOWER", b"odd"),
    *([number] * count for number in HOSTILE for count in (2, 4)),
)


def bytes_of(data, rng):
    """A few bytes of a file changed, cut out, or put in twice."""
    changed = bytearray(data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 5))):
        match int(rng.integers(6)):
            case 0:
                del changed[at : at + int(rng.integers(1, 20))]
            case 1:
                changed[at:at] = changed[at : at + int(rng.integers(1, 20))]
            case _ if at < len(changed):
                changed[at] = int(rng.integers(256))
    return bytes(changed)


def structure_of(model, rng, changes=None):
    """A copy with one to three places (or so many) that say something else."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(changes or int(rng.integers(1, 4))):
        choose(rng, CHANGES)(changed.graph, changed, rng)
    return changed


def choose(rng, options):
    return options[int(rng.integers(len(options)))] if len(options) else None


def tensors(graph):
    return [
        *(value.name for value in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(name for node in graph.node for name in node.output),
        "nobody",
        "",
    ]


def attribute(graph, model, rng):
    node = choose(rng, [node for node in graph.node if node.attribute])
    if node is None:
        return
    given = choose(rng, node.attribute)
    match int(rng.integers(5)):
        case 0:
            node.attribute.remove(given)
        case 1:
            given.ints.append(choose(rng, HOSTILE))
        case 2 if given.ints:
            del given.ints[-1]
        case 3:
            given.type = int(rng.integers(0, 15))
        case _ if given.ints:
            given.ints[int(rng.integers(len(given.ints)))] = choose(rng, HOSTILE)
        case _:
            given.i, given.f, given.s = choose(rng, HOSTILE), choose(rng, NUMBERS), b"SAME_UPPER"


def more_attributes(graph, model, rng):
    name, value = choose(rng, ATTRIBUTES), choose(rng, VALUES)
    node = choose(rng, graph.node)
    if node is None:
        return
    for given in [given for given in node.attribute if given.name == name]:
        node.attribute.remove(given)
    node.attribute.append(helper.make_attribute(name, value))


def wire(graph, model, rng):
    node = choose(rng, [node for node in graph.node if node.input])
    if node is not None:
        node.input[int(rng.integers(len(node.input)))] = choose(rng, tensors(graph))


def operands(graph, model, rng):
    node = choose(rng, graph.node)
    if node is None:
        return
    if rng.random() < 0.5:
        node.input.append(choose(rng, tensors(graph)))
    elif node.input:
        del node.input[-1]


def result(graph, model, rng):
    node = choose(rng, [node for node in graph.node if node.output])
    if node is not None:
        node.output[0] = choose(rng, tensors(graph))


def operator(graph, model, rng):
    node = choose(rng, graph.node)
    if node is not None:
        node.op_type = choose(rng, OPERATORS)
        node.domain = choose(rng, ("", "", "", "", "ai.onnx", "com.microsoft", "x"))


def order(graph, model, rng):
    nodes = list(graph.node)
    one, other = (int(rng.integers(len(nodes))) for _ in range(2)) if nodes else (0, 0)
    match int(rng.integers(3)):
        case 0:
            nodes[one:one] = nodes[other : other + 1]
        case 1:
            del nodes[one : one + 1]
        case _ if nodes:
            nodes[one], nodes[other] = nodes[other], nodes[one]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def constant(graph, model, rng):
    tensor = choose(rng, graph.initializer)
    if tensor is None:
        return
    match int(rng.integers(6)):
        case 0 if tensor.dims:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = choose(rng, HOSTILE)
        case 1:
            tensor.data_type = int(rng.integers(0, 25))
        case 2:
            tensor.raw_data = tensor.raw_data[: int(rng.integers(1 + len(tensor.raw_data)))]
        case 3:
            tensor.dims.append(1)
        case 4:
            tensor.dims[:] = tensor.dims[::-1]
        case _ if tensor.data_type in (1, 7):
            kind = {1: np.float32, 7: np.int64}[tensor.data_type]
            numbers = (
                np.frombuffer(tensor.raw_data, kind).copy()
                if len(tensor.raw_data) % 8 == 0
                else np.zeros(0, kind)
            )
            if numbers.size:
                numbers[int(rng.integers(numbers.size))] = choose(
                    rng, NUMBERS if kind is np.float32 else HOSTILE
                )
                tensor.raw_data = numbers.tobytes()


def edge(graph, model, rng):
    value = choose(rng, [*graph.input, *graph.output])
    if value is None:
        return
    shape = value.type.tensor_type.shape
    match int(rng.integers(5)):
        case 0 if shape.dim:
            choose(rng, shape.dim).dim_value = choose(rng, HOSTILE)
        case 1 if shape.dim:
            choose(rng, shape.dim).dim_param = "side"
        case 2:
            shape.dim.add(dim_value=choose(rng, HOSTILE))
        case 3:
            value.type.tensor_type.elem_type = int(rng.integers(0, 25))
        case _:
            value.name = choose(rng, tensors(graph))


def outputs(graph, model, rng):
    if rng.random() < 0.2 and graph.output:
        del graph.output[-1]
    else:
        graph.output.add(name=choose(rng, tensors(graph)))
        if rng.random() < 0.8:
            graph.output[-1].type.tensor_type.elem_type = 1


def versions(graph, model, rng):
    if rng.random() < 0.5 or not model.opset_import:
        model.ir_version = choose(rng, (0, 1, 3, 4, 7, 10, 12, 99))
    else:
        model.opset_import[0].version = choose(rng, (0, 1, 6, 7, 9, 11, 13, 18, 19, 22, 25, 1000))


CHANGES = (
    attribute, attribute, attribute, more_attributes, more_attributes, wire, wire, operands, result, operator, operator,
    order, constant, constant, edge, outputs, outputs, versions,
)  # fmt: skip
