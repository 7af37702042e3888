"""Many objects at once on a real API server, and what the operator needs for them: counts, memory, processor time."""

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from fpga_operator.run.cluster import Cluster
from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from machinery import Machinery
from prometheus_client.parser import text_string_to_metric_families
from servers import ACCOUNT, ADMIN, Server, install, start
from simulated import Kubelet
from world import Operator, World

Object = dict[str, Any]
NODES = {"scale-a": 4, "scale-b": 4}
DEVICES = sum(NODES.values())
MAX_JOBS = 4
SOURCES = 4
RESYNC_SECONDS = 2.0
IDLE_RESYNCS = 3
PATIENCE_SECONDS = 600.0
KINDS = ("FpgaModel", "AccelImage", "AccelService")
WRITES = ("create", "update", "patch", "delete", "deletecollection", "rehearse")
AT_ONCE = 16  # requests of the user who applies the objects


@dataclass
class Figures:
    """One run. Memory in MiB, processor time in seconds."""

    count: int  # of each kind
    most_jobs: int = 0
    jobs: int = 0
    objects: dict[str, list[Object]] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # (verb, resource) until all had settled
    idle_requests: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # over IDLE_RESYNCS resyncs after it
    reconciles: int = 0
    idle_reconciles: int = 0
    memory: float = 0
    peak_memory: float = 0
    processor: float = 0
    idle_processor: float = 0

    def reads(self) -> int:
        """Count the requests for single objects; lists come with time, not with objects."""
        return sum(count for (verb, _), count in self.requests.items() if verb == "get")

    def writes(self) -> int:
        """Count the requests that changed something."""
        return sum(count for (verb, _), count in self.requests.items() if verb in WRITES)

    def idle_writes(self) -> dict[tuple[str, str], int]:
        """Return what was written with nothing to do."""
        return {what: count for what, count in self.idle_requests.items() if what[0] in WRITES}


def audit_flags(folder: Path) -> list[str]:
    """Return the flags that have the API server write down each request of the operator."""
    policy = folder / "audit-policy.yaml"
    rules = [{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}]
    body = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": rules,
    }
    policy.write_text(yaml.safe_dump(body))
    return [f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}"]


def audited(server: Server) -> Counter[tuple[str, str]]:
    """Return the operator's requests so far by verb and resource.

    Patches that the server only rehearses have a verb of their own; watches have no end and are left out.
    """
    found: Counter[tuple[str, str]] = Counter()
    for line in (server.folder / "audit.log").read_text().splitlines():
        event = json.loads(line)
        what = event.get("objectRef") or {}
        resource = "/".join(part for part in (what.get("resource"), what.get("subresource")) if part)
        verb = "rehearse" if "dryRun=All" in event["requestURI"] else event["verb"]
        if verb != "watch":
            found[verb, resource] += 1
    return found


class Process:
    """What the kernel knows of a process."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    def memory(self) -> tuple[float, float]:
        """Return resident memory now and at its peak, MiB."""
        lines = dict(line.split(":", 1) for line in (self._folder / "status").read_text().splitlines())
        return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    def processor(self) -> float:
        """Return the seconds of processor time so far."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Scrape:
    """The operator's metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples of that name with these labels."""
        wanted = labels.items()
        return sum(s.value for s in self._samples if s.name == name and wanted <= s.labels.items())


async def scrape(operator: Operator) -> Scrape:
    """Read them."""
    url = f"http://127.0.0.1:{operator.metrics}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return Scrape(await answer.text())


def settled(seen: Scrape, count: int) -> bool:
    """Tell whether there is nothing more to do."""
    ready = {"condition": "Ready", "status": "True"}
    return (
        all(seen.sum("accel_object_conditions", kind=kind, **ready) == count for kind in KINDS[:2])
        and seen.sum("accel_object_conditions", kind=KINDS[2], **ready) == min(count, DEVICES)
        and seen.sum("accel_objects_not_ready", kind=KINDS[2], reason="WaitingForDevice")
        == max(0, count - DEVICES)
        and seen.sum("workqueue_depth") == 0
        and seen.sum("controller_runtime_active_workers") == 0
    )


