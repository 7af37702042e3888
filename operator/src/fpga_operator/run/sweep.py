"""The registry's sweep: read both worlds, plan, look again, delete.

Order is what makes it safe: the registry is read before the cluster, so that whatever a Job pushes meanwhile is
either not seen or already referred to; the cluster's objects are read from owners to pods, as references travel;
and both are read once more right before something is deleted.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

from fpga_operator.config import Config
from fpga_operator.errors import ApiFailure
from fpga_operator.plan.sweep import Candidate, Repository, is_ours, plan_sweep
from fpga_operator.plan.sweeprefs import References, image_repository, read
from fpga_operator.plan.types import Manifest
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.registry import Refused, Registry, RegistryFailure, account_of
from fpga_operator.run.registrylist import Listing
from fpga_operator.run.sweepmetrics import SweepMetrics
from fpga_operator.run.sweepstate import Memory, State

log = logging.getLogger(__name__)

KINDS = ("FpgaModel", "AccelImage", "AccelService", "Deployment", "ReplicaSet", "Job", "Pod")
LOOK_AGAIN_SECONDS = 1.0
FIRST_SECONDS = 60.0  # after a start there is more urgent work
RETRY_SECONDS = 300.0


@dataclass
class Report:
    """One pass."""

    repositories: int = 0
    manifests: int = 0
    deleted: list[Candidate] = field(default_factory=list)
    waiting: list[Candidate] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    refused: bool = False

    @property
    def result(self) -> str:
        """Label of the metric."""
        return "refused" if self.refused else "error" if self.trouble else "success"


def connect(config: Config) -> Registry:
    """Open the configured registry, with the operator's account there if it has one."""
    endpoint = config.registry.endpoint
    host = endpoint.partition("://")[2].partition("/")[0]
    return Registry(endpoint, account_of(config.registry.account_file, host))


