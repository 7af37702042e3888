"""PredictionClient against a real gRPC server in this process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import accel.prediction
import grpc
import numpy as np
import pytest
from accel import CallInfo, OutputError, PredictionClient
from accel.retries import ATTEMPTS, backoff
from accel.tfs import tensors
from accel.tfs.messages import PredictResponse
from client_harness import serving, signature

ANSWERS = {"a:0": np.array([[1, 2]], np.float32), "b:0": np.array([[3]], np.float32)}


def answer(request: Any, context: Any) -> Any:
    """Both outputs, or those that the filter names; clocks in the trailing metadata."""
    response = PredictResponse()
    for name in request.output_filter or ANSWERS:
        if name in ANSWERS:
            response.outputs[name].CopyFrom(tensors.to_proto(ANSWERS[name], as_fields=True))
    clocks = (("accel-simulated-us", "1500.5"), ("accel-device-wall-us", "7000"))
    context.set_trailing_metadata((*clocks, ("accel-device-id", "fpga0"), ("accel-model-digest", "sha256:1")))
    return response


def failing(*codes: grpc.StatusCode, trailing: tuple[tuple[str, str], ...] = ()) -> Callable[[Any, Any], Any]:
    """Fails once with each code, then answers."""
    left = list(codes)

    def predict(request: Any, context: Any) -> Any:
        if left:
            context.set_trailing_metadata(trailing)
            context.abort(left.pop(0), "not now")
        return answer(request, context)

    return predict


OUTPUTS: dict[str, tuple[Any, Any]] = {
    "a name gives its array": ("b:0", ANSWERS["b:0"]),
    "a list gives a list in that order": (["b:0", "a:0"], [ANSWERS["b:0"], ANSWERS["a:0"]]),
    "a list of one is a list": (["a:0"], [ANSWERS["a:0"]]),
    "none gives all, sorted by name": (None, [ANSWERS["a:0"], ANSWERS["b:0"]]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name: str) -> None:
    wanted, expected = OUTPUTS[name]
    with serving(answer) as (port, seen), PredictionClient("127.0.0.1", port) as client:
        got = client.score_numpy_arrays({"x": np.zeros(3, np.float32)}, wanted)
    assert type(got) is type(expected)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (request,) = seen.requests
    assert list(request.output_filter) == ([wanted] if isinstance(wanted, str) else wanted or [])


def test_files_come_back_without_the_batch_dimension(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8bytes")
    with serving(answer) as (port, seen), PredictionClient("127.0.0.1", port) as client:
        one = client.score_file(tmp_path / "picture.jpg", outputs="a:0")
        both = client.score_file(str(tmp_path / "picture.jpg"), "Placeholder:0", ["a:0", "b:0"])
    np.testing.assert_array_equal(one, [1, 2])
    assert [array.shape for array in both] == [(2,), (1,)]
    assert tensors.from_proto(seen.requests[0].inputs["images"]).tolist() == [b"\xff\xd8bytes"]
    assert list(seen.requests[1].inputs) == ["Placeholder:0"]


RAW = {
    # name: (bytes, shape, dtype), array that arrives
    "numpy type": ((np.float32([1, 2]).tobytes(), (2,), np.float32), np.array([1, 2], np.float32)),
    "type name": ((b"\x01\x02", (2, 1), "uint8"), np.array([[1], [2]], np.uint8)),
    "enum value": ((b"\x01\x00\x00\x00", (1,), 3), np.array([1], np.int32)),
    "string": ((b"file", (1,), "string"), np.array([b"file"], dtype=object)),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_tensors(name: str) -> None:
    given, expected = RAW[name]
    with serving(answer) as (port, seen), PredictionClient("127.0.0.1", port) as client:
        client.score_tensors({"x": given})
    np.testing.assert_array_equal(tensors.from_proto(seen.requests[0].inputs["x"]), expected)


def test_what_the_server_did_not_send() -> None:
    with (
        serving(answer) as (port, _),
        PredictionClient("127.0.0.1", port) as client,
        pytest.raises(OutputError, match=r"no output 'c:0'"),
    ):
        client.score_numpy_arrays({}, "c:0")


def test_clocks_of_the_last_call() -> None:
    with serving(answer) as (port, _), PredictionClient("127.0.0.1", port) as client:
        assert client.last_call == CallInfo()
        client.score_numpy_arrays({})
        call = client.last_call
    assert call.simulated_seconds == pytest.approx(0.0015005)
    assert call.device_wall_seconds == pytest.approx(0.007)
    assert (call.device_id, call.model_digest, call.attempts) == ("fpga0", "sha256:1", 1)
    assert 0 < call.seconds < 10


METADATA = {
    # name: (arguments, metadata that arrives)
    "key": ({"access_token": "k"}, {"authorization": "Bearer k"}),
    "route": ({"service_name": "s"}, {"x-ms-aml-grpc-service-route": "/api/v1/service/s"}),
    "neither": ({}, {}),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str) -> None:
    arguments, expected = METADATA[name]
    with serving(answer) as (port, seen), PredictionClient("127.0.0.1", port, **arguments) as client:
        client.score_numpy_arrays({})
    ours = ("authorization", "x-ms-aml-grpc-service-route")
    assert {key: value for key, value in seen.metadata[0].items() if key in ours} == expected


U, A, R = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED
PUSHBACK = (("grpc-retry-pushback-ms", "30"),)
WAITS = {
    # name: (attempt, code, trailing metadata) -> shortest and longest wait, or None
    "the first": ((1, U, ()), (0.1, 0.2)),
    "doubles": ((3, A, ()), (0.4, 0.8)),
    "the last": ((ATTEMPTS, U, ()), None),
    "a bad request": ((1, grpc.StatusCode.INVALID_ARGUMENT, ()), None),
    "a wrong key": ((1, grpc.StatusCode.UNAUTHENTICATED, ()), None),
    "a server's bug": ((1, grpc.StatusCode.INTERNAL, ()), None),
    "a passed deadline": ((1, grpc.StatusCode.DEADLINE_EXCEEDED, ()), None),
    "too large": ((1, R, ()), None),
    "a full queue": ((1, R, PUSHBACK), (0.03, 0.03)),
    "a hint above ours": ((1, U, (("grpc-retry-pushback-ms", "5000"),)), (5, 5)),
    "a hint that is none": ((1, R, (("grpc-retry-pushback-ms", "-1"),)), None),
}


@pytest.mark.parametrize("name", WAITS)
def test_waits(name: str) -> None:
    given, expected = WAITS[name]
    wait = backoff(*given)
    if expected is None:
        assert wait is None
    else:
        assert wait is not None
        assert expected[0] <= wait <= expected[1]


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's pauses, which take no time here."""
    pauses: list[float] = []
    monkeypatch.setattr(accel.prediction.time, "sleep", pauses.append)
    return pauses


