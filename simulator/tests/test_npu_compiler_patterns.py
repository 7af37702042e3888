"""The patterns of the known networks and of converters: chains, outputs, and answers like float32."""

import numpy as np
import pytest
from npu.bfp import PRESETS, Accumulation, Rounding
from npu.chain import Kind
from npu.compiler import compile_model
from npu.errors import CompileError
from whole_models import chains_of, check_parts, draw, infer, relative_errors

FINE = "msfp16"  # seven mantissa bits: what differs by more than a few percent is another network
TOLERANCE = 0.05
SAME = {"pads": [1, 1, 1, 1]}
SBR = "scale+bias+relu"


def dense_block_with_transition(n):
    x = n.pool(n.relu(n.bn(n.conv("x", 12, (5, 5), strides=[2, 2], pads=[2, 2, 2, 2]))), 2, 1)
    for _ in range(2):
        y = n.relu(n.bn(n.conv(n.relu(n.bn(x)), 16, (1, 1))))
        x = n.op("Concat", x, n.conv(y, 8, **SAME), axis=1, channels=n.channels[x] + 8)
    x = n.conv(n.relu(n.bn(x)), 14, (1, 1))
    x = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return [n.relu(n.bn(x))]


def detector_heads(n):
    x = n.relu(n.conv("x", 12, **SAME))
    norm = n.op("ReduceL2", x, n.constant(np.array([1], np.int64)), keepdims=1)
    scaled = n.op("Mul", n.op("Div", x, norm), n.constant(np.full((12, 1, 1), 3, np.float32)))
    y = n.relu(n.conv(n.pool(x), 16, dilations=[3, 3], pads=[3, 3, 3, 3]))
    z = n.relu(n.conv(y, 16, strides=[2, 2], **SAME))
    ends = []
    for source, channels in ((scaled, 12), (y, 16), (z, 16)):
        n.channels[source] = channels
        for classes in (4, 6):
            head = n.op("Transpose", n.conv(source, classes, **SAME), perm=[0, 2, 3, 1])
            ends.append(n.op("Reshape", head, n.constant(np.array([0, -1, 2], np.int64))))
    return ends


def front_of_small_pictures(n):
    x = n.relu(n.conv("x", 6, bias=np.ones(6), **SAME))
    return [n.pool(n.relu(n.conv(x, 6, bias=np.ones(6), **SAME)))]


def concat_of_the_input_itself(n):
    y = n.relu(n.conv("x", 5, **SAME))
    joined = n.op("Concat", "x", y, "x", axis=-3, channels=11)
    return [n.conv(joined, 4, (1, 1))]


def four_branches(n):
    x = n.relu(n.conv("x", 8, **SAME))
    a, b = n.relu(n.conv(x, 3, (1, 1))), n.relu(n.conv(x, 4, **SAME))
    c = n.relu(n.conv(n.pool(x, 3, 1, **SAME), 5, (1, 1)))
    d = n.op("AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], count_include_pad=1, **SAME)
    return [n.relu(n.conv(n.op("Concat", a, b, c, d, axis=1, channels=20), 6, (1, 1)))]


def same_tensor_twice(n):
    x = n.relu(n.conv("x", 4))
    return [n.conv(n.op("Concat", x, x, axis=1, channels=8), 4, (1, 1)), n.relu(n.op("Add", x, x))]


def zeros_in_front_of_an_average_pool(n):
    pads = n.constant(np.array([0, 0, 1, 0, 0, 0, 1, 2], np.int64))
    return [n.op("AveragePool", n.op("Pad", n.conv("x", 8), pads), kernel_shape=[3, 3], strides=[2, 2])]


def odd_windows(n):
    x = n.relu(n.conv("x", 8, (2, 4), pads=[1, 3, 0, 0], strides=[1, 2]))
    x = n.relu(n.conv(x, 8, (3, 2), pads=[0, 1, 2, 0], dilations=[1, 2]))
    x = n.relu(n.conv(x, 8, (1, 5), pads=[0, 2, 0, 2]))
    return [n.op("MaxPool", x, kernel_shape=[3, 1], strides=[2, 3], pads=[1, 0, 0, 0])]


def large_kernel_past_the_expander(n):
    return [n.conv(n.conv("x", 6, (9, 9), pads=[4, 4, 4, 4], strides=[2, 2]), 4, (7, 7), pads=[3, 3, 3, 3])]


def activations_and_constants(n):
    c = 6
    x = n.op("Clip", n.conv("x", c), n.constant(np.float32(0)), n.constant(np.float32(np.inf)))
    x = n.op("Sub", x, n.constant(np.linspace(-1, 1, c, dtype=np.float32).reshape(1, c, 1, 1)))
    x = n.op("Div", x, n.constant(np.full((c, 1, 1), 0.7, np.float32)))
    x = n.op("Sub", n.constant(np.float32(1)), x, channels=c)
    return [n.op("Add", n.constant(np.float32(0.25)), n.op("Mul", n.constant(np.float32(3)), x, channels=c))]


def normalisation_without_convolution(n):
    x = n.pool(n.relu(n.conv("x", 8)))
    x = n.op("Mul", x, n.constant(np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1, 1)))
    return [n.relu(n.bn(n.op("Add", x, n.constant(np.float32(-0.2)))))]


