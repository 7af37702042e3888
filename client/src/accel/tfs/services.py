"""The gRPC services: names, methods and their message types, for client stubs and server handlers alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from accel.tfs import messages

__all__ = ["MODEL_SERVICE", "PREDICTION_SERVICE", "Method", "Stub", "Undecodable", "handler"]

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


@dataclass(frozen=True)
class Method:
    """A unary method: its request's and its response's message class."""

    request: Any
    response: Any


@dataclass(frozen=True)
class Undecodable:
    """What an implementation gets for bytes that are no message: it answers, where grpc would say UNKNOWN."""

    message: str


METHODS: Mapping[str, Mapping[str, Method]] = {
    PREDICTION_SERVICE: {
        "Predict": Method(messages.PredictRequest, messages.PredictResponse),
        "GetModelMetadata": Method(messages.GetModelMetadataRequest, messages.GetModelMetadataResponse),
    },
    MODEL_SERVICE: {
        "GetModelStatus": Method(messages.GetModelStatusRequest, messages.GetModelStatusResponse),
    },
}


class Stub:
    """Callables of one service on a channel: `Stub(channel, PREDICTION_SERVICE)["Predict"](request,
    timeout=…)`.

    Works on `grpc.Channel` and `grpc.aio.Channel`.
    """

    def __init__(self, channel: Any, service: str) -> None:
        self._calls = {
            name: channel.unary_unary(
                f"/{service}/{name}",
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for name, method in METHODS[service].items()
        }

    def __getitem__(self, method: str) -> Any:
        return self._calls[method]


def handler(service: str, implementations: Mapping[str, Any]) -> Any:
    """Return the generic handler that serves `implementations` (method name → callable) as `service`."""
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                implementation,
                request_deserializer=_reader(METHODS[service][name].request),
                response_serializer=METHODS[service][name].response.SerializeToString,
            )
            for name, implementation in implementations.items()
        },
    )


def _reader(message: Any) -> Any:
    def read(data: bytes) -> Any:
        try:
            return message.FromString(data)
        except DecodeError:
            return Undecodable(f"the request's {len(data)} bytes are no {message.DESCRIPTOR.full_name}")

    return read
