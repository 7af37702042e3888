"""What goes to the device, what stays on the host, and that the parts together are still the model."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from npu import oracle
from npu.chain import Files, Kind, Stage
from npu.compiler import compile_model
from npu.compiler.assemble import assemble
from npu.compiler.graph import load
from npu.compiler.lowering import lower
from npu.compiler.operators import judge
from npu.compiler.options import options
from npu.compiler.partition import choose
from npu.errors import CompileError, NothingToOffload, SkuError, UnsupportedModel
from npu.sku import load_sku
from whole_models import chains_of, infer, through_device


def plain(n):
    return n.relu(n.conv("x", 8, pads=[1, 1, 1, 1]))


def batch_norm_without_bias(n):
    return n.relu(n.bn(n.conv("x", 8)))


def batch_norm_as_mul_and_add(n):
    x = n.conv("x", 8, bias=np.ones(8))
    x = n.op("Mul", x, n.constant(np.full((1, 8, 1, 1), 2, np.float32)))
    return n.op("Add", x, n.constant(np.full((8, 1, 1), 3, np.float32)))


def residual_with_short_cut(n):
    x = n.relu(n.conv("x", 8))
    deep = n.bn(n.conv(n.relu(n.conv(x, 4, (1, 1))), 16, (1, 1)))
    return n.relu(n.op("Add", n.bn(n.conv(x, 16, (1, 1))), deep))


def residual_around_a_skipping_pool(n):
    x = n.relu(n.conv("x", 8, pads=[1, 1, 1, 1]))
    skip = n.op("MaxPool", x, kernel_shape=[1, 1], strides=[2, 2])
    return n.op("Add", n.conv(x, 8, pads=[1, 1, 1, 1], strides=[2, 2]), skip)


def skipping_pool_alone(n):
    x = n.relu(n.conv("x", 8, pads=[1, 1, 1, 1]))
    return n.conv(n.op("MaxPool", x, kernel_shape=[1, 1], strides=[2, 2]), 4, (1, 1))


def sum_of_pools(n):
    x = n.relu(n.conv("x", 8, pads=[1, 1, 1, 1]))
    return n.relu(n.op("Add", n.pool(x), n.pool(x, 3, 2, pads=[1, 1, 1, 1])))


def zero_padding_before_pool_and_conv(n):
    pads = n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    x = n.pool(n.op("Pad", n.conv("x", 8), pads), 3, 2)
    return n.conv(n.op("Pad", x, pads), 4)


def transposes_between_layers(n):
    x = n.op("Transpose", n.relu(n.conv("x", 8)), perm=[0, 2, 3, 1])
    x = n.op("Add", x, n.constant(np.arange(8, dtype=np.float32)), channels=8)
    x = n.op("Transpose", n.op("Identity", x), perm=[0, 3, 1, 2])
    return n.op("Transpose", n.conv(x, 4), perm=[0, 2, 3, 1])


def batch_norm_after_a_pool(n):
    return n.conv(n.relu(n.bn(n.pool(n.relu(n.conv("x", 8))))), 4, (1, 1))


def auto_pad_and_dilation(n):
    x = n.conv("x", 8, auto_pad="SAME_UPPER", strides=[2, 2])
    return n.conv(x, 4, dilations=[2, 2], pads=[2, 2, 2, 2])


def ceil_mode_after_relu(n):
    return n.pool(n.relu(n.conv("x", 8)), 3, 2, ceil_mode=1)


SBR = "scale+bias+relu"
NETWORKS = {
    # recipe -> chains
    plain: [("EXPAND", "bias+relu")],
    batch_norm_without_bias: [("EXPAND", SBR)],
    batch_norm_as_mul_and_add: [("EXPAND", "scale+bias")],
    residual_with_short_cut: [
        ("EXPAND", "bias+relu"),
        ("CONV", "scale+bias"),  # the short cut runs first and waits
        ("CONV", "bias+relu"),
        ("CONV", "scale+bias+residual+relu"),
    ],
    residual_around_a_skipping_pool: [("EXPAND", "bias+relu"), ("CONV", "bias+residual")],
    skipping_pool_alone: [("EXPAND", "bias+relu"), ("MAX_POOL", "none"), ("CONV", "bias")],
    sum_of_pools: [
        ("EXPAND", "bias+relu"),
        ("MAX_POOL", "none"),
        ("MAX_POOL", "none"),
        ("IDENTITY", "residual+relu"),
    ],
    zero_padding_before_pool_and_conv: [("EXPAND", "bias"), ("MAX_POOL", "none"), ("CONV", "bias")],
    transposes_between_layers: [("EXPAND", "bias+relu"), ("IDENTITY", "bias"), ("CONV", "bias")],
    batch_norm_after_a_pool: [
        ("EXPAND", "bias+relu"),
        ("MAX_POOL", "none"),
        ("IDENTITY", SBR),
        ("CONV", "bias"),
    ],
    auto_pad_and_dilation: [("EXPAND", "bias"), ("CONV", "bias")],
    ceil_mode_after_relu: [("EXPAND", "bias+relu"), ("MAX_POOL", "none")],
}


@pytest.mark.parametrize(("recipe", "chains"), NETWORKS.items(), ids=[r.__name__ for r in NETWORKS])
def test_networks_become_these_chains_and_answer_like_float32(net, recipe, chains):
    n = net(("N", 3, 10, 10))
    model = n.model(recipe(n))
    compiled = compile_model(model)
    assert chains_of(compiled) == chains
    feeds = {"x": np.random.default_rng(1).normal(0, 1, (2, 3, 10, 10)).astype(np.float32)}
    (output,) = [value.name for value in model.graph.output]
    expected, found = infer(model, feeds)[output], through_device(compiled, feeds)[output]
    assert found.shape == expected.shape
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.12, f"relative error {error:.4f}: 0 means float32, much means another network"


def test_the_whole_way_with_host_parts(small_residual):
    compiled = compile_model(small_residual)
    assert (compiled.offloaded_ops, compiled.host_ops) == (11, 3)
    assert compiled.program.input_shape == (12, 12, 3)
    assert compiled.program.output_shape == (6, 6, 16)
    assert [node.op_type for node in compiled.pre.graph.node] == ["Transpose"]
    assert [node.op_type for node in compiled.post.graph.node] == [
        "Transpose",
        "GlobalAveragePool",
        "Flatten",
        "Softmax",
    ]
    feeds = {"x": np.random.default_rng(1).normal(0, 1, (3, 3, 12, 12)).astype(np.float32)}
    output = small_residual.graph.output[0].name
    expected = infer(small_residual, feeds)[output]
    np.testing.assert_allclose(through_device(compiled, feeds)[output], expected, atol=0.02)
    for part in (compiled.pre, compiled.post):
        assert len(part.graph.initializer) == 0  # only what a host graph reads travels with it
        onnx.checker.check_model(part, full_check=True)
    (node,) = [node for node in compiled.composed.graph.node if node.domain == "com.microsoft"]
    assert node.op_type == "BrainSlice"
    firmware = next(a.s for a in node.attribute if a.name == "firmware_data")
    assert firmware == compiled.program.to_bytes()


def test_an_nhwc_model_needs_no_host_graph_at_all(net):
    n = net(("N", 8, 8, 3))
    n.channels["x"] = 3
    x = n.op("Transpose", "x", perm=[0, 3, 1, 2], channels=3)
    x = n.op("Transpose", n.relu(n.conv(x, 4)), perm=[0, 2, 3, 1])
    compiled = compile_model(n.model(x))
    assert (compiled.pre, compiled.post) == (None, None)
    assert (compiled.device_input, compiled.device_output) == ("x", x)


def test_tensors_pass_by_the_device(net):
    """The post-graph may read what the pre-graph makes, and the model's input itself."""
    n = net(("N", 3, 8, 8))
    scaled = n.op("Mul", "x", n.constant(np.float32(0.5)))
    y = n.op("GlobalAveragePool", n.relu(n.conv(scaled, 3)))
    mean = n.op("GlobalAveragePool", n.op("Sub", scaled, "x"))
    both = n.op("Concat", y, mean, axis=1)
    compiled = compile_model(n.model(both, mean))
    assert [value.name for value in compiled.pre.graph.output] == [compiled.device_input, scaled]
    assert {value.name for value in compiled.post.graph.input} == {compiled.device_output, scaled, "x"}
    feeds = {"x": np.random.default_rng(2).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)}
    found, expected = through_device(compiled, feeds), infer(n.model(both, mean), feeds)
    np.testing.assert_allclose(found[both], expected[both], atol=0.05)
    np.testing.assert_array_equal(found[mean], expected[mean])