def nhwc_between_convolutions_and_concat(n):
    x = n.op("Transpose", n.relu(n.conv("x", 8, **SAME)), perm=[0, 2, 3, 1])
    y = n.op("Transpose", x, perm=[0, 3, 1, 2], channels=8)
    y = n.op("Transpose", n.conv(y, 4, **SAME), perm=[0, 2, 3, 1])
    joined = n.op("Concat", x, n.op("Relu", y), axis=3, channels=12)
    joined = n.op("Mul", joined, n.constant(np.linspace(1, 2, 12, dtype=np.float32)))
    return [
        n.op(
            "Transpose",
            n.conv(n.op("Transpose", joined, perm=[0, 3, 1, 2], channels=12), 4),
            perm=[0, 2, 3, 1],
        )
    ]


def nothing_but_names(n):
    x = n.op("Dropout", n.op("Identity", n.relu(n.conv("x", 8))))
    x = n.op("Cast", n.op("Reshape", x, n.constant(np.array([0, 8, 10, 10], np.int64))), to=1)
    return [n.conv(x, 4)]


def two_outputs_in_the_middle(n):
    x = n.relu(n.conv("x", 8))
    y = n.conv(n.pool(x), 4)
    return [x, n.op("Softmax", n.op("Flatten", y), axis=1), n.op("Sigmoid", y)]


PATTERNS = {
    # recipe -> kinds of chains, tensors in the output queue
    dense_block_with_transition: ("EMICCNICCNICAI", 1),
    detector_heads: ("EMCCCCCC", 5),
    front_of_small_pictures: ("ECM", 1),
    concat_of_the_input_itself: ("ENNC", 1),
    four_branches: ("ECCNMCNANC", 1),
    same_tensor_twice: ("ENCI", 2),
    zeros_in_front_of_an_average_pool: ("EA", 1),
    odd_windows: ("ECCM", 1),
    large_kernel_past_the_expander: ("CC", 1),
    activations_and_constants: ("EI", 1),
    normalisation_without_convolution: ("EMI", 1),
    nhwc_between_convolutions_and_concat: ("ECNIC", 1),
    nothing_but_names: ("EC", 1),
    two_outputs_in_the_middle: ("EMC", 2),
}
LETTERS = {"E": "EXPAND", "C": "CONV", "I": "IDENTITY", "M": "MAX_POOL", "A": "AVERAGE_POOL", "N": "CONCAT"}


@pytest.mark.parametrize(("recipe", "chains"), PATTERNS.items(), ids=[r.__name__ for r in PATTERNS])
def test_patterns_answer_like_float32_in_three_parts(net, recipe, chains):
    n = net(("N", 3, 12, 12))
    model = n.model(*recipe(n))
    compiled = compile_model(model, precision=FINE)
    assert [kind for kind, _ in chains_of(compiled)] == [LETTERS[letter] for letter in chains[0]]
    assert len(compiled.program.output_tensors) == chains[1]
    check_parts(compiled)
    errors = relative_errors(model, compiled)
    assert max(errors.values()) < TOLERANCE, errors
    assert min(errors.values()) > 0, "equal to float32: the device took no part"


def test_the_output_queue_is_cut_up_by_slice_reshape_and_transpose(net):
    n = net(("N", 3, 12, 12))
    compiled = compile_model(n.model(*two_outputs_in_the_middle(n)))
    operators = [node.op_type for node in compiled.post.graph.node]
    assert operators[:6] == ["Slice", "Reshape", "Transpose"] * 2
    assert compiled.program.output_shape == (1, 1, 10 * 10 * 8 + 3 * 3 * 4)
    n = net(("N", 3, 12, 12))
    heads = compile_model(n.model(*detector_heads(n)))
    operators = [node.op_type for node in heads.post.graph.node]
    assert operators[:11] == [
        "Slice",
        "Reshape",
        "Transpose",
        *["Slice", "Reshape"] * 4,
    ]  # heads are read as NHWC
    assert {entry.operator for entry in heads.host_counts} >= {"ReduceL2", "Div", "Mul", "Conv", "Reshape"}


