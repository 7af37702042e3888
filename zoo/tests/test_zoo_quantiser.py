"""The TensorFlow quantiser against numpy's, which is the oracle's: bits, gradients, and that training with it helps."""

from typing import Any

import numpy as np
import pytest
from npu import bfp, training

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]  # TensorFlow's own, at import

CASES = [
    pytest.param(form, rounding, id=f"{form.name}-{rounding.name.lower()}")
    for form in (*bfp.PRESETS.values(), bfp.Preset("m=1", 128, 5, 1, bfp.Accumulation.FP32_SEQ))
    for rounding in bfp.Rounding
]


def numbers(shape: tuple[int, ...], seed: int) -> Any:
    """Exponents over 36 bits within a block, and over all of float32 between blocks; zeros, subnormals, ties."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-130, 120, (*shape[:-1], 1)) * rng.integers(0, 2, (*shape[:-1], 1))
    size = 2.0 ** np.clip(middle + rng.uniform(-18, 18, shape), -149, 127.9)
    x = (rng.choice((-1, 1), shape) * size).astype(np.float32)
    kind = rng.integers(0, 10, shape)
    x[kind == 0] = 0.0
    x[kind == 1] = -0.0
    x[kind == 2] = (rng.uniform(-1, 1, shape) * 2.0**-126).astype(np.float32)[kind == 2]
    ties = rng.integers(-256, 257, shape) * 2.0 ** np.clip(np.round(middle), -140, 110) / 2
    x[kind == 3] = ties.astype(np.float32)[kind == 3]
    return x


@pytest.mark.parametrize(("form", "rounding"), CASES)
def test_values_and_gradients_equal_numpys_bit_for_bit(
    tf: Any, form: bfp.Preset, rounding: bfp.Rounding
) -> None:
    from accel_zoo.tensorflow.quantiser import fake_quantise, fake_quantise_weights

    @tf.function
    def both(x: Any, upstream: Any, quantise: Any, axis: int) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = quantise(x, form, truncate=rounding is bfp.Rounding.TRUNCATE, axis=axis)
        return y, tape.gradient(y, x, upstream)

    for seed, lanes in enumerate((147, 128, 300, 5)):  # short last blocks, whole ones, one short block
        x = numbers((40, lanes), seed)
        upstream = np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
        for axis in (-1, 0):
            given, slope = (np.ascontiguousarray(np.moveaxis(a, -1, axis)) for a in (x, upstream))
            value, gradient = both(tf.constant(given), tf.constant(slope), fake_quantise, axis)
            assert value.numpy().tobytes() == training.fake_quantise(given, form, rounding, axis).tobytes()
            within = training.in_range(given, form, rounding, axis)
            assert gradient.numpy().tobytes() == training.straight_through(slope, within).tobytes()
        kernel = x.reshape(2, 5, 4, lanes).transpose(0, 1, 3, 2).copy()
        slope = upstream.reshape(2, 5, 4, lanes).transpose(0, 1, 3, 2).copy()
        value, gradient = both(tf.constant(kernel), tf.constant(slope), fake_quantise_weights, -2)
        assert value.numpy().tobytes() == training.fake_quantise_weights(kernel, form, rounding).tobytes()
        within = training.weights_in_range(kernel, form, rounding)
        assert gradient.numpy().tobytes() == training.straight_through(slope, within).tobytes()


def test_what_is_not_finite_stays_so_and_unknown_lengths_are_refused(tf: Any) -> None:
    from accel_zoo.tensorflow.quantiser import fake_quantise

    got = fake_quantise(tf.constant([[np.nan, np.inf, 1.0]]), bfp.preset("msfp16")).numpy()
    assert np.isnan(got[0, 0])
    assert np.isinf(got[0, 1])
    unknown = tf.function(
        lambda x: fake_quantise(x, bfp.preset("msfp16")), input_signature=[tf.TensorSpec([4, None])]
    )
    with pytest.raises(ValueError, match="known length"):
        unknown.get_concrete_function()


def test_training_with_it_reduces_the_loss_in_ms_fp8(tf: Any) -> None:
    """A small convolutional network fitted in float32, rounded to ms-fp8, then trained on through the quantiser."""
    import keras
    from accel_zoo.tensorflow.layers import QuantisedConv2D, twin

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 12, 12, 3)).astype(np.float32)
    classes = rng.integers(0, 4, 64)
    x += 0.7 * rng.normal(size=(4, 12, 12, 3)).astype(np.float32)[classes]

    given = keras.Input((12, 12, 3))
    y = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(given)
    y = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(y)
    plain = keras.Model(given, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(y)))

    def fit(model: Any, epochs: int) -> None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(5e-3), loss)
        model.fit(x, classes, epochs=epochs, batch_size=16, verbose=0)

    fit(plain, 25)
    second = twin(plain, bfp.preset("ms-fp8"))
    assert [layer.expander for layer in second.layers if isinstance(layer, QuantisedConv2D)] == [True, False]
    second.compile(loss=plain.loss)
    float32, before = (model.evaluate(x, classes, verbose=0) for model in (plain, second))
    fit(second, 8)
    after = second.evaluate(x, classes, verbose=0)
    assert before > float32
    assert after < before


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 12), (3, 2, 11), (7, 2, 16), (5, 3, 13)])
def test_the_expanders_windows_are_the_oracles(tf: Any, kernel: int, stride: int, side: int) -> None:
    """The layer for pictures equals the oracle's chain, up to float16's rounding of the result."""
    import onnx
    from accel_zoo.tensorflow.layers import QuantisedConv2D
    from npu.compiler import compile_model
    from npu.oracle import Oracle
    from onnx import helper, numpy_helper

    form = bfp.preset("ms-fp8")
    layer = QuantisedConv2D(
        9, kernel, strides=stride, padding="same", use_bias=False, form=form, expander=True
    )
    x = np.random.default_rng(5).normal(size=(1, side, side, 3)).astype(np.float32)
    got = layer(tf.constant(x)).numpy()
    weights = layer.kernel.numpy().transpose(3, 2, 0, 1)
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        name="c",
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        auto_pad="SAME_UPPER",
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    wanted = Oracle(compile_model(model, precision="ms-fp8").program).run(x[0])
    np.testing.assert_allclose(got[0], wanted, rtol=2**-10, atol=1e-3)
