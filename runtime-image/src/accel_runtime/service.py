"""The served methods: Predict, GetModelMetadata, GetModelStatus, and which gRPC status each error becomes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import grpc
import numpy as np
from accel.tfs.messages import GetModelStatusResponse, ModelVersionStatus
from accel.tfs.services import Undecodable
from numpy.typing import NDArray

from accel_runtime import predict
from accel_runtime.admission import Admission
from accel_runtime.device import DeviceKeeper, Ticket
from accel_runtime.errors import InvalidInput, NotReady, Overloaded, RuntimeFault, TooLate, UnknownModel
from accel_runtime.metrics import Metrics
from accel_runtime.pipeline import Clocks, DeviceRun, Pipeline

__all__ = ["ModelServer"]

_log = logging.getLogger(__name__)
_CODES: dict[type[RuntimeFault], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    TooLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
Handler = Callable[[Any, Any], Awaitable[Any]]


class ModelServer:
    """One model behind TensorFlow Serving's two services. Methods run on the event loop, the model in
    `workers`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: DeviceKeeper | None,
        identity: predict.Identity,
        admission: Admission,
        metrics: Metrics,
        workers: Executor,
    ) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        self._identity = identity
        self._admission = admission
        self._metrics = metrics
        self._workers = workers
        self._digest = pipeline.artifact.program_digest
        self._metadata = predict.metadata(pipeline.artifact, identity)

    def prediction_methods(self) -> dict[str, Handler]:
        """Return PredictionService's methods."""
        return {
            "Predict": self._observed("Predict", self._predict),
            "GetModelMetadata": self._observed("GetModelMetadata", self._get_metadata),
        }

    def model_methods(self) -> dict[str, Handler]:
        """Return ModelService's methods."""
        return {"GetModelStatus": self._observed("GetModelStatus", self._get_status)}

    async def _predict(self, request: Any, context: Any) -> Any:
        artifact = self._pipeline.artifact
        self._identity.check(request.model_spec)
        wanted = predict.wanted_outputs(request, artifact)
        inputs = predict.read_inputs(request)
        self._pipeline.bind(inputs)  # what the caller must mend is said before anything waits
        if self._keeper is not None and not self._keeper.state.served:
            raise NotReady(f"the model is not served yet: {self._keeper.state.text}")
        clocks = Clocks()
        with self._admission.enter(request.ByteSize()):
            outputs = await self._compute(inputs, clocks, context)
        self._note(clocks)
        context.set_trailing_metadata(self._trailing(clocks))
        return predict.write_response(outputs, wanted, self._identity)

    async def _compute(
        self, inputs: dict[str, NDArray[Any]], clocks: Clocks, context: Any
    ) -> dict[str, NDArray[Any]]:
        left = context.time_remaining()
        ticket = Ticket(deadline=None if left is None else time.monotonic() + left)
        keeper = self._keeper

        def compute(x: NDArray[np.float32]) -> DeviceRun:
            assert keeper is not None
            return keeper.run(x, ticket)

        def run() -> dict[str, NDArray[Any]]:
            return self._pipeline.run(inputs, clocks=clocks, compute=compute if keeper else None)

        running = asyncio.get_running_loop().run_in_executor(self._workers, run)
        try:
            if keeper is not None and ticket.deadline is not None:
                done, _ = await asyncio.wait({running}, timeout=ticket.patience(0))
                if not done and not keeper.state.ready:
                    raise NotReady(f"the FPGA was lost and is not back yet: {keeper.state.text}")
            return await running
        finally:  # the caller went away or its deadline passed, unless the answer is there
            ticket.cancelled = True
            running.cancel()

    async def _get_metadata(self, request: Any, _context: Any) -> Any:
        self._identity.check(request.model_spec)
        unknown = [field for field in request.metadata_field if field != "signature_def"]
        if unknown:
            raise InvalidInput(f"metadata field {unknown[0]!r} is not served; signature_def is")
        return self._metadata

    async def _get_status(self, request: Any, _context: Any) -> Any:
        self._identity.check(request.model_spec)
        response = GetModelStatusResponse()
        entry = response.model_version_status.add(version=self._identity.version)
        state = None if self._keeper is None else self._keeper.state
        if state is None or state.ready:
            entry.state = ModelVersionStatus.AVAILABLE
        else:
            entry.state = ModelVersionStatus.LOADING
            entry.status.error_code = grpc.StatusCode.UNAVAILABLE.value[0]
            entry.status.error_message = state.text
        return response

    def _trailing(self, clocks: Clocks) -> tuple[tuple[str, str], ...]:
        if not clocks.inferences:
            return ()
        return (
            ("accel-simulated-us", f"{clocks.simulated * 1e6:.3f}"),
            ("accel-device-wall-us", f"{clocks.device_wall * 1e6:.3f}"),
            ("accel-device-id", clocks.device_id),
            ("accel-model-digest", self._digest),
        )

    def _note(self, clocks: Clocks) -> None:
        metrics = self._metrics
        if clocks.inferences:
            self._admission.computed(clocks.device_wall)
            metrics.simulated.observe(clocks.simulated / clocks.inferences)
            metrics.device_wall.observe(clocks.device_wall / clocks.inferences)
        metrics.stage.labels("decode").observe(clocks.decode)
        metrics.stage.labels("pre").observe(clocks.pre)
        metrics.stage.labels("post").observe(clocks.post)

    def _observed(self, method: str, handler: Handler) -> Handler:
        """Wrap a handler: errors become statuses, and every outcome is counted."""
        duration = self._metrics.duration.labels(method)

        async def call(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            code = grpc.StatusCode.CANCELLED
            try:
                if isinstance(request, Undecodable):
                    raise InvalidInput(request.message)
                response = await handler(request, context)
                code = grpc.StatusCode.OK
                return response
            except RuntimeFault as error:
                code = _CODES.get(type(error), grpc.StatusCode.INTERNAL)
                if isinstance(error, Overloaded):
                    context.set_trailing_metadata((("grpc-retry-pushback-ms", str(error.retry_after_ms)),))
                await context.abort(code, str(error))
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                code = grpc.StatusCode.INTERNAL
                _log.exception("request failed", extra={"method": method})
                await context.abort(
                    code, f"internal error ({type(error).__name__}); the server's log has the details"
                )
            finally:
                self._metrics.requests.labels(method, code.name).inc()
                duration.observe(time.perf_counter() - began)

        return call