@pytest.mark.parametrize("opset", range(9, 23))
def test_every_opset_that_exporters_write(net, opset):
    n = net((2, 3, 12, 12))
    x = n.conv("x", 8, **SAME)
    if opset < 11:
        x = n.op("Pad", n.op("Clip", x, min=0.0), pads=[0, 0, 1, 1, 0, 0, 1, 1])
    else:
        whole, axes = [0, 0, 1, 1] * 2, []
        if opset >= 18:
            whole, axes = [1, 1, 1, 1], ["", n.constant(np.array([2, -1], np.int64))]
        pads = n.constant(np.array(whole, np.int64))
        if opset >= 12:
            pads = n.op("Constant", value_ints=whole, channels=0)
        x = n.op("Pad", n.op("Clip", x, n.constant(np.float32(0))), pads, *axes)
    x = n.bn(n.conv(n.op("Dropout", n.pool(x, 3, 2)), 8))
    squeezed = n.constant(np.full((8,), 0.5, np.float32))
    if opset < 13:
        squeezed = n.op("Unsqueeze", squeezed, axes=[1, 2])
    else:
        squeezed = n.op("Unsqueeze", squeezed, n.constant(np.array([1, 2], np.int64)))
    x = n.op("Mul", x, squeezed)
    y = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1])
    model = n.model(y, opset=opset)
    compiled = compile_model(model, precision=FINE)
    assert compiled.host_counts == ()
    check_parts(compiled)
    assert max(relative_errors(model, compiled).values()) < TOLERANCE


def test_initializers_may_be_listed_as_inputs_as_old_files_do(net):
    n = net((1, 3, 8, 8))
    model = n.model(n.op("Sigmoid", n.relu(n.conv("x", 4))), opset=9)
    for tensor in n.weights:
        listed = model.graph.input.add(name=tensor.name)
        listed.type.tensor_type.elem_type = 1
        for length in tensor.dims:
            listed.type.tensor_type.shape.dim.add(dim_value=length)
    model.ir_version = 3
    compiled = compile_model(model, precision=FINE)
    assert [value.name for value in compiled.composed.graph.input] == ["x"]
    check_parts(compiled)
    assert max(relative_errors(model, compiled).values()) < TOLERANCE


def test_the_device_stops_where_fewest_tensors_leave_it(net):
    """Both activations behind the last convolution are the host's: one tensor leaves instead of two."""
    n = net(("N", 3, 8, 8))
    x = n.conv("x", 8)
    model = n.model(n.op("Sigmoid", n.relu(x)), n.op("Tanh", n.pool(x)))
    compiled = compile_model(model, precision=FINE)
    assert chains_of(compiled) == [("EXPAND", "bias")]
    assert len(compiled.program.output_tensors) == 1
    assert compiled.host_reasons["Relu 'relu1'"].startswith("behind the last convolution")
    assert max(relative_errors(model, compiled).values()) < TOLERANCE
    n = net(("N", 3, 8, 8))
    a, b = n.conv("x", 8), n.conv("x", 8)
    compiled = compile_model(n.model(n.op("Sigmoid", n.relu(n.op("Add", a, b)))))
    assert chains_of(compiled) == [("EXPAND", "bias"), ("EXPAND", "bias+residual+relu")]


def test_an_average_of_the_whole_picture_is_the_hosts_unless_a_convolution_follows(net):
    n = net(("N", 3, 8, 8))
    mean = n.op("AveragePool", n.relu(n.conv("x", 8, **SAME)), kernel_shape=[8, 8])
    compiled = compile_model(n.model(n.op("Flatten", mean)))
    assert chains_of(compiled) == [("EXPAND", "bias+relu")]
    assert compiled.host_reasons["AveragePool 'averagepool2'"].startswith(
        "whole pictures are averaged on the host"
    )
    compiled = compile_model(n.model(n.conv(mean, 4, (1, 1))))
    assert [kind for kind, _ in chains_of(compiled)] == ["EXPAND", "AVERAGE_POOL", "CONV"]


def test_views_that_both_sides_need_are_on_both(net):
    n = net(("N", 3, 8, 8))
    x = n.op("Transpose", n.relu(n.conv("x", 4)), perm=[0, 2, 3, 1])
    y = n.conv(n.op("Transpose", x, perm=[0, 3, 1, 2], channels=4), 4)
    model = n.model(n.op("Softmax", x, axis=-1), y)
    compiled = compile_model(model, precision=FINE)
    check_parts(compiled)
    assert len(compiled.program.output_tensors) == 2
    assert max(relative_errors(model, compiled).values()) < TOLERANCE


