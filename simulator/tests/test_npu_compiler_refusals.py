"""What stays on the host: each operator with its reason, and how often."""

import numpy as np
import pytest
from npu.compiler import OnHost, compile_model
from npu.compiler.account import sentence
from npu.errors import DoesNotFit, NothingToOffload
from whole_models import check_parts, relative_errors

SAME = {"pads": [1, 1, 1, 1]}


def channels(values=(1, 2, 3, 4, 5, 6)):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def grouped(n, x):
    return n.conv(x, 6, weights=np.ones((6, 3, 3, 3)), group=2)


def depthwise(n, x):
    return n.conv(x, 6, weights=np.ones((6, 1, 3, 3)), group=6)


def leaky(n, x):
    return n.op("LeakyRelu", x)


def relu6(n, x):
    return n.op("Clip", x, n.constant(np.float32(0)), n.constant(np.float32(6)))


def clip_by_what_is_computed(n, x):
    return n.op("Clip", x, n.op("ReduceMin", "x", keepdims=0))


def product_of_tensors(n, x):
    return n.op("Mul", x, n.relu(x))


def difference_of_tensors(n, x):
    return n.op("Sub", x, n.conv(x, 6, **SAME))


def sum_of_three(n, x):
    return n.op("Sum", x, x, x)


def quotient_of_a_constant(n, x):
    return n.op("Div", n.constant(np.float32(1)), n.op("Add", x, n.constant(np.float32(100))), channels=6)


def constant_that_varies_over_positions(n, x):
    return n.op("Add", x, n.constant(np.ones((12, 12), np.float32)))


def division_by_zero(n, x):
    return n.op("Div", x, n.constant(channels((1, 1, 1, 1, 1, 0))))


def average_whose_padding_does_not_count(n, x):
    return n.op("AveragePool", x, kernel_shape=[3, 3], **SAME)


def average_beyond_the_padding(n, x):
    given = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
    return n.op("AveragePool", x, count_include_pad=1, **given)


def dilated_average(n, x):
    return n.op("AveragePool", x, kernel_shape=[2, 2], dilations=[2, 2])


def dilated_maximum(n, x):
    return n.op("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2])


def maximum_of_what_may_be_negative(n, x):
    return n.pool(n.conv(x, 6), 3, 2, **SAME)


def averages_of_whole_pictures(n, x):
    return n.op("GlobalAveragePool", x)


def means_of_whole_pictures(n, x):
    return n.op("ReduceMean", x, n.constant(np.array([2, 3])), keepdims=1)


def rows_behind_rows(n, x):
    return n.op("Concat", x, x, axis=2)


def constants_behind_channels(n, x):
    return n.op("Concat", x, n.constant(np.ones((2, 1, 12, 12), np.float32)), axis=1, channels=7)


def edges_repeated(n, x):
    return n.conv(n.op("Pad", x, n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])), mode="edge"), 4)


def ones_around(n, x):
    pads = n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    return n.conv(n.op("Pad", x, pads, n.constant(np.float32(1))), 4)


def zeros_for_an_activation(n, x):
    return n.relu(n.op("Pad", x, n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))))


def zeros_beyond_the_window(n, x):
    return n.conv(n.op("Pad", x, n.constant(np.array([0, 0, 3, 3, 0, 0, 0, 0]))), 4)


def transposed_convolution(n, x):
    return n.op("ConvTranspose", x, n.constant(np.ones((6, 4, 2, 2), np.float32)), strides=[2, 2])


def fully_connected(n, x):
    return n.op("MatMul", n.op("Flatten", x), n.constant(np.ones((6 * 144, 3), np.float32)))


def fully_connected_as_convolution(n, x):
    n.channels[x] = 6
    return n.conv(n.conv(x, 8, (12, 12), weights=np.full((8, 6, 12, 12), 0.01)), 4, (1, 1))


def rows_instead_of_columns(n, x):
    return n.op("Transpose", x, perm=[0, 1, 3, 2])


def channels_apart(n, x):
    return n.op("Slice", x, *(n.constant(np.array([value])) for value in (0, 3, 1)))


