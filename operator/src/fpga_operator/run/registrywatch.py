"""What statuses promise and the registry no longer has: a registry that was wiped, or a hand that deleted.

Asked for at each sweep, and when a pod of ours cannot pull. Only the registry's own word counts ("manifest
unknown"): one that does not answer has lost nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from fpga_operator.config import Config
from fpga_operator.plan.sweeprefs import References, read
from fpga_operator.plan.types import Manifest
from fpga_operator.run.registry import Registry, RegistryFailure
from fpga_operator.run.store import Key, Store
from fpga_operator.run.sweep import connect
from fpga_operator.run.sweepmetrics import SweepMetrics

log = logging.getLogger(__name__)

CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff")
MODEL_NOT_FOUND = "ModelNotFound"
AGAIN_SECONDS = 15.0  # while something is lost, or the registry does not answer
Content = tuple[str, str]  # repository and digest


class Lost:
    """The set, and the task that keeps it true."""

    def __init__(
        self, config: Config, store: Store, wake: Callable[[Key], None], metrics: SweepMetrics
    ) -> None:
        self._config = config
        self._store = store
        self._wake = wake
        self._lost: set[Content] = set()
        self._suspected = asyncio.Event()
        metrics.lost.set_function(lambda: len(self._lost))

    def lost(self, repository: str, digest: str) -> bool:
        """Tell whether the registry is known not to have a manifest."""
        return (repository, digest) in self._lost

    def of(self, repository: str) -> frozenset[str]:
        """Return the digests that a repository has lost."""
        return frozenset(digest for name, digest in self._lost if name == repository)

    def seen(self, body: Manifest) -> None:
        """Take in a watched object: one that cannot pull or find its model is a reason to look."""
        status = body.get("status") or {}
        if body["kind"] == "Pod":
            suspicious = any(map(_cannot_pull, status.get("containerStatuses") or []))
        elif body["kind"] in ("FpgaModel", "AccelImage"):
            reasons = {condition.get("reason") for condition in status.get("conditions") or []}
            suspicious = bool(self._lost) or MODEL_NOT_FOUND in reasons
        else:
            return
        if suspicious:
            self.look()

    def look(self) -> None:
        """Have the task ask the registry soon."""
        self._suspected.set()

    async def run(self) -> None:
        """Work for ever."""
        again: float | None = None
        silent = False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._suspected.wait(), again)
            self._suspected.clear()
            try:
                async with connect(self._config) as registry:
                    await self.check(registry)
                again = AGAIN_SECONDS if self._lost else None
                silent = False
            except RegistryFailure as error:
                if not silent:
                    log.warning("cannot tell what the registry has lost: %s", error)
                silent = True
                again = AGAIN_SECONDS

    async def check(self, registry: Registry) -> None:
        """Ask for everything that statuses promise, and wake the objects whose content went or came back.

        All of it, not the suspected one alone: what loses one manifest has mostly lost them all, and an image
        cannot be built again before its model is there.
        """
        needed = self._needed()
        lost = set()
        for repository, digest in needed:
            if await registry.digest(repository, digest) is None:
                lost.add((repository, digest))
        changed = lost ^ self._lost
        for repository, digest in sorted(lost - self._lost):
            log.warning("the registry has lost %s@%s", repository, digest)
        for repository, digest in sorted(self._lost - lost):
            log.info("the registry has %s@%s again, or nothing needs it", repository, digest)
        self._lost = lost
        for key in sorted(_owners(needed, changed)):
            self._wake(key)

    def _needed(self) -> dict[Content, set[tuple[str, str, str]]]:
        found = References()
        for kind in ("FpgaModel", "AccelImage"):
            for body in self._store.all(kind):
                read(found, kind, body)
        return found.needed


def _owners(needed: dict[Content, set[tuple[str, str, str]]], changed: Iterable[Content]) -> set[Key]:
    return {Key(*owner) for content in changed for owner in needed.get(content, ())}


def _cannot_pull(container: Manifest) -> bool:
    waiting = (container.get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in CANNOT_PULL