def grouped(n):
    return n.conv("x", 3, weights=np.ones((3, 1, 3, 3)), group=3)


def weights_computed(n):
    return n.op("Conv", "x", n.op("Shape", "x"), channels=4)


def negative_into_padded_pool(n):
    return n.pool(n.op("Sub", "x", "x"), 3, 2, pads=[1, 1, 1, 1])


def nothing_but_activation(n):
    return n.op("Sigmoid", n.relu("x"))


ON_THE_HOST = {
    grouped: ("Conv 'conv0'", "depthwise convolutions do not map to the matrix unit"),
    negative_into_padded_pool: ("MaxPool 'maxpool1'", "the device pads pools with zeros"),
    nothing_but_activation: ("Sigmoid 'sigmoid1'", "the device's only activation is Relu"),
}


@pytest.mark.parametrize(("recipe", "expected"), ON_THE_HOST.items(), ids=[r.__name__ for r in ON_THE_HOST])
def test_nothing_to_offload_says_why_for_each_operator(net, recipe, expected):
    n = net(("N", 3, 8, 8))
    with pytest.raises(NothingToOffload, match=expected[1]) as caught:
        compile_model(n.model(recipe(n)))
    assert expected[1] in caught.value.reasons[expected[0]]


def test_the_largest_part_wins_and_the_rest_stays_with_a_reason(net):
    n = net(("N", 3, 16, 16))
    small = n.op("Sigmoid", n.conv("x", 8))
    large = n.relu(n.conv(n.conv(small, 32), 32))
    compiled = compile_model(n.model(n.op("Sigmoid", large)))
    assert [chain.kind for chain in compiled.program.chains] == [Kind.CONV, Kind.CONV]
    assert compiled.host_reasons["Conv 'conv0'"].startswith("outside of the largest part")
    assert compiled.host_reasons["Sigmoid 'sigmoid1'"] == "the device's only activation is Relu"


