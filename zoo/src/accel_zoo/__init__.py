"""The networks that the accelerator was made for, as tables, and what is built from them."""

from accel_zoo.network import Kind, Layer, Network
from accel_zoo.onnx_graph import build_onnx
from accel_zoo.tables import FIVE, names, table

__all__ = ["FIVE", "Kind", "Layer", "Network", "build_onnx", "names", "table"]