@pytest.mark.parametrize("rounding", ["nearest-even", "truncate"])
@pytest.mark.parametrize("accumulation", ["auto", "fp32-seq", "wide"])
@pytest.mark.parametrize("precision", PRESETS)
def test_options_that_go_together_and_those_that_do_not(net, precision, accumulation, rounding):
    n = net(("N", 3, 6, 6))
    model = n.model(n.conv("x", 4))
    given = {"precision": precision, "accumulation": accumulation, "rounding": rounding}
    if PRESETS[precision].exponent_bits == 8 and accumulation == "fp32-seq":
        with pytest.raises(CompileError, match="8-bit exponents"):
            compile_model(model, **given)
        return
    program = compile_model(model, **given).program
    wide = accumulation == "wide" or PRESETS[precision].exponent_bits == 8
    assert program.chains[0].accumulation is (Accumulation.WIDE if wide else Accumulation.FP32_SEQ)
    assert program.rounding is (Rounding.TRUNCATE if rounding == "truncate" else Rounding.NEAREST_EVEN)


@pytest.mark.parametrize("option", [{"rounding": "up"}, {"accumulation": "int"}], ids=str)
def test_options_that_nobody_knows(net, option):
    n = net(("N", 3, 6, 6))
    with pytest.raises(CompileError, match="choose one of"):
        compile_model(n.model(n.conv("x", 4)), **option)


@pytest.mark.parametrize("sku", ["bw-s10", "bw-s5"])
def test_machines_with_other_vectors_get_their_own_blocks(net, sku):
    n = net(("N", 3, 12, 12))
    program = compile_model(n.model(n.conv(n.relu(n.conv("x", 150)), 4)), sku=sku).program
    native = program.native_dim
    assert native == program.preset.box == {"bw-s10": 400, "bw-s5": 100}[sku]
    assert program.tensors[1].depth == -(-150 // native)
    assert program.weights(1)[1].shape == (4, 3, 3, -(-150 // native))


def front(n, width, *, scale=False, pool=2, second=(3, 3), tap=False):
    x = n.conv("x", width, bias=np.ones(width), **SAME)
    x = n.relu(n.bn(x) if scale else x)
    y = n.relu(n.conv(x, width, second, pads=[second[0] // 2, second[1] // 2] * 2))
    if tap:
        y = n.op("Add", y, n.conv(x, width, (1, 1)))
    z = n.relu(n.conv(n.pool(y, pool), 130, **SAME))
    for _ in range(3):
        z = n.relu(n.conv(z, 130, **SAME))
    return n.model(n.pool(z))


FRONTS = {
    # name: picture, options of the network -> chains with float16 taps
    "from the image on, while the weights fit": (112, {}, [1, 3, 4, 5]),
    "a smaller picture is not fused": (111, {}, []),
    "batch normalisation has a scale": (112, {"scale": True}, []),
    "a kernel of one ends the block": (112, {"second": (1, 1)}, []),
    "a second path ends the block": (112, {"tap": True}, []),
}


@pytest.mark.parametrize(("side", "given", "taps"), FRONTS.values(), ids=FRONTS)
def test_the_front_block_adds_its_taps_in_float16(net, side, given, taps):
    model = front(net(("N", 3, side, side)), 4, **given)
    found = compile_model(model).program
    tapped = [i for i, c in enumerate(found.chains) if c.accumulation is Accumulation.FP16_TAPS]
    assert tapped == taps
    assert all(found.chains[i].kind is Kind.CONV for i in tapped)
    for option in ({"accumulation": "fp32-seq"}, {"precision": FINE}):
        plain = compile_model(model, **option).program
        assert all(c.accumulation is not Accumulation.FP16_TAPS for c in plain.chains)


def test_an_exact_sum_tells_that_outputs_come_in_their_order(net):
    """Ones through known weights: every output is where it belongs."""
    n = net((1, 1, 4, 4))
    a = n.conv("x", 2, (1, 1), weights=np.array([1, 2]).reshape(2, 1, 1, 1))
    b = n.conv(a, 3, (1, 1), weights=np.array([[1, 0], [0, 1], [1, 1]]).reshape(3, 2, 1, 1))
    model = n.model(b, a)
    feeds = {"x": np.ones_like(draw(model)["x"])}
    assert set(relative_errors(model, compile_model(model), feeds).values()) == {0.0}
    assert infer(model, feeds)[b][0, :, 0, 0].tolist() == [1, 2, 3]


def test_views_in_front_of_the_first_convolution_are_the_devices(net):
    n = net(("N", 3, 8, 8))
    x = n.op("Pad", n.op("Identity", "x"), n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    compiled = compile_model(n.model(n.conv(x, 4)))
    assert compiled.program.input_shape == (8, 8, 3)
    assert compiled.program.chains[0].pad == (1, 1)
    assert compiled.host_counts == ()
