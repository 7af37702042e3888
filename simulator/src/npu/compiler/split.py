"""The host's graphs around the device: what runs before, what runs after, and the whole with one BrainSlice
node.

The device takes and gives NHWC; where the graph has NCHW at the border, the transpose goes into the host's
graph.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from npu.compiler.geometry import TO_NCHW, TO_NHWC, Layout
from npu.compiler.graph import Graph, reads
from npu.compiler.partition import Region
from npu.program import Program

__all__ = ["Host", "split"]


@dataclass(frozen=True)
class Host:
    """ONNX models; `pre` or `post` is None where the device's tensor is the model's own input or output."""

    pre: Any
    post: Any
    composed: Any
    device_input: str
    device_output: str
    nodes: int


def split(graph: Graph, region: Region, program: Program) -> Host:
    """Cut the graph at the region's border. Nodes that no output needs are dropped."""
    device_input, enter = _border(graph, region.input, region.input_layout, entering=True)
    device_output, leave = _border(graph, region.output, region.output_layout, entering=False)
    inside = set(region.nodes)
    before = _ancestors(graph, [region.input])
    outputs = [value.name for value in graph.outputs]
    needed = _ancestors(graph, outputs) - inside - before
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
    node = _brain_slice(program, device_input, device_output)
    composed = _model(graph, "composed", [*pre_nodes, node, *post_nodes], model_inputs, outputs)
    return Host(pre, post, composed, device_input, device_output, len(before) + len(needed))


def _border(graph: Graph, tensor: str, layout: Layout, *, entering: bool) -> tuple[str, list[Any]]:
    """The device's name for a border tensor, and the transpose that the host needs beside it."""
    if layout is Layout.NHWC:
        return tensor, []
    name = f"{tensor}_nhwc"
    taken = set(graph.producer) | set(graph.constants) | {value.name for value in graph.inputs}
    while name in taken:
        name += "_"
    shape = graph.infos[tensor].type.tensor_type.shape
    dims = [shape.dim[axis] for axis in TO_NHWC]
    info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4)
    for at, dim in enumerate(dims):
        info.type.tensor_type.shape.dim[at].CopyFrom(dim)
    graph.infos[name] = info
    ends, perm = ((tensor, name), TO_NHWC) if entering else ((name, tensor), TO_NCHW)
    return name, [helper.make_node("Transpose", [ends[0]], [ends[1]], name=f"{name}_transpose", perm=perm)]


def _ancestors(graph: Graph, tensors: Iterable[str]) -> set[int]:
    found: set[int] = set()
    todo = list(tensors)
    while todo:
        index = graph.producer.get(todo.pop())
        if index is not None and index not in found:
            found.add(index)
            todo += graph.inputs_of(index)
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
        firmware_schema=b"npu-program/1",
        output_interleaved=0,
    )


def _model(graph: Graph, name: str, nodes: list[Any], inputs: list[str], outputs: list[str]) -> Any:
    """A model of these nodes with the constants that they read, in the order in which they read them."""
    read = [name for node in nodes for name in reads(node)]
    constants = [graph.constants[n] for n in dict.fromkeys(read) if n in graph.constants]
    made = helper.make_graph(
        nodes,
        name,
        [graph.infos[n] for n in inputs],
        [graph.infos[n] for n in outputs],
        initializer=constants,
    )
    opsets = list(graph.model.opset_import)
    if any(node.domain == "com.microsoft" for node in nodes) and all(
        o.domain != "com.microsoft" for o in opsets
    ):
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(
        made,
        opset_imports=opsets,
        ir_version=graph.model.ir_version,
        producer_name="npu",
        functions=list(graph.model.functions),
    )
