"""numpy arrays to TensorProto and back.

A TensorProto says its values in one of two ways: raw little-endian bytes (`tensor_content`) or a repeated
field per type (`float_val`, …). Both are read. What is written is the caller's choice: clients send bytes,
because they are smaller and faster; servers answer in fields, as TensorFlow Serving does and as clients in
other languages expect.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.tfs import types
from accel.tfs.messages import TensorProto

__all__ = ["MAX_BYTES", "TensorError", "from_proto", "shape_of", "to_proto"]

MAX_BYTES = 256 * 1024 * 1024
"""The largest array that a message may ask for: one float_val with a shape of 10⁹ is 20 bytes on the wire."""

MAX_RANK = 32
"""More axes than any model has, and fewer than numpy refuses in its own words."""

_WIRE_NUMBER = {"float_val": 5, "double_val": 6, "scomplex_val": 9, "dcomplex_val": 12}


class TensorError(ValueError):
    """A TensorProto that contradicts itself, or a type that cannot cross the wire; the message says which."""


def to_proto(array: Any, *, as_fields: bool = False) -> Any:
    """Return the TensorProto of `array` (anything numpy takes; strings as bytes, str or object arrays).

    Raises TensorError for element types that TensorFlow's wire format does not have.
    """
    array = np.asarray(array)
    kind = types.by_numpy(array.dtype)
    if kind is None:
        raise TensorError(f"numpy type {array.dtype} has no TensorFlow counterpart; convert the array first")
    proto = TensorProto(dtype=kind.number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if kind.name == "string":
        proto.string_val.extend(_as_bytes(item) for item in array.reshape(-1).tolist())
        return proto
    array = np.ascontiguousarray(array, dtype=kind.dtype)
    if not as_fields:
        proto.tensor_content = array.tobytes()
    elif kind.field in _WIRE_NUMBER:
        # A packed field of floats is the same bytes as the array: some 20 times faster than extend().
        raw = array.tobytes()
        if raw:
            proto.MergeFromString(_varint(_WIRE_NUMBER[kind.field] << 3 | 2) + _varint(len(raw)) + raw)
    else:
        flat = array.reshape(-1)
        values = flat.view("<u2") if kind.name == "float16" else flat
        getattr(proto, kind.field).extend(values.tolist())
    return proto


def from_proto(proto: Any, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Return the array of a TensorProto; strings come as an object array of bytes. The array may be
    read-only.

    Raises TensorError when dtype, shape and values contradict each other or the array would exceed
    `max_bytes`.
    """
    kind = types.by_number(proto.dtype)
    if kind is None:
        raise TensorError(f"dtype {proto.dtype} is not supported")
    shape = shape_of(proto)
    count = math.prod(shape)
    if count * kind.dtype.itemsize > max_bytes:
        raise TensorError(f"a tensor of shape {list(shape)} is larger than {max_bytes} bytes")
    if kind.name == "string":
        return _strings(proto, shape, count)
    if proto.tensor_content:
        return _content(proto.tensor_content, kind, shape, count)
    return _fields(proto, kind, shape, count)


def shape_of(proto: Any) -> tuple[int, ...]:
    """Return the shape of a TensorProto; raises TensorError if it is not fully known."""
    if proto.tensor_shape.unknown_rank:
        raise TensorError("the tensor's shape has an unknown rank")
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if len(shape) > MAX_RANK:
        raise TensorError(f"the tensor has {len(shape)} axes; at most {MAX_RANK} are read")
    if any(size < 0 for size in shape):
        raise TensorError(f"the tensor's shape {list(shape)} has a negative size")
    if any(size > MAX_BYTES for size in shape):  # also beside a zero, where the product says nothing
        raise TensorError(f"the tensor's shape {list(shape)} is larger than {MAX_BYTES} bytes")
    return shape


def _strings(proto: Any, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    values = list(proto.string_val)
    if len(values) != count:
        raise TensorError(f"shape {list(shape)} needs {count} strings, string_val has {len(values)}")
    array = np.empty(count, dtype=object)
    array[:] = values
    return array.reshape(shape)


def _content(content: bytes, kind: types.DataType, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    expected = count * kind.dtype.itemsize
    if len(content) != expected:
        raise TensorError(
            f"shape {list(shape)} of {kind.name} needs {expected} bytes, tensor_content has {len(content)}"
        )
    return np.frombuffer(content, dtype=kind.dtype).reshape(shape)


def _fields(proto: Any, kind: types.DataType, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    values = getattr(proto, kind.field)
    if kind.name == "float16":
        flat = np.array(values, dtype=np.int32).astype("<u2").view("<f2")
    elif kind.dtype.kind == "c":
        flat = np.array(values, dtype=f"<f{kind.dtype.itemsize // 2}").view(kind.dtype)
    else:
        flat = np.array(values, dtype=np.int32 if kind.field == "int_val" else kind.dtype).astype(kind.dtype)
    if len(flat) > count or (count and not len(flat)):
        raise TensorError(f"shape {list(shape)} needs {count} values, {kind.field} has {len(flat)}")
    if len(flat) < count:  # TensorFlow's rule: the last value fills the rest
        flat = np.concatenate([flat, np.full(count - len(flat), flat[-1], dtype=kind.dtype)])
    return flat.reshape(shape)


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TensorError(f"a string tensor holds a {type(item).__name__}; it may hold bytes and str only")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