REASONS = {
    grouped: ("Conv", "grouped convolutions do not map"),
    depthwise: ("Conv", "depthwise convolutions do not map"),
    leaky: ("LeakyRelu", "only activation is Relu"),
    relu6: ("Clip", "limits are not zero and infinity"),
    clip_by_what_is_computed: ("Clip", "something else than pictures"),
    product_of_tensors: ("Mul", "can only add"),
    difference_of_tensors: ("Sub", "can only add"),
    sum_of_three: ("Sum", "two tensors at a time"),
    quotient_of_a_constant: ("Div", "not one number per channel"),
    constant_that_varies_over_positions: ("Add", "not one number per channel"),
    division_by_zero: ("Div", "not finite"),
    average_whose_padding_does_not_count: ("AveragePool", "padding does not count"),
    average_beyond_the_padding: ("AveragePool", "end beyond the padding"),
    dilated_average: ("AveragePool", "dilated"),
    dilated_maximum: ("MaxPool", "dilated"),
    maximum_of_what_may_be_negative: ("MaxPool", "may be negative"),
    averages_of_whole_pictures: ("GlobalAveragePool", "on the host, in float32"),
    means_of_whole_pictures: ("ReduceMean", "on the host, in float32"),
    rows_behind_rows: ("Concat", "something else than channels"),
    constants_behind_channels: ("Concat", "joins constants"),
    edges_repeated: ("Pad", "does not write zeros"),
    ones_around: ("Pad", "does not write zeros"),
    zeros_for_an_activation: ("Pad", "without a window"),
    zeros_beyond_the_window: ("Pad", "in the padding altogether"),
    transposed_convolution: ("ConvTranspose", "no transposed convolution"),
    fully_connected: ("MatMul", "fully connected"),
    fully_connected_as_convolution: ("Conv", "fully connected layers are computed on the host"),
    rows_instead_of_columns: ("Transpose", "which axis holds its channels"),
    channels_apart: ("Slice", "does not take tensors apart"),
}


@pytest.mark.parametrize(("recipe", "expected"), REASONS.items(), ids=[r.__name__ for r in REASONS])
def test_what_the_device_cannot_do_stays_on_the_host_with_a_reason(net, recipe, expected):
    n = net(("N", 3, 12, 12))
    batch = 2 if recipe is constants_behind_channels else "N"
    n = net((batch, 3, 12, 12))
    model = n.model(
        recipe(n, n.relu(n.conv("x", 6, **SAME))), opset=19 if "dilated" in recipe.__name__ else 18
    )
    compiled = compile_model(model, precision="msfp16")
    operator, reason = expected
    entries = [
        entry for entry in compiled.host_counts if entry.operator == operator and reason in entry.reason
    ]
    assert entries, compiled.host_counts
    check_parts(compiled)
    if recipe is not division_by_zero:
        assert max(relative_errors(model, compiled).values()) < 0.03


def test_what_stays_is_counted_by_operator_and_reason(net):
    n = net(("N", 3, 12, 12))
    x = n.conv("x", 6)
    ends = [n.op("Sigmoid", x), n.op("Sigmoid", x), n.op("Softmax", n.op("Flatten", x))]
    compiled = compile_model(n.model(*ends))
    assert compiled.host_counts == (
        OnHost("Sigmoid", "the device's only activation is Relu", 2, "sigmoid1"),
        OnHost("Flatten", "it makes something else than a picture", 1, "flatten3"),
        OnHost("Softmax", "probabilities are computed on the host", 1, "softmax4"),
    )
    assert sentence(compiled.host_counts).startswith(
        "2 Sigmoid: the device's only activation is Relu; 1 Flatten"
    )
    assert sum(entry.count for entry in compiled.host_counts) == compiled.host_ops == 4


def test_pictures_without_known_size_are_refused_with_a_cure(net):
    n = net(("N", 3, "height", "width"))
    with pytest.raises(NothingToOffload, match="export the model with fixed ones"):
        compile_model(n.model(n.conv("x", 4)))


def test_what_does_not_fit_names_the_layer(net):
    n = net(("N", 3, 300, 300))
    x = n.conv("x", 600, weights=np.zeros((600, 3, 3, 3)))
    with pytest.raises(DoesNotFit, match=r"layer 'conv0' .* vectors"):
        compile_model(n.model(n.conv(x, 600, weights=np.zeros((600, 600, 3, 3)))))


def test_nodes_that_no_output_needs_do_not_count(net):
    n = net(("N", 3, 8, 8))
    y = n.conv("x", 4)
    n.op("Sigmoid", n.relu(y))
    compiled = compile_model(n.model(n.relu(y)))
    assert [chain.stage.name for chain in compiled.program.chains] == ["BIAS|RELU"]
    assert compiled.host_counts == ()
