"""The host's graphs around the device: what runs before, what runs after, and the whole with one BrainSlice
node.

The device takes and gives NHWC; where the graph has NCHW at the border, the transpose goes into the host's
graph. Several outputs leave the device in one queue, which the host's second graph cuts up again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npu.compiler.geometry import TO_NCHW, TO_NHWC, Layout, picture_shape
from npu.compiler.graph import Graph, reads
from npu.compiler.partition import Region
from npu.errors import UnsupportedModel
from npu.program import Program

__all__ = ["Host", "split"]

LEAST_IR = 4  # from here on constants need not be listed as inputs


@dataclass(frozen=True)
class Host:
    """ONNX models; `pre` or `post` is None where the device's tensor is the model's own input or output."""

    pre: Any
    post: Any
    compose: Callable[[], Any]  # makes the model for interchange, which holds all constants once more
    device_input: str
    device_output: str
    nodes: int


def split(graph: Graph, region: Region, program: Program) -> Host:
    """Cut the graph at the region's border. Views inside the region that the host needs too are on both sides."""
    device_input, enter = _enter(graph, region.input, region.input_layout)
    device_output, leave = _leave(graph, region)
    before = _ancestors(graph, [region.input], ())
    outputs = [value.name for value in graph.outputs]
    needed = _ancestors(graph, outputs, region.outputs) - before
    pre_nodes = [graph.nodes[i] for i in sorted(before)] + enter
    post_nodes = leave + [graph.nodes[i] for i in sorted(needed)]

    made_before = {name for i in before for name in graph.nodes[i].output}
    read_after = {name for i in needed for name in graph.inputs_of(i)}
    passed = sorted((read_after | set(outputs)) & made_before - {device_input})
    model_inputs = [value.name for value in graph.inputs]
    made_after = {name for node in post_nodes for name in node.output}
    pre = post = None
    if pre_nodes:
        # A model input that the pre-graph does not read is fed to the post-graph directly.
        read = {name for i in before for name in graph.inputs_of(i)} | {
            name for n in enter for name in n.input
        }
        pre = _model(
            graph, "host_pre", pre_nodes, [n for n in model_inputs if n in read], [device_input, *passed]
        )
    if post_nodes:
        extra = sorted(name for name in read_after if name in made_before or name in model_inputs)
        inputs = [device_output, *(name for name in extra if name != device_output)]
        post = _model(
            graph, "host_post", post_nodes, inputs, [name for name in outputs if name in made_after]
        )

    def compose() -> Any:
        node = _brain_slice(program, device_input, device_output)
        return _model(graph, "composed", [*pre_nodes, node, *post_nodes], model_inputs, outputs)

    return Host(pre, post, compose, device_input, device_output, len(before) + len(needed))


def _enter(graph: Graph, tensor: str, layout: Layout) -> tuple[str, list[Any]]:
    """The device's input, and the transpose that the host needs in front of it."""
    if layout is Layout.NHWC:
        return tensor, []
    name = _nhwc(graph, tensor)
    return name, [_transpose(tensor, name, TO_NHWC)]


def _leave(graph: Graph, region: Region) -> tuple[str, list[Any]]:
    """The device's output, and what the host needs behind it to have the region's outputs."""
    if len(region.outputs) == 1:
        (tensor,) = region.outputs
        if region.output_layouts[0] is Layout.NHWC:
            return tensor, []
        name = _nhwc(graph, tensor)
        return name, [_transpose(name, tensor, TO_NCHW)]
    queue = _free(graph, "device_output")
    nodes, start = [], 0
    for tensor, layout in zip(region.outputs, region.output_layouts, strict=True):
        height, width, channels = picture_shape(graph, tensor, layout)
        end = start + height * width * channels
        nodes += _taken_out(graph, queue, (start, end), tensor, (height, width, channels), layout)
        start = end
    batch = _dims(graph, region.outputs[0])[0]
    info = helper.make_tensor_value_info(queue, onnx.TensorProto.FLOAT, [None, 1, 1, start])
    info.type.tensor_type.shape.dim[0].CopyFrom(batch)
    graph.infos[queue] = info
    return queue, nodes


