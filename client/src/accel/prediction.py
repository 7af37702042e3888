"""PredictionClient: scores pictures and arrays on an accelerated service (or on any TensorFlow Serving).

Names and arguments are those of the original's third generation. What its users ran into is mended: the key
is sent, also without TLS; a root certificate can be given; permanent errors are raised at once; the outputs
that are not asked for do not cross the wire; a list of outputs loses the batch dimension as one output
does.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from accel.calls import CallInfo, TensorInfo
from accel.errors import OutputError
from accel.retries import backoff
from accel.tfs import tensors, types
from accel.tfs.messages import GetModelMetadataRequest, PredictRequest, SignatureDefMap, TensorProto
from accel.tfs.services import PREDICTION_SERVICE, Stub

__all__ = ["PredictionClient"]

Arrays = NDArray[Any] | list[NDArray[Any]]
Outputs = str | Sequence[str] | None
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),  # the server's limit decides, with its own text
    ("grpc.enable_retries", 0),  # retries.py knows when; two layers would multiply
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, not the process's old one
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted server is found within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class PredictionClient:
    """Scores on one service. Reuse the object: it keeps its connection. Usable from several threads.

    `access_token` is the service's key. `service_name` becomes the route header of the original's front end.
    A connection that was idle for `channel_shutdown_timeout` is made anew (load balancers cut idle
    connections silently). `root_certificates` is a PEM file's path or its bytes, for services with their
    own CA; `server_name` is the name that the certificate must carry, where the address is another (a
    tunnel).
    """

    def __init__(
        self,
        address: str,
        port: int | None = None,
        use_ssl: bool = False,
        access_token: str = "",
        service_name: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
        *,
        root_certificates: str | Path | bytes | None = None,
        server_name: str | None = None,
    ) -> None:
        if not address:
            raise ValueError("address")
        self._target = f"{address}:{port if port is not None else 443 if use_ssl else 80}"
        self._roots = _roots(root_certificates)
        self._use_ssl = use_ssl
        self._options: list[tuple[str, int | str]] = list(_OPTIONS)
        if server_name:
            self._options.append(("grpc.ssl_target_name_override", server_name))
        self._metadata: list[tuple[str, str]] = []
        if access_token:
            self._metadata.append(("authorization", f"Bearer {access_token}"))
        if service_name:
            self._metadata.append(("x-ms-aml-grpc-service-route", f"/api/v1/service/{service_name}"))
        self._idle = channel_shutdown_timeout.total_seconds()
        self._lock = threading.Lock()
        self._channel: Any = None
        self._used = 0.0
        self._calls = 0  # in flight: a connection in use is never idle
        self._last = threading.local()

    @property
    def last_call(self) -> CallInfo:
        """What is known of this thread's last successful call."""
        info: CallInfo = getattr(self._last, "info", CallInfo())
        return info

    def score_file(
        self, path: str | Path, input_name: str = "images", outputs: Outputs = None, timeout: float = 10.0
    ) -> Arrays:
        """Score a JPEG or PNG file; the outputs come without the batch dimension. See `score_image`."""
        return self.score_image(Path(path).read_bytes(), input_name, outputs, timeout)

    def score_image(
        self, data: bytes, input_name: str = "images", outputs: Outputs = None, timeout: float = 10.0
    ) -> Arrays:
        """Score one encoded picture; `input_name` is an alias or a tensor name. No batch dimension comes
        back.
        """
        picture = np.empty(1, dtype=object)
        picture[0] = data
        answer = self.score_numpy_arrays({input_name: picture}, outputs, timeout)
        return [array[0] for array in answer] if isinstance(answer, list) else answer[0]

    def score_numpy_arrays(
        self, input_map: Mapping[str, NDArray[Any]], outputs: Outputs = None, timeout: float = 30.0
    ) -> Arrays:
        """Score arrays by input name; encoded pictures are arrays of bytes.

        `outputs`: a name gives one array, a list of names a list in that order; None gives the only output,
        or a list of all sorted by name. Raises grpc.RpcError with the server's reason, OutputError for an
        output that the answer lacks, TensorError for arrays that cannot be sent.
        """
        return self._score(
            {name: tensors.to_proto(array) for name, array in input_map.items()}, outputs, timeout
        )

    def score_tensors(
        self,
        input_map: Mapping[str, tuple[bytes, Sequence[int], Any]],
        outputs: Outputs = None,
        timeout: float = 10.0,
    ) -> Arrays:
        """Score raw tensors: name → (bytes, shape, dtype), dtype a TensorFlow enum value, its name, or
        numpy's.

        For strings the bytes are one string and the shape has one element; for numbers they are
        little-endian.
        """
        return self._score({name: _raw(*tensor) for name, tensor in input_map.items()}, outputs, timeout)

    def get_metadata(self, timeout: float = 10.0) -> tuple[list[TensorInfo], list[TensorInfo]]:
        """Return the model's inputs and outputs, as the server declares them."""
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        response = self._call("GetModelMetadata", request, timeout)
        signatures = SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
        signature = signatures[next(iter(sorted(signatures)))]
        return _infos(signature.inputs), _infos(signature.outputs)

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._drop()

    def __enter__(self) -> "PredictionClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _score(self, inputs: Mapping[str, Any], outputs: Outputs, timeout: float) -> Arrays:
        wanted = [outputs] if isinstance(outputs, str) else list(outputs or ())
        request = PredictRequest(output_filter=wanted)
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tensor)
        response = self._call("Predict", request, timeout)
        missing = [name for name in wanted if name not in response.outputs]
        if missing:
            raise OutputError(f"the answer has no output {missing[0]!r}; it has {sorted(response.outputs)}")
        names = wanted or sorted(response.outputs)
        arrays = [tensors.from_proto(response.outputs[name]) for name in names]
        return arrays[0] if isinstance(outputs, str) or (outputs is None and len(arrays) == 1) else arrays

    def _call(self, method: str, request: Any, timeout: float) -> Any:
        attempt = 1
        while True:
            began = time.perf_counter()
            try:
                with self._connection() as stub:
                    response, call = stub[method].with_call(request, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                trailing = [(item.key, item.value) for item in error.trailing_metadata() or ()]
                wait = backoff(attempt, error.code(), trailing)
                if wait is None or "CERTIFICATE_VERIFY_FAILED" in (error.details() or ""):
                    raise  # a certificate does not become trusted by waiting
                attempt += 1
                time.sleep(wait)
                continue
            values = {i.key: i.value for i in call.trailing_metadata() or () if isinstance(i.value, str)}
            self._last.info = CallInfo(time.perf_counter() - began, attempt, values)
            return response

    @contextmanager
    def _connection(self) -> Iterator[Stub]:
        with self._lock:
            if self._channel is not None and not self._calls and time.monotonic() - self._used > self._idle:
                self._drop()
            if self._channel is None:
                self._channel = self._connect()
            self._calls += 1
            stub = Stub(self._channel, PREDICTION_SERVICE)
        try:
            yield stub
        finally:
            with self._lock:
                self._calls -= 1
                self._used = time.monotonic()

    def _connect(self) -> Any:
        if not self._use_ssl:
            return grpc.insecure_channel(self._target, options=self._options)
        credentials = grpc.ssl_channel_credentials(root_certificates=self._roots)
        return grpc.secure_channel(self._target, credentials, options=self._options)

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _roots(given: str | Path | bytes | None) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    return Path(given).read_bytes()


def _raw(data: bytes, shape: Sequence[int], dtype: Any) -> Any:
    kind: types.DataType | None
    if isinstance(dtype, int):
        kind = types.by_number(dtype)
    elif isinstance(dtype, str) and types.by_name(dtype):
        kind = types.by_name(dtype)
    else:
        kind = types.by_numpy(np.dtype(dtype))
    if kind is None:
        raise tensors.TensorError(f"dtype {dtype!r} is not supported")
    proto = TensorProto(dtype=kind.number)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if kind.name == "string":
        proto.string_val.append(data)
    else:
        proto.tensor_content = bytes(data)
    return proto


def _infos(entries: Mapping[str, Any]) -> list[TensorInfo]:
    infos = []
    for alias in sorted(entries):
        entry = entries[alias]
        kind = types.by_number(entry.dtype)
        shape = tuple(int(dim.size) for dim in entry.tensor_shape.dim)
        infos.append(TensorInfo(alias, entry.name, kind.name if kind else f"dtype {entry.dtype}", shape))
    return infos
