"""The interceptor that asks for a key before a request is read. Health checks pass without one, reflection
does not.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from accel_runtime.keys import KeyRing, presented_keys

__all__ = ["KeyInterceptor"]

_OPEN = "/grpc.health.v1.Health/"
_MISSING = "no API key; send it as metadata `authorization: <key>` or `authorization: Bearer <key>`"
_WRONG = "the API key is wrong, or it was rotated; the service's keys Secret has the present one"
_NO_KEYS = "this server has no API keys yet: the keys Secret is empty or not mounted"

_log = logging.getLogger(__name__)


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Answers UNAUTHENTICATED unless the call's metadata carries one of the ring's keys."""

    def __init__(self, keys: KeyRing, on_refusal: Callable[[str], object]) -> None:
        self._keys = keys
        self._on_refusal = on_refusal

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the method's handler, or one that refuses."""
        handler = await continuation(details)
        if details.method.startswith(_OPEN):
            return handler
        presented = presented_keys(details.invocation_metadata)
        if presented and self._keys.admits(presented):
            return handler
        self._on_refusal(details.method)
        text = _NO_KEYS if self._keys.empty else _WRONG if presented else _MISSING
        _log.info(
            "call refused", extra={"method": details.method, "key": "wrong" if presented else "missing"}
        )
        return _refusal(handler, text)


def _refusal(handler: Any, text: str) -> Any:
    """Return a handler of the same shape (unary or streaming) that aborts the call."""

    async def unary(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)

    async def stream(_request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
        yield None

    if handler is None or not (handler.request_streaming or handler.response_streaming):
        return grpc.unary_unary_rpc_method_handler(unary)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(unary)
    return grpc.unary_stream_rpc_method_handler(stream)
