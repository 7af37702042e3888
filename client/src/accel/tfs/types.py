"""TensorFlow's data types and what they are in numpy and in a model.json.

Types that numpy does not have (bfloat16, the quantised ones, resources) are absent: they cannot cross this
wire.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DataType", "by_name", "by_number", "by_numpy"]


@dataclass(frozen=True)
class DataType:
    """One type of tensor elements."""

    number: int
    """The value of TensorFlow's enum DataType."""
    name: str
    """TensorFlow's short name, as in model.json: float32, string, …"""
    field: str
    """The TensorProto field that carries single values."""
    dtype: "np.dtype[Any]"

    @property
    def enum_name(self) -> str:
        """The name of the enum value, for messages: DT_FLOAT."""
        return _ENUM_NAMES.get(self.name, f"DT_{self.name.upper()}")


_ENUM_NAMES = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}
_TABLE = [
    (1, "float32", "float_val", "<f4"),
    (2, "float64", "double_val", "<f8"),
    (3, "int32", "int_val", "<i4"),
    (4, "uint8", "int_val", "u1"),
    (5, "int16", "int_val", "<i2"),
    (6, "int8", "int_val", "i1"),
    (7, "string", "string_val", "O"),
    (8, "complex64", "scomplex_val", "<c8"),
    (9, "int64", "int64_val", "<i8"),
    (10, "bool", "bool_val", "?"),
    (17, "uint16", "int_val", "<u2"),
    (18, "complex128", "dcomplex_val", "<c16"),
    (19, "float16", "half_val", "<f2"),
    (22, "uint32", "uint32_val", "<u4"),
    (23, "uint64", "uint64_val", "<u8"),
]
_TYPES = [DataType(number, name, field, np.dtype(code)) for number, name, field, code in _TABLE]
_BY_NUMBER = {kind.number: kind for kind in _TYPES}
_BY_NAME = {kind.name: kind for kind in _TYPES}
_BY_NUMPY = {kind.dtype: kind for kind in _TYPES}


def by_number(number: int) -> DataType | None:
    """Return the type with this enum value, or None if it cannot cross the wire."""
    return _BY_NUMBER.get(number)


def by_name(name: str) -> DataType | None:
    """Return the type with this short name (float32, string, …), or None."""
    return _BY_NAME.get(name)


def by_numpy(dtype: "np.dtype[Any]") -> DataType | None:
    """Return the type of a numpy array's elements; byte and unicode strings are `string`; else None."""
    if dtype.kind in "SUO":
        return _BY_NAME["string"]
    return _BY_NUMPY.get(dtype.newbyteorder("<"))
