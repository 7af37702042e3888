"""The operator's own tasks around the queue: workers, resync, and the check that the watches tell what happens."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from fpga_operator.config import Config
from fpga_operator.errors import OperatorError, Terminal
from fpga_operator.plan.jobview import finished
from fpga_operator.plan.types import Manifest
from fpga_operator.run.cluster import RESOURCES, Cluster
from fpga_operator.run.freshness import Freshness
from fpga_operator.run.mapping import MAPPING, NODES, OWN, affected, node_matters
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.objectmetrics import ObjectMetrics
from fpga_operator.run.queue import WorkQueue
from fpga_operator.run.reconcile import Reconciler
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store, key_of

log = logging.getLogger(__name__)

WORKERS = 4
STUCK_SECONDS = 120.0  # a pass takes milliseconds; requests time out after 30 s


class Engine:
    """Takes in changes, and works them off."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue[Key],
        reconciler: Reconciler,
        slots: JobSlots,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._store = store
        self.queue = queue
        self._reconciler = reconciler
        self._slots = slots
        slots.wake = queue.add
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []
        self._last_end = 0.0  # when a worker last gave a key back, whatever came of it
        self.freshness = Freshness(cluster, store, self.gone)
        self.restart_watches: Callable[[str], None] = log.warning
        self.listeners: list[Callable[[Manifest], None]] = []  # are told of every object that is seen
        self._moved: set[str] = set()  # uids of nodes whose last change was more than a heartbeat
        self._observe_metrics()

    # -- changes --------------------------------------------------------------------------------------------

    def learn(self, body: Manifest) -> None:
        """Take in an object; nothing is queued yet."""
        if body["kind"] in NODES and node_matters(self._store.body(key_of(body)), body):
            self._moved.add(body["metadata"]["uid"])
        self._store.put(body)

    def seen(self, body: Manifest) -> None:
        """Queue what depends on an object that was learnt."""
        for listener in self.listeners:
            listener(body)
        if body["kind"] in NODES:
            if body["metadata"]["uid"] not in self._moved:
                return
            self._moved.discard(body["metadata"]["uid"])
        self._wake(body)

    def gone(self, body: Manifest) -> None:
        """Take in a deletion and queue what depended on it."""
        self._store.remove(key_of(body), body["metadata"]["uid"])
        self._wake(body)

    def _wake(self, body: Manifest) -> None:
        for key in affected(self._store, body):
            self.queue.add(key)
        if body["kind"] == "Job" and (finished(body) or self._store.get(key_of(body)) is None):
            for key in self._slots.next():
                self.queue.add(key)

    # -- tasks ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the tasks in the running loop."""
        self._tasks = [
            *(asyncio.create_task(self._work(), name=f"worker {number}") for number in range(WORKERS)),
            asyncio.create_task(self._resync(), name="resync"),
            asyncio.create_task(self._compare(), name="comparison of watches with lists"),
        ]

    async def stop(self) -> None:
        """Cancel the tasks; a pass that is cut short is done again by the next process."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            taken = await self.queue.take()
            key, kind = taken.key, taken.key.kind
            begin = time.perf_counter()
            try:
                after = await self._reconciler.reconcile(key)
            except asyncio.CancelledError:
                # kopf cancels what was started in its time when it ends, an awaited part of a request among it.
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                result = "error"
                self.queue.failed(key)
            except Terminal as error:
                # Told in the status; looked at again at the next change or resync.
                result = "terminal"
                self.queue.done(key)
                log.debug("%s %s/%s: %s", *key, error)
            except OperatorError as error:
                result = "error"
                pause = self.queue.failed(key)
                log.warning("%s %s/%s: %s; again in %.1f s", *key, error, pause)
            except Exception:
                # A defect of ours must not end the worker; it shows in log and metrics, and backs off.
                result = "panic"
                pause = self.queue.failed(key)
                log.exception("%s %s/%s failed; again in %.1f s", *key, pause)
            else:
                result = "success" if after is None else "requeue_after"
                self.queue.done(key, after)
                if self._store.get(key) is None:
                    self.queue.forget(key)
            self._last_end = asyncio.get_running_loop().time()
            self._metrics.reconciled(kind, result, time.perf_counter() - begin)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._config.resync_seconds)
            for kind in OWN:
                for key in self._store.keys(kind):
                    self.queue.add(key)

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(self._config.resync_seconds)
            try:
                await self.freshness.check()
            except Exception:
                # Health is judged by what is known; a defect here must not end the process by itself.
                log.exception("watches are not compared")
            if why := self.freshness.silent():
                self.restart_watches(why)

    # -- health ---------------------------------------------------------------------------------------------

    def stuck(self) -> str:
        """Say what is stuck, or nothing."""
        dead = [task.get_name() for task in self._tasks if task.done()]
        if dead:
            return f"ended: {', '.join(dead)}"
        if self.queue.longest_work() > STUCK_SECONDS:
            return f"a worker has been at one key for {self.queue.longest_work():.0f} s"
        # Many keys in a line are no stall as long as it moves, be it by failures: an API server that is away.
        still = asyncio.get_running_loop().time() - self._last_end
        if min(self.queue.oldest_wait(), still) > STUCK_SECONDS:
            return f"a key has waited for {self.queue.oldest_wait():.0f} s"
        return self.freshness.stalled()

    def _observe_metrics(self) -> None:
        for kind in OWN:
            self._metrics.begin(kind, WORKERS)
        watched = [kind for kind in RESOURCES if kind in MAPPING]
        ObjectMetrics(self._metrics.registry, self._store, self._slots, OWN, watched)
