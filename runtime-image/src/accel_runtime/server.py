"""The process's wiring: three ports, one model, one device, and an orderly end.

8500 is the service; 8502 answers health checks in plaintext, because the kubelet's gRPC probe speaks no
TLS; 8503 has the metrics.
"""

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import grpc
from accel.tfs.messages import add_descriptors
from accel.tfs.services import MODEL_SERVICE, PREDICTION_SERVICE, handler
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import start_http_server

from accel_runtime.admission import Admission
from accel_runtime.artifact import Artifact
from accel_runtime.auth import KeyInterceptor
from accel_runtime.certificates import CertificateFiles
from accel_runtime.device import DeviceKeeper, DeviceState
from accel_runtime.errors import ProgramRefused, RuntimeFault, SettingsError
from accel_runtime.keys import KeyRing
from accel_runtime.metrics import Metrics
from accel_runtime.pipeline import Pipeline
from accel_runtime.predict import Identity
from accel_runtime.service import ModelServer
from accel_runtime.settings import Settings

__all__ = ["Server"]

_log = logging.getLogger(__name__)
_HEALTH = "grpc.health.v1.Health"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_HOST_WORKERS = 4  # requests on the host at once: decoding and the host graphs run beside the device


class Server:
    """One model server. `await start()`, then `await wait()`; `stop()` drains. Ports of 0 are chosen by the
    system.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.artifact = Artifact.load(settings.model_dir)
        self._workers = ThreadPoolExecutor(_HOST_WORKERS, thread_name_prefix="host")
        self._keeper: DeviceKeeper | None = None
        self._stopping = False
        self._was_ready = False
        self._stopped = asyncio.Event()
        self._servers: list[Any] = []
        self._http: Any = None
        self.port = self.health_port = self.metrics_port = 0

    @property
    def device_state(self) -> DeviceState:
        """The device's state; a model without a device part is always ready."""
        return DeviceState(True, True, "no device is needed") if self._keeper is None else self._keeper.state

    async def start(self) -> None:
        """Load the model, open the ports and begin to connect to the device; raises what makes that
        impossible.
        """
        settings, artifact = self.settings, self.artifact
        self._loop = asyncio.get_running_loop()
        self._health = health.HealthServicer()
        self._public_health = health.HealthServicer()
        self._keeper = self._make_keeper()
        pipeline = Pipeline(
            artifact, self._keeper, max_pixels=settings.max_pixels, max_batch=settings.max_batch
        )
        identity = Identity(settings.model_name or artifact.name, settings.model_version, artifact.signature)
        self.metrics.model.labels(identity.name, str(identity.version), artifact.program_digest).set(1)
        admission = Admission(settings.max_requests, settings.max_waiting_bytes, self.metrics.queue_depth.set)
        model = ModelServer(pipeline, self._keeper, identity, admission, self.metrics, self._workers)
        await self._set_ready(self._keeper is None)
        await self._health.set("live", _SERVING)
        try:
            await self._open_health()
            await self._open_service(model)
            self._open_metrics()
        except RuntimeFault:
            for server in self._servers:
                await server.stop(None)
            raise
        if self._keeper is not None:
            self._keeper.start()
        _log.info(
            "serving",
            extra={
                "model": identity.name,
                "version": identity.version,
                "port": self.port,
                "auth": settings.auth,
                "tls": settings.tls_dir is not None,
                "device": str(settings.socket) if self._keeper else None,
            },
        )

    async def wait(self) -> None:
        """Return when the server has stopped; SIGTERM and SIGINT stop it, and ProgramRefused, which is raised then."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, lambda: asyncio.ensure_future(self.stop()))
        await self._stopped.wait()
        if refused := self.device_state.refused:
            raise ProgramRefused(refused)

    async def stop(self) -> None:
        """Drain: unready at once, still serving until the endpoints are gone, then no new requests, then
        the end.
        """
        if self._stopping:
            return
        self._stopping = True
        _log.info("draining")
        await self._set_ready(False)
        await asyncio.sleep(self.settings.drain_delay)
        service, *others = reversed(self._servers)
        await service.stop(self.settings.drain_grace)
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)
        self._workers.shutdown(wait=False, cancel_futures=True)
        for other in others:
            await other.stop(None)
        self._http.shutdown()
        self._http.server_close()
        _log.info("stopped")
        self._stopped.set()

    def _make_keeper(self) -> DeviceKeeper | None:
        program = self.artifact.graph.program
        if program is None:
            return None
        return DeviceKeeper(
            self.settings.socket, program, hold=self.settings.hold, on_change=self._device_changed
        )

    def _device_changed(self, state: DeviceState) -> None:
        """Called from the keeper's thread."""
        if self._was_ready and not state.ready:
            self.metrics.device_losses.inc()
        self._was_ready = state.ready
        self.metrics.device_ready.set(state.ready)
        if not self._stopping and not self._loop.is_closed():
            work = self.stop() if state.refused else self._set_ready(state.ready and not self._stopping)
            asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _set_ready(self, ready: bool) -> None:
        status = _SERVING if ready else _NOT_SERVING
        await self._health.set("ready", status)
        for name in ("", PREDICTION_SERVICE, MODEL_SERVICE):
            await self._public_health.set(name, status)

    async def _open_health(self) -> None:
        server = grpc.aio.server()
        self._servers.append(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.health_port = _bind(server, self.settings.host, self.settings.health_port, None)
        await server.start()

    async def _open_service(self, model: ModelServer) -> None:
        settings = self.settings
        interceptors = []
        if settings.auth:
            interceptors.append(KeyInterceptor(KeyRing(settings.keys_dir), self._count_refusal))
        server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two servers on one port is a mistake, not a feature
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ],
        )
        self._servers.append(server)
        server.add_generic_rpc_handlers(
            (
                handler(PREDICTION_SERVICE, model.prediction_methods()),
                handler(MODEL_SERVICE, model.model_methods()),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._public_health, server)
        names = (PREDICTION_SERVICE, MODEL_SERVICE, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_reflection_pool(health_pb2, reflection_pb2))
        credentials = None if settings.tls_dir is None else CertificateFiles(settings.tls_dir).credentials()
        self.port = _bind(server, settings.host, settings.grpc_port, credentials)
        await server.start()

    def _open_metrics(self) -> None:
        port = self.settings.metrics_port
        try:
            self._http, _thread = start_http_server(port, registry=self.metrics.registry)
        except OSError as error:
            raise SettingsError(f"port {port} cannot be opened: {error}") from error
        self.metrics_port = self._http.server_address[1]

    def _count_refusal(self, method: str) -> None:
        name = method.rpartition("/")[2]
        known = name in ("Predict", "GetModelMetadata", "GetModelStatus")
        self.metrics.requests.labels(name if known else "other", "UNAUTHENTICATED").inc()


def _bind(server: Any, host: str, port: int, credentials: Any) -> int:
    address = f"{host}:{port}"
    try:
        if credentials is None:
            bound: int = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise SettingsError(f"port {port} cannot be opened: {error}") from error
    return bound


def _reflection_pool(*generated: ModuleType) -> Any:
    """Return a pool with everything that is served: ours, and the generated modules of health and
    reflection.
    """
    pool = descriptor_pool.DescriptorPool()
    add_descriptors(pool)
    for module in generated:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
