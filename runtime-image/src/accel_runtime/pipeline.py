"""One request's way through a model: decode → host graph → FPGA → host graph.

The same code serves requests and verifies conversions. It knows no network and no queue; the device is
whatever has `run(x)`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from accel.tfs import types
from numpy.typing import NDArray

from accel_runtime.artifact import Artifact, TensorSpec
from accel_runtime.decode import decode_pictures
from accel_runtime.errors import ArtifactError, InvalidInput
from accel_runtime.pictures import MAX_PIXELS
from accel_runtime.sessions import open_session

__all__ = ["Clocks", "Device", "DeviceRun", "Pipeline"]

Arrays = dict[str, NDArray[Any]]


class DeviceRun(Protocol):
    """What one inference on a device gives."""

    @property
    def output(self) -> NDArray[Any]:
        """The result, [h,w,C]."""

    @property
    def simulated_seconds(self) -> float:
        """The FPGA's time by the cycle-level model."""

    @property
    def wall_seconds(self) -> float:
        """The time the emulator took."""

    @property
    def device_id(self) -> str:
        """Which device computed."""


class Device(Protocol):
    """One FPGA with the model's program on it; `npu.device.client.DeviceClient` is one."""

    def run(self, x: NDArray[np.float32]) -> DeviceRun:
        """Compute one picture [H,W,C]."""