def _taken_out(
    graph: Graph, queue: str, part: tuple[int, int], tensor: str, shape: tuple[int, int, int], layout: Layout
) -> list[Any]:
    """Slice, Reshape and, if need be, Transpose of one tensor in the queue."""
    flat = _free(graph, f"{tensor}_flat")
    picture = tensor if layout is Layout.NHWC else _free(graph, f"{tensor}_nhwc")
    if _opset(graph) < 10:
        given = {"starts": [part[0]], "ends": [part[1]], "axes": [3]}
        cut = helper.make_node("Slice", [queue], [flat], name=flat, **given)
    else:
        limits = [_constant(graph, f"{flat}_{key}", [n]) for key, n in (("start", part[0]), ("end", part[1]))]
        axes = _constant(graph, f"{flat}_axis", [3])
        cut = helper.make_node("Slice", [queue, *limits, axes], [flat], name=flat)
    wanted = _constant(graph, f"{flat}_shape", [0, *shape])  # 0: the batch as it is
    nodes = [cut, helper.make_node("Reshape", [flat, wanted], [picture], name=f"{tensor}_picture")]
    return nodes if picture == tensor else [*nodes, _transpose(picture, tensor, TO_NCHW)]


def _nhwc(graph: Graph, tensor: str) -> str:
    """The name of the tensor in the device's layout, made known with its shape."""
    name = _free(graph, f"{tensor}_nhwc")
    dims = _dims(graph, tensor)
    info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4)
    for at, axis in enumerate(TO_NHWC):
        info.type.tensor_type.shape.dim[at].CopyFrom(dims[axis])
    graph.infos[name] = info
    return name


def _dims(graph: Graph, tensor: str) -> Any:
    return graph.infos[tensor].type.tensor_type.shape.dim


def _free(graph: Graph, name: str) -> str:
    """The name, with underscores behind it until nothing else is called that."""
    while name in graph.producer or name in graph.constants or name in graph.infos:
        name += "_"
    return name


def _constant(graph: Graph, name: str, numbers: list[int]) -> str:
    name = _free(graph, name)
    graph.constants[name] = numpy_helper.from_array(np.array(numbers, np.int64), name)
    return name


def _transpose(source: str, target: str, perm: list[int]) -> Any:
    return helper.make_node("Transpose", [source], [target], name=f"{target}_transpose", perm=perm)


def _opset(graph: Graph) -> int:
    return max((o.version for o in graph.model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _ancestors(graph: Graph, tensors: Iterable[str], given: Iterable[str]) -> set[int]:
    """The nodes that make these tensors when the given ones are there already."""
    found: set[int] = set()
    there = set(given)
    todo = [name for name in tensors if name not in there]
    while todo:
        index = graph.producer.get(todo.pop())
        if index is not None and index not in found:
            found.add(index)
            todo += [name for name in graph.inputs_of(index) if name not in there]
    return found


def _brain_slice(program: Program, source: str, target: str) -> Any:
    """The node of the original tool flow (ONNX Runtime's BrainSlice provider) around our program."""
    return helper.make_node(
        "BrainSlice",
        [source],
        [target],
        name="device",
        domain="com.microsoft",
        firmware_data=program.to_bytes(),
        firmware_instructions=b"",
        firmware_schema=b"npu-program/2",
        output_interleaved=0,
    )


def _model(graph: Graph, name: str, nodes: list[Any], inputs: list[str], outputs: list[str]) -> Any:
    """A model of these nodes with the constants that they read, in the order in which they read them."""
    read = [name for node in nodes for name in reads(node)]
    constants = [graph.constants[n] for n in dict.fromkeys(read) if n in graph.constants]
    # Field by field: the helpers of onnx would copy all constants twice.
    model = onnx.ModelProto(
        ir_version=max(graph.model.ir_version, LEAST_IR),
        producer_name="npu",
        opset_import=graph.model.opset_import,
        functions=graph.model.functions,
    )
    if any(node.domain == "com.microsoft" for node in nodes) and all(
        opset.domain != "com.microsoft" for opset in model.opset_import
    ):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made = model.graph
    made.name = name
    made.node.extend(nodes)
    made.input.extend(_info(graph, n) for n in inputs)
    made.output.extend(_info(graph, n) for n in outputs)
    made.initializer.extend(constants)
    return model


def _info(graph: Graph, name: str) -> Any:
    info = graph.infos.get(name)
    if info is None or not info.HasField("type"):
        raise UnsupportedModel(
            f"the type of the tensor {name!r}, which passes by the device, cannot be inferred; name it in the "
            "graph's value_info, or replace the operator that makes it"
        )
    return info
