"""The emulated card: one process that holds one program, computes with the accelerator's numbers and breaks
like one.

`python -m npu.device` is the card; `npu.device.client.DeviceClient` is how a model server uses it, and all
that a model server may import from here. The client imports numpy and nothing heavier.
"""
