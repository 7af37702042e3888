"""A small network, compiled and packed as the toolchain packs it, and the real emulated device to run it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accel_runtime.server import Server
from accel_runtime.settings import Settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS = 16, 3


def network() -> onnx.ModelProto:
    """A convolution and a classifier, NCHW as the converter gives it: [N,3,16,16] → 4 probabilities."""
    rng = np.random.default_rng(7)
    weights = {
        "w": rng.normal(0, 0.02, (8, CHANNELS, 3, 3)),
        "scale": rng.uniform(0.5, 1.5, 8),
        "bias": rng.normal(0, 0.1, 8),
        "mean": rng.normal(0, 0.1, 8),
        "var": rng.uniform(0.5, 1.5, 8),
        "fc": rng.normal(0, 0.1, (8, 4)),
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["nchw", "offset"], ["centred"]),
        helper.make_node("Conv", ["centred", "w"], ["conv"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["conv", "scale", "bias", "mean", "var"], ["bn"]),
        helper.make_node("Relu", ["bn"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities:0"]),
    ]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.float32(127.5), "offset"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", SIDE, SIDE, CHANNELS])],
        [helper.make_tensor_value_info("probabilities:0", TensorProto.FLOAT, ["N", 4])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@dataclass(frozen=True)
class Packed:
    """A model folder and the float network that it came from."""

    folder: Path
    network: onnx.ModelProto

    def document(self) -> dict[str, Any]:
        return json.loads((self.folder / "model.json").read_text())

    def write(self, document: dict[str, Any]) -> None:
        (self.folder / "model.json").write_text(json.dumps(document))


def pack(folder: Path) -> Packed:
    """Compile the network and write its model folder: JPEG strings in, probabilities out."""
    from npu.compiler import compile_model

    model = network()
    compiled = compile_model(model)
    folder.mkdir(parents=True)
    (folder / "device.npu").write_bytes(compiled.program.to_bytes())
    parts: dict[str, str | None] = {"pre": None, "post": None}
    for part, graph in (("pre", compiled.pre), ("post", compiled.post)):
        if graph is not None:
            parts[part] = f"host_{part}.onnx"
            (folder / f"host_{part}.onnx").write_bytes(graph.SerializeToString())
    packed = Packed(folder, model)
    packed.write(
        {
            "schema": "accel.dev/artifact/v1",
            "name": "tiny",
            "signature": "serving_default",
            "inputs": [{"name": "image_bytes:0", "alias": "images", "dtype": "string", "shape": [-1]}],
            "outputs": [
                {"name": "probabilities:0", "alias": "output_alias", "dtype": "float32", "shape": [-1, 4]}
            ],
            "decode": {
                "input": "image_bytes:0",
                "tensor": "pixels",
                "channels": CHANNELS,
                "dtype": "float32",
                "steps": [{"op": "resize", "method": "bilinear", "height": SIDE, "width": SIDE}],
            },
            "graph": {
                **parts,
                "program": "device.npu",
                "deviceInput": compiled.device_input,
                "deviceOutput": compiled.device_output,
            },
            "precision": "msfp-a10",
            "sourceSha256": "0" * 64,
        }
    )
    return packed


class DeviceProcess:
    """`python -m npu.device`, started, killed and started again by the test."""

    def __init__(
        self, root: Path, name: str = "fpga0", flash_seconds: float = 0.1, sku: str = "bw-cnn-a10"
    ) -> None:
        self.root = root
        self.name = name
        self.sku = sku
        self.flash_seconds = flash_seconds
        self.folder = root / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "device.sock"
        self.control = root / f"{name}.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, flash_seconds: float | None = None) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "npu.device", "--id", self.name, "--die-with-parent"),
                *("--sku", self.sku),
                *("--socket", str(self.socket), "--control", str(self.control)),
                *("--flash-seconds", str(self.flash_seconds if flash_seconds is None else flash_seconds)),
            ],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


def jpeg(seed: int = 0, width: int = 40, height: int = 30) -> bytes:
    """A smooth random picture as a JPEG file."""
    import io

    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(out, "JPEG", quality=90)
    return out.getvalue()


def strings(*items: bytes) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def until(condition: Callable[[], Any], seconds: float = 60.0, what: Callable[[], str] = lambda: "") -> Any:
    """Return `condition()` as soon as it is true."""
    pause = threading.Event()
    limit = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < limit, f"did not happen in {seconds} s: {what() or condition}"
        pause.wait(0.02)


def local_settings(model: Path, device: DeviceProcess, **changes: Any) -> Settings:
    """A server on 127.0.0.1 with ports of the system's choice, one device and no wait at the end."""
    settings = Settings(
        model_dir=model,
        auth=False,
        devices=(device.name,),
        device_root=device.root,
        host="127.0.0.1",
        grpc_port=0,
        health_port=0,
        metrics_port=0,
        drain_delay=0.0,
    )
    return replace(settings, **changes)


def changed(settings: Settings, **changes: Any) -> Settings:
    """The same settings but for `changes`."""
    return replace(settings, **changes)


class RunningServer:
    """A server in this process, on an event loop and a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self._wait(self._start(settings))

    def stop(self) -> Future[None]:
        """Begin to drain; the result is there when the server has stopped."""
        return asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop)

    def wait_ready(self) -> "RunningServer":
        """Return when the device serves."""
        until(lambda: self.server.device_state.ready, what=lambda: self.server.device_state.text)
        return self

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop().result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self, settings: Settings) -> Server:
        server = Server(settings)
        await server.start()
        return server

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)
