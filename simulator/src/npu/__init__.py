"""An emulated Brainwave NPU: what it computes, how long it takes, and the device that pretends to be one.

`npu.compiler` turns an ONNX model into a `npu.program.Program`; `npu.oracle` computes it, `npu.timing` times
it, `npu.device` serves it. The arithmetic is defined in ARITHMETIC.md.
"""

__version__ = "0.1.0"
