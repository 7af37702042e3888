"""numpy to TensorProto and back."""

from typing import Any

import numpy as np
import pytest
from accel.tfs import tensors, types
from accel.tfs.messages import TensorProto
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

NUMBERS = ["float16", "float32", "float64", "int8", "int16", "int32", "int64"]
NUMBERS += ["uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(NUMBERS), as_fields=st.booleans())
def test_arrays_survive_the_wire(data: Any, dtype: str, as_fields: bool) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = data.draw(hnp.arrays(np.dtype(dtype), shape))
    wire = tensors.to_proto(array, as_fields=as_fields).SerializeToString()
    back = tensors.from_proto(TensorProto.FromString(wire))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes(), "NaNs and signed zeros included"


@settings(max_examples=50, deadline=None)
@given(items=st.lists(st.binary(max_size=20), max_size=6))
def test_strings_survive_the_wire(items: list[bytes]) -> None:
    back = tensors.from_proto(tensors.to_proto(np.array(items, dtype=object)))
    assert back.tolist() == items
    assert back.dtype == object


SOURCES = {
    # name: (what is given, array that arrives)
    "a list": ([1.5, 2.5], np.array([1.5, 2.5])),
    "big endian": (np.array([1, 2], ">i4"), np.array([1, 2], "<i4")),
    "not contiguous": (
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.array([[0, 3], [1, 4], [2, 5]], np.int32),
    ),
    "text": (["é"], np.array(["é".encode()], dtype=object)),
    "fixed-width bytes": (np.array([b"ab", b"c"]), np.array([b"ab", b"c"], dtype=object)),
    "a scalar": (np.float32(3), np.array(3, np.float32)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_numpy_takes(name: str) -> None:
    source, expected = SOURCES[name]
    back = tensors.from_proto(tensors.to_proto(source))
    np.testing.assert_array_equal(back, expected)
    assert back.dtype == expected.dtype


def proto(dtype: int, shape: list[int], **fields: Any) -> Any:
    built = TensorProto(dtype=dtype, **fields)
    for size in shape:
        built.tensor_shape.dim.add(size=size)
    return built


FOREIGN: dict[str, tuple[Any, NDArray[Any]]] = {
    "one value fills the tensor": (proto(1, [2, 2], float_val=[7]), np.full((2, 2), 7, np.float32)),
    "the last value fills the rest": (proto(3, [4], int_val=[1, 2]), np.array([1, 2, 2, 2], np.int32)),
    "half as bits": (proto(19, [1], half_val=[0x3C00]), np.array([1], np.float16)),
    "uint8 as int": (proto(4, [2], int_val=[0, 255]), np.array([0, 255], np.uint8)),
    "complex as pairs": (proto(8, [1], scomplex_val=[1, 2]), np.array([1 + 2j], np.complex64)),
    "nothing": (proto(1, [0, 3]), np.zeros((0, 3), np.float32)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_other_clients_send(name: str) -> None:
    given, expected = FOREIGN[name]
    back = tensors.from_proto(given)
    np.testing.assert_array_equal(back, expected)
    assert back.dtype == expected.dtype


UNKNOWN_RANK = proto(1, [])
UNKNOWN_RANK.tensor_shape.unknown_rank = True
WRONG = {
    # name: (message, words of the error)
    "no dtype": (proto(0, [1]), "dtype 0"),
    "bfloat16": (proto(14, [1]), "dtype 14"),
    "unknown rank": (UNKNOWN_RANK, "unknown rank"),
    "negative size": (proto(1, [-1], float_val=[1]), "negative size"),
    "too many values": (proto(1, [1], float_val=[1, 2]), "needs 1 values, float_val has 2"),
    "no values": (proto(1, [2]), "needs 2 values, float_val has 0"),
    "bytes that do not fit": (proto(1, [2], tensor_content=b"123"), "needs 8 bytes, tensor_content has 3"),
    "strings that do not fit": (proto(7, [2], string_val=[b"x"]), "needs 2 strings, string_val has 1"),
    "a bomb": (proto(1, [10**6, 10**6], float_val=[1]), "is larger than"),
    "a bomb of strings": (proto(7, [10**12], string_val=[b""]), "is larger than"),
    "an overflowing bomb": (proto(1, [2**40, 2**40], float_val=[1]), "is larger than"),
}


@pytest.mark.parametrize("name", WRONG)
def test_contradictions(name: str) -> None:
    given, words = WRONG[name]
    with pytest.raises(tensors.TensorError, match=words):
        tensors.from_proto(given)


@pytest.mark.parametrize("value", [np.array(["2020-01-01"], "datetime64[D]"), [object()], [None]])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises(tensors.TensorError):
        tensors.to_proto(value)


def test_type_names() -> None:
    assert {types.by_name(name).enum_name for name in ("float32", "float16", "string")} == {  # type: ignore[union-attr]
        "DT_FLOAT",
        "DT_HALF",
        "DT_STRING",
    }


@pytest.mark.parametrize(
    ("shape", "words"),
    [([1] * 200, "at most 32"), ([0, 1 << 62, 1 << 62], "larger than"), ([1 << 62, 0], "larger than")],
)
def test_shapes_that_numpy_would_refuse_in_its_own_words(shape: list[int], words: str) -> None:
    proto = tensors.to_proto(np.zeros(1, np.float32))
    del proto.tensor_shape.dim[:]
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(tensors.TensorError, match=words):
        tensors.from_proto(proto)