class Sweeper:
    """Sweeps; keeps nothing between passes but contents of digests, which never change."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        metrics: SweepMetrics,
        swept: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._metrics = metrics
        self._swept = swept  # called after each pass
        self._now = now
        self._memory = Memory(cluster, config.namespace)
        self._listing = Listing()
        self._news: set[str] = set()  # repositories of objects seen since the last pass
        self._noted = asyncio.Event()

    def seen(self, body: Manifest) -> None:
        """Take in a watched object: its repository is remembered, for it may be gone before the next pass."""
        meta = body["metadata"]
        if body["kind"] == "AccelImage":
            name = image_repository(meta["namespace"], meta["name"], body.get("spec") or {})
        elif body["kind"] == "FpgaModel":
            name = f"models/{meta['namespace']}/{meta['name']}"
        else:
            return
        if self._remembered(name) and name not in self._news:
            self._news.add(name)
            self._noted.set()

    def _remembered(self, name: str) -> bool:
        """Tell whether the ledger must hold a repository: the catalog does not tell that it is ours."""
        return not (self._config.sweep.catalog and is_ours(name)) and not name.startswith("sources/")

    async def run(self) -> None:
        """Sweep for ever."""
        interval = self._config.sweep.interval_seconds
        pause = min(FIRST_SECONDS, interval)
        loop = asyncio.get_running_loop()
        due = loop.time() + pause
        while True:
            try:
                await asyncio.wait_for(self._noted.wait(), max(0.0, due - loop.time()))
            except TimeoutError:
                report = await self.sweep(dry_run=self._config.sweep.dry_run)
                self._swept()
                due = loop.time() + (min(RETRY_SECONDS, interval) if report.trouble else interval)
            else:
                await self._note()

    async def _note(self) -> None:
        self._noted.clear()
        try:
            before = await self._memory.load()
            await self._memory.save(before, replace(before, ledger=before.ledger | self._news))
        except ApiFailure as error:
            log.warning("sweep: the repositories %s are not remembered yet: %s", sorted(self._news), error)

    async def sweep(
        self, *, dry_run: bool, grace_seconds: float | None = None, remember: bool = True
    ) -> Report:
        """Make one pass; whatever fails is in the report, and harms nothing else.

        A dry run deletes nothing; that it also counts the grace is up to `remember`.
        """
        report = Report()
        try:
            async with connect(self._config) as registry:
                await self._pass(registry, report, grace_seconds, dry_run=dry_run, remember=remember)
        except (RegistryFailure, ApiFailure) as error:
            report.trouble.append(str(error))
        for told in report.trouble:
            log.warning("sweep: %s", told)
        log.info(
            "sweep: %d repositories, %d manifests, %d nothing refers to; %s %d",
            report.repositories,
            report.manifests,
            len(report.deleted) + len(report.waiting),
            "would delete" if dry_run else "deleted",
            len(report.deleted),
        )
        self._metrics.passes.labels(report.result).inc()
        self._metrics.candidates.set(len(report.waiting) + (len(report.deleted) if dry_run else 0))
        if not report.trouble:
            self._metrics.succeeded()
        return report

    async def _pass(
        self,
        registry: Registry,
        report: Report,
        grace_seconds: float | None,
        *,
        dry_run: bool,
        remember: bool,
    ) -> None:
        settings = self._config.sweep
        grace = timedelta(seconds=settings.grace_seconds if grace_seconds is None else grace_seconds)
        before = await self._memory.load()
        owned = (await self._references(("FpgaModel", "AccelImage"))).owned
        ledger = before.ledger | self._news | {name for name in owned if self._remembered(name)}
        names = ledger | {name for name in owned if is_ours(name)}
        if settings.catalog:
            names |= {
                n for n in await registry.catalog() if is_ours(n, ledger=ledger, sources=settings.sources)
            }
        found = await self._read(registry, names, report)
        live = await self._references(KINDS)
        now = self._now()
        plan = plan_sweep(found.values(), live, before.marks, now, grace)
        report.waiting = list(plan.waiting)
        # Marks first: a process that dies while it deletes must not have lost them.
        unread = {mark: since for mark, since in before.marks.items() if mark[0] not in found}
        empty = {
            name
            for name, one in found.items()
            if name not in live.owned and not any(manifest.ours for manifest in one.manifests.values())
        }
        marked = State({**unread, **plan.marks}, frozenset(ledger - empty))
        self._news -= empty
        if remember:
            await self._memory.save(before, marked)
        if dry_run:
            report.deleted = list(plan.deletions)
            return
        await self._delete(registry, plan.deletions, marked, now, grace, report)
        gone = {(each.repository, each.digest) for each in report.deleted}
        rest = {mark: since for mark, since in marked.marks.items() if mark not in gone}
        await self._memory.save(marked, replace(marked, marks=rest))

    async def _read(self, registry: Registry, names: Iterable[str], report: Report) -> dict[str, Repository]:
        found = {}
        for name in sorted(names):
            try:
                found[name] = await self._listing.repository(
                    registry, name, private=is_ours(name, sources=True)
                )
            except Refused as error:  # this repository alone; the others may be ours to read
                report.refused = True
                report.trouble.append(str(error))
        report.repositories = len(found)
        report.manifests = sum(len(repository.manifests) for repository in found.values())
        return found

    async def _delete(
        self,
        registry: Registry,
        deletions: tuple[Candidate, ...],
        state: State,
        now: datetime,
        grace: timedelta,
        report: Report,
    ) -> None:
        loop = asyncio.get_running_loop()
        live, looked = References(), float("-inf")
        for name, group in groupby(deletions, key=lambda each: each.repository):
            planned = {each.digest for each in group}
            try:
                there = await self._listing.repository(registry, name, private=is_ours(name, sources=True))
                if loop.time() - looked > LOOK_AGAIN_SECONDS:
                    live, looked = await self._references(KINDS), loop.time()
                again = plan_sweep([there], live, state.marks, now, grace)
                for candidate in again.deletions:
                    if candidate.digest not in planned:
                        continue
                    await registry.delete(name, candidate.digest)
                    log.info("sweep: deleted %s@%s: %s", name, candidate.digest, candidate.why)
                    self._metrics.deleted.inc()
                    report.deleted.append(candidate)
            except Refused as error:
                report.refused = True
                report.trouble.append(f"nothing can be deleted in {name}: {error}")
                if error.status == 405:  # read-only, or deletion is switched off: the same for all
                    return

    async def _references(self, kinds: Iterable[str]) -> References:
        found = References()
        images = self._config.images
        for image in (images.toolchain, images.converter, images.runtime):
            found.refer(image)  # they may lie in this registry too
        for kind in kinds:
            async for body in self._cluster.each(kind):
                read(found, kind, body)
        return found