@dataclass
class Clocks:
    """Where the time of one request went, in seconds; the two device clocks are never mixed."""

    simulated: float = 0.0
    device_wall: float = 0.0
    device_id: str = ""
    inferences: int = 0
    decode: float = 0.0
    pre: float = 0.0
    post: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def total(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started


class Pipeline:
    """An artifact with its ONNX Runtime sessions and its device (None where the model has no device part)."""

    def __init__(
        self,
        artifact: Artifact,
        device: Device | None = None,
        *,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_batch: int | None = None,
    ) -> None:
        self.artifact = artifact
        self.device = device
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        graph = artifact.graph
        self._pre = None if graph.pre is None else open_session(graph.pre, threads=threads)
        self._post = None if graph.post is None else open_session(graph.post, threads=threads)
        self._check_flow()

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        *,
        clocks: Clocks | None = None,
        compute: Callable[[NDArray[np.float32]], DeviceRun] | None = None,
    ) -> Arrays:
        """Return all outputs by tensor name for `inputs` by tensor name or alias.

        `clocks` is filled in; `compute` replaces `device.run` for this request (a server brings its own
        deadline). Raises InvalidInput for what the caller can mend; the device's own errors pass through.
        """
        clocks = clocks if clocks is not None else Clocks()
        tensors = self.bind(inputs)
        graph = self.artifact.graph
        head = self.artifact.decode
        if head is not None and head.tensor not in tensors:
            began = time.perf_counter()
            strings = tensors.pop(head.input)
            tensors[head.tensor] = decode_pictures(head, strings, max_pixels=self._max_pixels)
            clocks.decode = time.perf_counter() - began
        began = time.perf_counter()
        _execute(self._pre, tensors)
        clocks.pre = time.perf_counter() - began
        if graph.program is not None:
            compute = compute or self._device().run
            tensors[graph.device_output] = _compute(tensors[graph.device_input], compute, clocks)
        began = time.perf_counter()
        _execute(self._post, tensors)
        clocks.post = time.perf_counter() - began
        return {spec.name: tensors[spec.name] for spec in self.artifact.outputs}

    def bind(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the request's arrays by tensor name; raises InvalidInput for names, types and shapes that
        do not fit.

        Where the model takes encoded pictures, already decoded ones are taken too, under the tensor's own
        name.
        """
        known = {spec.name: spec for spec in self.artifact.inputs}
        known.update({spec.alias: spec for spec in self.artifact.inputs})
        head = self.artifact.decode
        bound: Arrays = {}
        for key, array in inputs.items():
            if head is not None and key == head.tensor and key not in known:
                bound[key] = _decoded(key, array, head.dtype)
                continue
            spec = known.get(key)
            if spec is None:
                raise InvalidInput(f"the model has no input {key!r}; its inputs are {self._names()}")
            if spec.name in bound:
                raise InvalidInput(f"input {spec.name!r} is given twice, by name and by alias {spec.alias!r}")
            bound[spec.name] = self._checked(key, array, spec)
        for spec in self.artifact.inputs:
            decoded = head is not None and spec.name == head.input and head.tensor in bound
            if spec.name not in bound and not decoded:
                raise InvalidInput(f"input {spec.alias!r} is missing; the model's inputs are {self._names()}")
        return bound

    def _checked(self, key: str, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
        found = types.by_numpy(array.dtype)
        if found is not spec.dtype:
            got = f"{found.name} ({found.enum_name})" if found else str(array.dtype)
            raise InvalidInput(f"input {key!r} must be {spec.dtype.name} ({spec.dtype.enum_name}), got {got}")
        if not spec.fits(array.shape):
            raise InvalidInput(
                f"input {key!r} must have the shape {list(spec.shape)} (-1: any), got {list(array.shape)}"
            )
        if not array.size:
            raise InvalidInput(f"input {key!r} is empty: shape {list(array.shape)}")
        if self._max_batch is not None and spec.shape[:1] == (-1,) and array.shape[0] > self._max_batch:
            raise InvalidInput(
                f"input {key!r}: a batch of {array.shape[0]}; at most {self._max_batch} are accepted"
            )
        return array

    def _device(self) -> Device:
        if self.device is None:
            raise ArtifactError("the model has a device part and this pipeline has no device")
        return self.device

    def _names(self) -> str:
        return ", ".join(
            f"{spec.alias!r}" if spec.alias == spec.name else f"{spec.alias!r} (tensor {spec.name!r})"
            for spec in self.artifact.inputs
        )

    def _check_flow(self) -> None:
        """Follow the tensors through the parts once, so that a broken artifact fails at load and not at a
        request.
        """
        artifact, graph = self.artifact, self.artifact.graph
        there = {spec.name for spec in artifact.inputs}
        if artifact.decode is not None:
            if artifact.decode.input not in there:
                raise ArtifactError(
                    f"model.json: decode.input {artifact.decode.input!r} is no input of the model"
                )
            there = there - {artifact.decode.input} | {artifact.decode.tensor}
        there = _after(self._pre, "pre", there)
        if graph.program is not None:
            if graph.device_input not in there:
                raise ArtifactError(f"model.json: nothing produces the device's input {graph.device_input!r}")
            there = there | {graph.device_output}
        there = _after(self._post, "post", there)
        missing = [spec.name for spec in artifact.outputs if spec.name not in there]
        if missing:
            raise ArtifactError(f"model.json: nothing produces the outputs {missing}")


def _after(session: Any, part: str, there: set[str]) -> set[str]:
    if session is None:
        return there
    missing = [node.name for node in session.get_inputs() if node.name not in there]
    if missing:
        raise ArtifactError(f"the {part} graph reads {missing}; available are {sorted(there)}")
    return there | {node.name for node in session.get_outputs()}


def _execute(session: Any, tensors: Arrays) -> None:
    if session is None:
        return
    names = [node.name for node in session.get_outputs()]
    try:
        results = session.run(names, {node.name: tensors[node.name] for node in session.get_inputs()})
    except (
        Exception
    ) as error:  # onnxruntime's errors share no base class; the shapes were checked, the values not
        raise InvalidInput(f"the model's graph refuses these inputs: {error}") from error
    tensors.update(zip(names, results, strict=True))


def _compute(
    batch: NDArray[Any], compute: Callable[[NDArray[np.float32]], DeviceRun], clocks: Clocks
) -> NDArray[np.float32]:
    """Send a batch [N,H,W,C] through the device picture by picture: an FPGA computes at batch size 1."""
    if batch.ndim != 4:
        raise InvalidInput(
            f"the device takes batches of pictures [N,H,W,C], the graph gave {list(batch.shape)}"
        )
    if not len(batch):
        raise InvalidInput("the batch is empty")
    outputs = []
    for picture in batch:
        run = compute(np.ascontiguousarray(picture, dtype=np.float32))
        outputs.append(np.asarray(run.output, dtype=np.float32))
        clocks.simulated += run.simulated_seconds
        clocks.device_wall += run.wall_seconds
        clocks.device_id = run.device_id
        clocks.inferences += 1
    return np.stack(outputs)


def _decoded(key: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    if array.dtype != dtype or array.ndim != 4 or not array.size:
        raise InvalidInput(
            f"input {key!r} takes decoded pictures: {dtype} [N,H,W,C], got {array.dtype} {list(array.shape)}"
        )
    return array