async def resynced(world: World, operator: Operator, count: int) -> Scrape:
    """Await as many reconciles as some resyncs of all objects are; return the metrics then."""
    begin = (await scrape(operator)).sum("controller_runtime_reconcile_total")

    async def passed() -> Scrape | None:
        seen = await scrape(operator)
        done = seen.sum("controller_runtime_reconcile_total") - begin
        return seen if done >= IDLE_RESYNCS * 3 * count else None

    seen: Scrape = await world.until("resyncs of all objects", passed, PATIENCE_SECONDS, every=1)
    return seen


async def apply_all(world: World, count: int) -> None:
    """Apply all objects at once, services first: nobody waits for what they need."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def apply(kind: str, name: str, spec: Object) -> None:
        async with limit:
            await world.apply(kind, name, spec)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            name = f"net-{number:03}"
            source = {"source": {"uri": f"oci:///sources/digits-{number % SOURCES}:1"}}
            group.create_task(apply("AccelService", name, {"imageRef": {"name": name}}))
            group.create_task(apply("AccelImage", name, {"modelRef": {"name": name}}))
            group.create_task(apply("FpgaModel", name, source))


async def grow(server: Server, operator: Operator, count: int) -> Figures:
    """Apply `count` objects of each kind, see them settle, then see some resyncs with nothing to do."""
    configuration = Configuration()
    await kubeconfig.load_kube_config(
        config_file=str(server.kubeconfig(ADMIN)), client_configuration=configuration, persist_config=False
    )
    configuration.connection_pool_maxsize = 2 * AT_ONCE
    admin = Cluster(ApiClient(configuration))
    assert operator.process is not None
    process, figures = Process(operator.process.pid), Figures(count)
    try:
        await admin._request("POST", "/api/v1/namespaces", body={"metadata": {"name": "scale"}})
        world = World(admin, "scale")
        machinery = Machinery(server, Kubelet(admin), "scale", NODES)
        async with machinery.running():
            await world.until("an operator that answers", lambda: answers(operator))
            before = process.processor()
            await apply_all(world, count)

            async def all_settled() -> bool:
                return settled(await scrape(operator), count)

            await world.until("all objects settled", all_settled, PATIENCE_SECONDS, every=1)
            figures.processor = process.processor() - before
            figures.requests = audited(server)
            figures.reconciles = int((await scrape(operator)).sum("controller_runtime_reconcile_total"))

            await resynced(world, operator, count)  # what the last changes left to do is done by then
            began, before, requests = await scrape(operator), process.processor(), audited(server)
            seen = await resynced(world, operator, count)
            figures.idle_processor = process.processor() - before
            figures.idle_requests = audited(server) - requests
            total = "controller_runtime_reconcile_total"
            figures.idle_reconciles = int(seen.sum(total) - began.sum(total))
        figures.memory, figures.peak_memory = process.memory()
        figures.most_jobs, figures.jobs = machinery.most_jobs, machinery.jobs
        figures.objects = {kind: await admin.list(kind) for kind in KINDS}
    finally:
        await admin.close()
    return figures


async def answers(operator: Operator) -> bool:
    """Tell whether the process serves its metrics."""
    try:
        await scrape(operator)
    except aiohttp.ClientError:
        return False
    return True


def measure(
    folder: Path,
    programs: Path,
    count: int,
    *,
    resync_seconds: float = RESYNC_SECONDS,
    profile: Path | None = None,
) -> Figures:
    """Run it all on an API server of its own, whose audit log tells what the operator asked.

    profile: where the operator's own profile goes, for `python -m pstats`.
    """
    server = start(folder, programs, *audit_flags(folder))
    try:
        install(server)
        (folder / "key").write_text("0123456789abcdef0123456789abcdef")
        config = folder / "operator.yaml"
        images = {name: f"r/{name}:1" for name in ("toolchain", "converter", "runtime")}
        config.write_text(
            yaml.safe_dump(
                {
                    "images": images,
                    "maxConcurrentJobs": MAX_JOBS,
                    "resyncSeconds": resync_seconds,
                    "masterKeyFile": str(folder / "key"),
                }
            )
        )
        operator = Operator(server, config)
        if profile is not None:
            operator.python += ["-m", "cProfile", "-o", str(profile)]
        operator.start()
        try:
            # A loop of its own making, so that pytest's stays what it is.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                return runner.run(grow(server, operator, count))
        finally:
            operator.stop()
    finally:
        server.stop()
