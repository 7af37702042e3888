"""kopf as an event source: watches, probes, start and stop. Nothing here decides anything or writes to objects."""

import asyncio
import logging
import socket
from typing import Any

import kopf

from fpga_operator.errors import ApiFailure, ConfigError
from fpga_operator.plan.types import Manifest
from fpga_operator.run.cluster import RESOURCES, Cluster
from fpga_operator.run.freshness import selector_of
from fpga_operator.run.mapping import MAPPING
from fpga_operator.run.source import Patience
from fpga_operator.run.workers import Engine

log = logging.getLogger(__name__)

REQUIRED = ("FpgaModel", "AccelImage", "AccelService", "FpgaNode")


def identity() -> str:
    """Return the name under which this process reports events: its pod's."""
    return f"fpga-operator-{socket.gethostname()}"


class NoDiffs(kopf.DiffBaseStorage):
    """Remembers nothing: no handler here asks what changed, and kopf would copy each object whole to be able to say."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return an object of which nothing is essential."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Return nothing."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what production needs; kopf's defaults suit a laptop."""
    settings.peering.standalone = True  # an object named `default` must not switch peering on
    settings.scanning.disabled = True  # the chart installs the CRDs: no rights to list CRDs and namespaces
    settings.persistence.finalizer = (
        "accel.dev/fpga-operator"  # never used; kopf's own would name a third party
    )
    settings.persistence.diffbase_storage = NoDiffs()
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Patience()
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.process.ultimate_exiting_timeout = (
        None  # kopf may end and be started again; the kubelet has its own
    )
    selectors = settings.watching.label_selectors
    for kind in MAPPING:
        if selector := selector_of(kind):
            where = RESOURCES[kind]
            selectors[where.group, where.version, where.plural] = selector


def register(registry: kopf.OperatorRegistry, engine: Engine) -> None:
    """Register the watches of every kind in the mapping table."""
    for kind in MAPPING:
        where = RESOURCES[kind]
        # The index runs for the whole first listing before any handler does: no plan is made on half a world.
        kopf.index(
            group=where.group,
            version=where.version,
            plural=where.plural,
            id=f"store-{where.plural}",
            registry=registry,
        )(_indexer(engine, kind))
        kopf.on.event(
            group=where.group,
            version=where.version,
            plural=where.plural,
            id=f"wake-{where.plural}",
            registry=registry,
        )(_handler(engine, kind))

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)

    @kopf.on.probe(registry=registry)
    async def progress(**_: Any) -> str:
        if trouble := engine.stuck():
            raise kopf.PermanentError(trouble)
        return f"{engine.queue.depth()} keys wait"


def _body(raw: Any, kind: str) -> Manifest:
    body: Manifest = dict(raw)
    body["kind"] = kind  # list items carry neither kind nor apiVersion
    body["apiVersion"] = RESOURCES[kind].api_version
    return body


def _indexer(engine: Engine, kind: str) -> Any:
    async def index(body: Any, **_: Any) -> None:
        manifest = _body(body, kind)
        engine.freshness.delivered(manifest)
        engine.learn(manifest)

    return index


def _handler(engine: Engine, kind: str) -> Any:
    async def handle(event: Any, **_: Any) -> None:
        if event["type"] == "DELETED":
            engine.gone(_body(event["object"], kind))
        else:
            engine.seen(_body(event["object"], kind))

    return handle


async def require_crds(cluster: Cluster, patience_seconds: float) -> None:
    """Check that the kinds exist: kopf would watch nothing, in silence. An API server that is away is waited for.

    Raises:
        ConfigError: names what is still missing after that time.
        ApiFailure: the API server refuses to say, for as long.
    """
    clock = asyncio.get_running_loop().time
    give_up = clock() + patience_seconds
    while True:
        try:
            missing = [kind for kind in REQUIRED if not await _exists(cluster, kind)]
        except ApiFailure as error:
            away = error.status == 0 or error.status >= 500 or error.status == 429
            if not away and clock() >= give_up:
                raise
            log.warning("waiting for the API server: %s", error)
            give_up = max(give_up, clock() + patience_seconds) if away else give_up
        else:
            if not missing:
                return
            if clock() >= give_up:
                raise ConfigError(
                    f"the API server does not know {', '.join(missing)}: install the CRDs first"
                )
        await asyncio.sleep(1)


async def _exists(cluster: Cluster, kind: str) -> bool:
    try:
        await cluster.list(kind, metadata_only=True)
    except ApiFailure as error:
        if error.status != 404:
            raise
        return False
    return True