def test_transient_failures_are_repeated(waited: list[float]) -> None:
    with (
        serving(failing(U, A, R, trailing=PUSHBACK)) as (port, _),
        PredictionClient("127.0.0.1", port) as client,
    ):
        client.score_numpy_arrays({})
        assert client.last_call.attempts == 4
    assert len(waited) == 3


def test_permanent_failures_are_raised_at_once(waited: list[float]) -> None:
    with (
        serving(failing(grpc.StatusCode.INVALID_ARGUMENT)) as (port, seen),
        PredictionClient("127.0.0.1", port) as client,
        pytest.raises(grpc.RpcError) as refused,
    ):
        client.score_numpy_arrays({})
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "not now"
    assert (len(seen.requests), waited) == (1, [])


def test_failures_end(waited: list[float]) -> None:
    with (
        serving(failing(*[U] * 9)) as (port, seen),
        PredictionClient("127.0.0.1", port) as client,
        pytest.raises(grpc.RpcError),
    ):
        client.score_numpy_arrays({})
    assert (len(seen.requests), len(waited)) == (ATTEMPTS, ATTEMPTS - 1)


def test_a_restarted_server_is_found_again() -> None:
    with serving(answer) as (port, _):
        client = PredictionClient("127.0.0.1", port)
        client.score_numpy_arrays({})
    with serving(answer, port=port):
        client.score_numpy_arrays({})
        client.close()


def test_the_connection_is_kept_until_it_was_idle_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(accel.prediction.time, "monotonic", lambda: now[0])
    idle = timedelta(minutes=1)
    with (
        serving(answer) as (port, seen),
        PredictionClient("127.0.0.1", port, channel_shutdown_timeout=idle) as client,
    ):
        for later, connections in ((0, 1), (50, 1), (20, 1), (70, 2)):
            now[0] += later
            client.score_numpy_arrays({})
            assert len(seen.peers) == connections


def test_threads_share_a_client() -> None:
    with serving(answer) as (port, seen), PredictionClient("127.0.0.1", port) as client:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: client.score_numpy_arrays({}, "a:0"), range(40)))
        assert len(results) == 40
        assert len(seen.peers) == 1


def test_declared_inputs_and_outputs() -> None:
    with serving(answer, signature(images=7)) as (port, _), PredictionClient("127.0.0.1", port) as client:
        inputs, outputs = client.get_metadata()
    assert [(info.alias, info.name, info.dtype, info.shape) for info in inputs] == [
        ("images", "images:0", "string", (-1,))
    ]
    assert [info.alias for info in outputs] == ["scores"]


PORTS = {"plain": (False, None, 80), "ssl": (True, None, 443), "given": (True, 8500, 8500)}


@pytest.mark.parametrize(("use_ssl", "port", "expected"), PORTS.values(), ids=PORTS)
def test_default_ports(use_ssl: bool, port: int | None, expected: int) -> None:
    assert PredictionClient("host", port, use_ssl)._target == f"host:{expected}"


def test_an_address_is_needed() -> None:
    with pytest.raises(ValueError, match="address"):
        PredictionClient("")
