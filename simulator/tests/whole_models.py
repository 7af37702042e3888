"""Running whole models: as float32, and in the three parts that the compiler makes."""

import numpy as np
import onnx
import onnxruntime as ort
from npu import oracle
from npu.program import Program
from onnxruntime.capi import onnxruntime_pybind11_state as state

REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.NotImplemented,
    state.RuntimeException,
)
OPTIONS = ort.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 4


def infer(model, feeds):
    """Every output of the model, by name."""
    session = ort.InferenceSession(model.SerializeToString(), OPTIONS)
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, wanted), strict=True))


def through_device(compiled, feeds):
    """Run the parts as the model server does; every tensor that they make, by name."""
    tensors = dict(feeds)
    if compiled.pre is not None:
        tensors |= infer(compiled.pre, tensors)
    pictures = tensors[compiled.device_input]
    results = [oracle.run(compiled.program, picture) for picture in pictures]
    tensors[compiled.device_output] = np.stack(results)
    if compiled.post is not None:
        tensors |= infer(compiled.post, tensors)
    return tensors


def draw(model, batch=2, seed=1):
    """A batch of pictures for the model's inputs."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in constants
    }
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def relative_errors(model, compiled, feeds=None):
    """Per output of the model: the distance between float32 and the three parts, as a share of float32's length."""
    feeds = draw(model) if feeds is None else feeds
    expected, found = infer(model, feeds), through_device(compiled, feeds)
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape, name
    return {
        name: float(np.linalg.norm(found[name] - tensor) / np.linalg.norm(tensor))
        for name, tensor in expected.items()
    }


def check_parts(compiled):
    """Every part is valid ONNX, and the whole has one device node with one input and one output."""
    for part in (compiled.pre, compiled.post):
        if part is not None:
            onnx.checker.check_model(part, full_check=True)
    onnx.checker.check_model(compiled.composed)
    (node,) = [node for node in compiled.composed.graph.node if node.domain == "com.microsoft"]
    assert (node.op_type, len(node.input), len(node.output)) == ("BrainSlice", 1, 1)
    data = next(a.s for a in node.attribute if a.name == "firmware_data")
    assert data == compiled.program.to_bytes()
    assert Program.from_bytes(data).to_bytes() == data


def chains_of(compiled):
    """Kind and float16 stage of each chain."""
    return [
        (chain.kind.name, (chain.stage.name or "NONE").replace("|", "+").lower())
        for chain in compiled.program.chains
    ]