def unsorted_model(n):
    model = n.model(n.relu(n.conv("x", 4)))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    return model


def external_model(n):
    model = n.model(n.conv("x", 4))
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    return model


REFUSED = {
    "no nodes": (lambda n: onnx.ModelProto(), UnsupportedModel, "no nodes"),
    "not ONNX": (lambda n: "model.onnx", UnsupportedModel, "ONNX ModelProto"),
    "unsorted": (unsorted_model, UnsupportedModel, "sort the graph"),
    "weights in another file": (external_model, UnsupportedModel, "one file"),
    "weights not finite": (
        lambda n: n.model(n.conv("x", 4, weights=np.full((4, 3, 3, 3), np.nan))),
        CompileError,
        "layer 'conv0' has numbers in its weights that are not finite",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_models_that_cannot_be_compiled(net, make, error, message):
    with pytest.raises(error, match=message):
        compile_model(make(net(("N", 3, 8, 8))))


def test_options_that_do_not_exist(small_residual):
    with pytest.raises(CompileError, match="msfp-a10"):
        compile_model(small_residual, precision="float8")
    with pytest.raises(SkuError, match="bw-cnn-a10"):
        compile_model(small_residual, sku="bw-a11")


def test_weights_behind_transposes_are_folded(net):
    n = net(("N", 3, 8, 8))
    weights = n.constant(np.random.default_rng(0).normal(0, 1, (3, 3, 3, 4)).astype(np.float32))
    turned = n.op("Transpose", weights, perm=[3, 2, 0, 1])
    compiled = compile_model(n.model(n.op("Conv", "x", turned, channels=4)))
    assert [chain.kind for chain in compiled.program.chains] == [Kind.EXPAND]


def test_scale_and_bias_are_composed_in_float64_and_rounded_to_float16(net):
    n = net(("N", 3, 4, 4))
    x = n.conv("x", 1, (1, 1), weights=np.ones((1, 3, 1, 1)), bias=[0.3])
    gamma, beta, mean, variance = 0.7, 0.11, 0.05, 2.5
    names = [n.constant(np.array([v], np.float32)) for v in (gamma, beta, mean, variance)]
    program = compile_model(n.model(n.op("BatchNormalization", x, *names, epsilon=1e-3))).program
    g, b, m, v, c = (float(np.float32(value)) for value in (gamma, beta, mean, variance, 0.3))
    scale = g / np.sqrt(v + float(np.float32(1e-3)))
    assert [float(number[0]) for number in program.scale_and_bias(0)] == [
        float(np.float16(scale)),
        float(np.float16(c * scale + (b - m * scale))),
    ]
    assert Stage.SCALE in program.chains[0].stage


def test_a_kernel_sits_centred_in_the_expander(net):
    n = net(("N", 2, 9, 9))
    weights = np.arange(1, 19, dtype=np.float32).reshape(1, 2, 3, 3)
    program = compile_model(n.model(n.conv("x", 1, weights=weights)), precision="msfp16").program
    mantissas, exponents = program.weights(0)
    assert mantissas.shape == (1, 1, 1, 98)
    assert exponents.shape == (1, 1, 1, 7)
    window = mantissas.reshape(7, 7, 2)
    assert window[2:5, 2:5].all()
    assert not window[:2].any()
    assert not window[5:].any()
    assert not window[:, :2].any()
    assert not window[:, 5:].any()


def test_layers_that_do_not_fit_are_fused_row_by_row_without_changing_a_bit(net):
    n = net(("N", 3, 40, 40))
    x = n.relu(n.conv("x", 16, pads=[1, 1, 1, 1]))
    x = n.pool(n.relu(n.conv(x, 16, pads=[1, 1, 1, 1])))
    model = n.model(n.conv(x, 8))
    whole = compile_model(model).program
    assert [chain.group for chain in whole.chains] == [0, 1, 2, 3]
    sku = load_sku()
    graph = load(model)
    verdicts = judge(graph)
    layers, _ = lower(graph, verdicts, choose(graph, verdicts))
    chosen = options()
    small = replace(sku, initial_vrf=900, addsub_vrf_1=700)
    tiled = assemble("small", (40, 40, 3), layers, chosen, small)
    assert [chain.group for chain in tiled.chains] == [0, 0, 0, 1]
    assert [Files.STREAMED in tensor.files for tensor in tiled.tensors] == [False, True, True, False, False]
    picture = np.random.default_rng(3).normal(0, 1, (40, 40, 3)).astype(np.float32)
    assert oracle.run(tiled, picture).tobytes() == oracle.run(whole, picture).tobytes()
    tiny = replace(sku, initial_vrf=100, addsub_vrf_1=50)
    with pytest.raises(CompileError, match=r"layer '.*' .* needs \d+ matrix"):
        assemble("tiny", (40, 40, 3), layers, chosen, tiny)


def test_compiling_twice_gives_the_same_bytes(small_residual):
    one, two = compile_model(small_residual), compile_model(small_residual)
    assert one.program.to_bytes() == two.program.to_bytes()
    for part in ("pre", "post", "composed"):
        spelt = [getattr(c, part).SerializeToString(deterministic=True) for c in (one, two)]
        assert spelt[0] == spelt[1]
