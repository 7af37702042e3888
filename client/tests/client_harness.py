"""A small model server for the client's tests: real gRPC, answers made by the test."""

import base64
import io
import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from accel.cli import main
from accel.tfs.messages import GetModelMetadataResponse, SignatureDefMap
from accel.tfs.services import PREDICTION_SERVICE, handler

Answer = Callable[[Any, Any], Any]


@dataclass
class Seen:
    """What the server has received."""

    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)


@contextmanager
def serving(predict: Answer, metadata: Any = None, port: int = 0) -> Iterator[tuple[int, Seen]]:
    """Serve PredictionService on 127.0.0.1; yields the port and what is seen."""
    seen = Seen()

    def call(request: Any, context: Any) -> Any:
        seen.requests.append(request)
        seen.metadata.append({item.key: item.value for item in context.invocation_metadata()})
        seen.peers.add(context.peer())
        return predict(request, context)

    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    methods = {"Predict": call, "GetModelMetadata": lambda _request, _context: metadata}
    server.add_generic_rpc_handlers((handler(PREDICTION_SERVICE, methods),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield bound, seen
    finally:
        server.stop(None).wait()


def signature(**inputs: int) -> Any:
    """A GetModelMetadata answer: inputs by alias and TensorFlow dtype number, one output `scores`."""
    signatures = SignatureDefMap()
    entry = signatures.signature_def["serving_default"]
    for alias, dtype in inputs.items():
        entry.inputs[alias].name = f"{alias}:0"
        entry.inputs[alias].dtype = dtype
        entry.inputs[alias].tensor_shape.dim.add(size=-1)
    entry.outputs["scores"].name = "softmax:0"
    entry.outputs["scores"].dtype = 1
    response = GetModelMetadataResponse()
    response.metadata["signature_def"].value = signatures.SerializeToString()
    return response


KUBECTL = """#!{python}
import json, os, socket, sys, threading
arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
objects = json.load(open({objects!r}))
open({log!r}, "a").write(json.dumps(sys.argv[1:]) + "\\n")
if "broken" in objects:
    sys.exit(objects["broken"])
elif arguments[0] == "get" and len(arguments) == 2:
    kinds, denied = arguments[1].split(","), objects.get("denied", [])
    names = [key for key in objects if "/" in key and key.split("/")[0] in set(kinds) - set(denied)]
    print(json.dumps({{"kind": "List", "items": [objects[name] for name in names]}}))
    refused = [kind for kind in kinds if kind in denied]
    words = 'Error from server (Forbidden): {{0}} is forbidden: User "u" cannot list resource "{{0}}" in API group ""'
    sys.exit("\\n".join(words.format(kind.partition(".")[0]) for kind in refused) if refused else 0)
elif arguments[0] == "logs":
    if "logs" in objects.get("denied", []):
        sys.exit('Error from server (Forbidden): pods "x" is forbidden: User "u" cannot get resource "pods/log" in ...')
    print(objects.get(f"log {{arguments[1]}}", ""))
elif arguments[0] == "get":
    found = objects.get(f"{{arguments[1]}}/{{arguments[2]}}")
    if found is None:
        sys.exit(f'Error from server (NotFound): {{arguments[1]}} "{{arguments[2]}}" not found')
    print(json.dumps(found))
elif arguments[0] == "port-forward":
    target = objects.get(f"forward {{arguments[1]}}{{arguments[2]}}")
    if target is None:
        sys.exit(f'Error from server (NotFound): "{{arguments[1]}}" not found')
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"Forwarding from 127.0.0.1:{{listener.getsockname()[1]}} -> {{target}}", flush=True)
    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", target))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class Cluster:
    """A `kubectl` on PATH that knows the objects it is given: the program is the client's only way to a
    cluster.
    """

    def __init__(self, folder: Path) -> None:
        import sys

        self._objects = folder / "objects.json"
        self._log = folder / "calls"
        self.bin = folder / "bin"
        self.bin.mkdir()
        program = self.bin / "kubectl"
        program.write_text(
            KUBECTL.format(python=sys.executable, objects=str(self._objects), log=str(self._log))
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self._known: dict[str, Any] = {}
        self._write()
        self.path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def put(self, kind: str, name: str, /, **content: Any) -> None:
        meta = {
            "name": name,
            "namespace": "demo",
            "generation": 1,
            "uid": f"{kind}/{name}",
            "resourceVersion": "1",
        }
        meta |= {"creationTimestamp": "2026-01-01T00:00:00Z"} | content.pop("metadata", {})
        self._known[f"{kind}/{name}"] = {"metadata": meta} | content
        self._write()

    def log(self, pod: str, text: str) -> None:
        """`kubectl logs` of a pod."""
        self._known[f"log {pod}"] = text
        self._write()

    def broken(self, words: str) -> None:
        """Let every call fail with these words; empty: work again."""
        self._known.pop("broken", None)
        self._known |= {"broken": words} if words else {}
        self._write()

    def deny(self, *kinds: str) -> None:
        """Take away the right to list kinds, or to read "logs"."""
        self._known["denied"] = list(kinds)
        self._write()

    def forward(self, target: str, port: int, to: int) -> None:
        """`kubectl port-forward target :port` reaches the local port `to`."""
        self._known[f"forward {target}:{port}"] = to
        self._write()

    def secret(self, name: str, **keys: str) -> None:
        self.put("secret", name, data={k: base64.b64encode(v.encode()).decode() for k, v in keys.items()})

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def _write(self) -> None:
        fresh = self._objects.with_suffix(".new")  # a kubectl may be reading the old one
        fresh.write_text(json.dumps(self._known))
        fresh.replace(self._objects)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What the installed command does, without a process of its own."""
    out, error = io.StringIO(), io.StringIO()
    code: object = 0
    with mock.patch("sys.argv", ["kubectl-accel", *arguments]), redirect_stdout(out), redirect_stderr(error):
        try:
            main()
        except SystemExit as left:
            code = left.code
    if isinstance(code, str):  # the interpreter's rule: a text is printed and the code is 1
        error.write(code + "\n")
        code = 1
    return subprocess.CompletedProcess(list(arguments), int(str(code or 0)), out.getvalue(), error.getvalue())


def after(seconds: float, action: Callable[[], None]) -> threading.Timer:
    """Run `action` later, on a thread."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer
