"""The server over real gRPC, with the real emulated device behind it."""

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from accel.tfs import tensors
from accel.tfs.messages import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelVersionStatus,
    PredictRequest,
    SignatureDefMap,
)
from accel.tfs.services import MODEL_SERVICE, PREDICTION_SERVICE, Stub
from accel_runtime.server import Server
from accel_runtime.settings import Settings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from runtime_harness import (
    DeviceProcess,
    Packed,
    RunningServer,
    changed,
    jpeg,
    local_settings,
    strings,
    until,
)

KEY = "secret-key-1"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def keyed(folder: Path) -> Path:
    """A folder with both keys."""
    folder.mkdir()
    (folder / "primary").write_text(KEY)
    (folder / "secondary").write_text("secret-key-2")
    return folder


@pytest.fixture(scope="module")
def server(
    compiled_folder: Packed, shared_device: DeviceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that no test of the module stops."""
    keys = keyed(tmp_path_factory.mktemp("secret") / "keys")
    settings = local_settings(
        compiled_folder.folder, shared_device, auth=True, keys_dir=keys, model_name="digits", model_version=3
    )
    with RunningServer(settings) as running:
        yield running.wait_ready().server


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def settings(compiled_folder: Packed, device: DeviceProcess) -> Settings:
    """For a server of the test's own, without keys."""
    return local_settings(compiled_folder.folder, device)


def request(**inputs: Any) -> Any:
    """A Predict request; two underscores in a name stand for a colon and its slot."""
    built = PredictRequest()
    for name, value in inputs.items():
        built.inputs[name.replace("__", ":")].CopyFrom(tensors.to_proto(value))
    return built


BATCH = request(images=strings(*[jpeg(seed) for seed in range(60)]))


def predict(channel: Any, asked: Any, key: str = KEY, timeout: float = 60) -> tuple[Any, dict[str, Any]]:
    metadata = (("authorization", key),) if key else ()
    response, call = Stub(channel, PREDICTION_SERVICE)["Predict"].with_call(
        asked, timeout=timeout, metadata=metadata
    )
    return response, {item.key: item.value for item in call.trailing_metadata()}


def test_a_jpeg_is_answered_with_both_clocks(channel: Any, server: Server) -> None:
    response, trailing = predict(channel, request(images=strings(jpeg(1), jpeg(2))))
    answer = tensors.from_proto(response.outputs["output_alias"])
    assert answer.shape == (2, 4)
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)
    assert float(trailing["accel-simulated-us"]) > 0
    assert float(trailing["accel-device-wall-us"]) > 0
    assert trailing["accel-device-id"] == "fpga0"
    assert trailing["accel-model-digest"] == server.artifact.program_digest
    assert response.model_spec.name == "digits"
    assert response.model_spec.version.value == 3


NAMES = {
    # name: (input name, output_filter, keys of the answer)
    "aliases": ("images", [], ["output_alias"]),
    "tensor names": ("image_bytes:0", [], ["probabilities:0"]),
    "a filter by alias": ("image_bytes:0", ["output_alias"], ["output_alias"]),
    "a filter by tensor name": ("images", ["probabilities:0"], ["probabilities:0"]),
    "a filter with both": (
        "images",
        ["probabilities:0", "output_alias"],
        ["output_alias", "probabilities:0"],
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_answer(channel: Any, name: str) -> None:
    given, wanted, keys = NAMES[name]
    asked = request(**{given.replace(":", "__"): strings(jpeg())})
    asked.output_filter.extend(wanted)
    response, _ = predict(channel, asked)
    assert sorted(response.outputs) == keys
    assert response.outputs[keys[0]].float_val, "TensorFlow Serving's own form: clients read float_val"


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
REFUSED = {
    # name: (change of a good request, key, code, words)
    "unknown input": (lambda r: r.inputs["x"].CopyFrom(tensors.to_proto([1.0])), KEY, INVALID, "'images'"),
    "unknown output": (lambda r: r.output_filter.append("x"), KEY, INVALID, "'output_alias'"),
    "wrong dtype": (lambda r: r.inputs["images"].CopyFrom(tensors.to_proto([1.0])), KEY, INVALID, "float64"),
    "empty string": (lambda r: r.inputs["images"].string_val.__setitem__(0, b""), KEY, INVALID, "empty"),
    "no picture": (lambda r: r.inputs["images"].string_val.__setitem__(0, b"hi"), KEY, INVALID, "not a JPEG"),
    "truncated": (
        lambda r: r.inputs["images"].string_val.__setitem__(0, jpeg()[:300]),
        KEY,
        INVALID,
        "truncated or corrupt",
    ),
    "shape and values": (
        lambda r: r.inputs["images"].string_val.append(b"x"),
        KEY,
        INVALID,
        "needs 1 strings",
    ),
    "nothing": (lambda r: r.Clear(), KEY, INVALID, "missing"),
    "another model": (lambda r: setattr(r.model_spec, "name", "cats"), KEY, NOT_FOUND, "'cats'"),
    "another version": (lambda r: setattr(r.model_spec.version, "value", 4), KEY, NOT_FOUND, "version 3"),
    "a label": (lambda r: setattr(r.model_spec, "version_label", "stable"), KEY, NOT_FOUND, "labels"),
    "another signature": (
        lambda r: setattr(r.model_spec, "signature_name", "x"),
        KEY,
        INVALID,
        "serving_default",
    ),
    "no key": (lambda r: None, "", UNAUTHENTICATED, "no API key"),
    "wrong key": (lambda r: None, "secret-key-3", UNAUTHENTICATED, "key is wrong"),
    "17 MB": (
        lambda r: r.inputs["images"].string_val.__setitem__(0, bytes(17 << 20)),
        KEY,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "16777216",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_requests_leave_the_server_alive(channel: Any, name: str) -> None:
    change, key, code, words = REFUSED[name]
    asked = request(images=strings(jpeg()))
    change(asked)
    with pytest.raises(grpc.RpcError) as refused:
        predict(channel, asked, key)
    assert refused.value.code() is code, refused.value.details()
    assert words in refused.value.details()
    predict(channel, request(images=strings(jpeg())))


def test_bytes_that_are_no_message_are_an_argument_error(channel: Any) -> None:
    call = channel.unary_unary(f"/{PREDICTION_SERVICE}/Predict")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff" * 100, metadata=(("authorization", KEY),))
    assert refused.value.code() is INVALID
    assert "PredictRequest" in refused.value.details()


@pytest.mark.parametrize("key", [KEY, f"Bearer {KEY}", f"bearer {KEY}", "secret-key-2"])
def test_both_keys_in_both_forms(channel: Any, key: str) -> None:
    predict(channel, request(images=strings(jpeg())), key)


def test_the_models_own_names_are_taken(channel: Any) -> None:
    asked = request(images=strings(jpeg()))
    asked.model_spec.name, asked.model_spec.version.value = "digits", 3
    asked.model_spec.signature_name = "serving_default"
    predict(channel, asked)


def test_metadata_and_status(channel: Any) -> None:
    metadata = (("authorization", KEY),)
    asked = GetModelMetadataRequest(metadata_field=["signature_def"])
    answer = Stub(channel, PREDICTION_SERVICE)["GetModelMetadata"](asked, metadata=metadata)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.inputs["images"].name == "image_bytes:0"
    assert signature.outputs["output_alias"].name == "probabilities:0"
    assert [dim.size for dim in signature.outputs["output_alias"].tensor_shape.dim] == [-1, 4]
    (version,) = model_status(channel).model_version_status
    assert (version.version, version.state) == (3, ModelVersionStatus.AVAILABLE)


def model_status(channel: Any) -> Any:
    metadata = (("authorization", KEY),)
    return Stub(channel, MODEL_SERVICE)["GetModelStatus"](GetModelStatusRequest(), metadata=metadata)


def reflect(channel: Any, key: str, **what: Any) -> Any:
    asked = reflection_pb2.ServerReflectionRequest(**what)
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([asked]), metadata=(("authorization", key),))
    return answer


def test_reflection_shows_the_true_names(channel: Any) -> None:
    answer = reflect(channel, KEY, list_services="")
    names = {service.name for service in answer.list_services_response.service}
    assert {PREDICTION_SERVICE, MODEL_SERVICE, "grpc.health.v1.Health"} <= names
    for symbol in (PREDICTION_SERVICE, "tensorflow.TensorProto", "grpc.health.v1.Health"):
        answer = reflect(channel, KEY, file_containing_symbol=symbol)
        assert answer.file_descriptor_response.file_descriptor_proto, symbol


def test_reflection_needs_a_key(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        reflect(channel, "wrong", list_services="")
    assert refused.value.code() is UNAUTHENTICATED


def health(port: int, service: str) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        return int(answer.status)


def test_health_needs_no_key(server: Server) -> None:
    assert health(server.health_port, "live") == SERVING
    assert health(server.health_port, "ready") == SERVING
    assert health(server.port, PREDICTION_SERVICE) == SERVING


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.1])
def test_a_deadline_is_honoured(channel: Any, share: float) -> None:
    """The time is over before the call arrives, or in the middle of its batch: the same status."""
    begin = time.perf_counter()
    predict(channel, BATCH)
    whole = time.perf_counter() - begin
    with pytest.raises(grpc.RpcError) as late:
        predict(channel, BATCH, timeout=share * whole)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, late.value.details()
    predict(channel, request(images=strings(jpeg())))


def scrape(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert "secret-key" not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_tell_requests_and_device_time(channel: Any, server: Server) -> None:
    before = scrape(server)
    predict(channel, request(images=strings(jpeg(1), jpeg(2))))
    for data, key in ((b"", KEY), (jpeg(), "secret-key-9")):
        with pytest.raises(grpc.RpcError):
            predict(channel, request(images=strings(data)), key)
    after = scrape(server)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    for code in ("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"):
        assert grown[f'accel_requests_total{{code="{code}",method="Predict"}}'] == 1
    assert grown["accel_device_simulated_seconds_count"] == 1
    assert grown["accel_device_wall_seconds_sum"] > 0
    assert after["accel_device_ready"] == 1
    assert after["accel_queue_depth"] == 0


def test_an_unready_device_says_how_far_it_is(settings: Settings, device: DeviceProcess) -> None:
    device.kill()
    device.start(flash_seconds=600)

    def details(channel: Any) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            predict(channel, request(images=strings(jpeg())))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        return str(refused.value.details())

    with RunningServer(settings) as running:
        port, health_port = running.server.port, running.server.health_port
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            until(lambda: re.search(r"flashing, \d+ % done", details(channel)))
            assert model_status(channel).model_version_status[0].state == ModelVersionStatus.LOADING
            with pytest.raises(grpc.RpcError) as wrong:
                predict(channel, request(picture=strings(jpeg())))
            assert wrong.value.code() is INVALID, "what the caller must mend is said first"
        assert health(health_port, "ready") == NOT_SERVING
        assert health(health_port, "live") == SERVING


def test_without_a_device_the_server_says_so(settings: Settings) -> None:
    with RunningServer(changed(settings, devices=())) as running:
        with (
            grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel,
            pytest.raises(grpc.RpcError) as no,
        ):
            predict(channel, request(images=strings(jpeg())))
        assert no.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "no FPGA is allocated" in no.value.details()


def test_a_full_queue_is_refused_with_a_hint(settings: Settings) -> None:
    with RunningServer(changed(settings, max_requests=2)) as running:
        running.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel:
            call = Stub(channel, PREDICTION_SERVICE)["Predict"]
            futures = [call.future(BATCH, timeout=60) for _ in range(12)]
            errors = [future.exception() for future in futures]
            refused = [error for error in errors if error is not None]
            assert 0 < len(refused) < 12
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert "more replicas" in refused[0].details()
            trailing = {item.key: item.value for item in refused[0].trailing_metadata()}
            assert trailing["grpc-retry-pushback-ms"].isdigit()
            predict(channel, BATCH)


def test_draining_finishes_what_has_begun(settings: Settings) -> None:
    with RunningServer(changed(settings, drain_delay=0.5)) as running:
        running.wait_ready()
        server = running.server
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            predict(channel, request(images=strings(jpeg())))
            futures = [
                Stub(channel, PREDICTION_SERVICE)["Predict"].future(BATCH, timeout=60) for _ in range(8)
            ]
            until(lambda: scrape(server)["accel_queue_depth"] == 8)
            stopped = running.stop()
            until(lambda: health(server.health_port, "ready") == NOT_SERVING)
            late, _ = predict(channel, request(images=strings(jpeg())))  # endpoints may still point here
            assert late.outputs
            for future in futures:
                assert tensors.from_proto(future.result().outputs["output_alias"]).shape == (60, 4)
            stopped.result(timeout=60)


def test_a_client_that_goes_away_frees_its_place(settings: Settings) -> None:
    with RunningServer(settings) as running:
        running.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel:
            futures = [
                Stub(channel, PREDICTION_SERVICE)["Predict"].future(BATCH, timeout=60) for _ in range(8)
            ]
            until(lambda: scrape(running.server)["accel_queue_depth"] > 0)
            for future in futures:
                future.cancel()
            until(lambda: scrape(running.server)["accel_queue_depth"] == 0)
            predict(channel, request(images=strings(jpeg())))
