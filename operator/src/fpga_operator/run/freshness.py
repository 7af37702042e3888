"""Whether the watches tell what happens: what they delivered, compared with what a list says.

A watch may be dead without an error (kopf issue 1276), and an idle one looks the same. So metadata is listed now and
then, which writes nothing: an object in the list whose version no watch has delivered for a while proves a stall.
An API server that does not answer proves nothing, and stops the clock: no restart of ours would help it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from fpga_operator.errors import ApiFailure
from fpga_operator.plan.types import MANAGED_BY, OPERATOR, Manifest
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.mapping import MAPPING, OWN
from fpga_operator.run.store import Key, Store, key_of

log = logging.getLogger(__name__)

UNLABELLED = (*OWN, "FpgaNode", "Node")
GRACE_SECONDS = (
    15.0  # a watch delivers within milliseconds, a busy operator works off what it got within seconds
)
STALLED_SECONDS = 180.0  # by then the watches have been restarted more than once, in vain
LIST_SECONDS = 10.0


def selector_of(kind: str) -> str:
    """Return the label selector of a kind's watch; own kinds and nodes are watched whole."""
    return "" if kind in UNLABELLED else f"{MANAGED_BY}={OPERATOR}"


@dataclass(frozen=True)
class Late:
    """A version that a list showed at a time (seconds of the loop's clock) and no watch has delivered yet."""

    key: Key
    version: int
    since: float


class Freshness:
    """Compares watches with lists, kind by kind."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        vanished: Callable[[Manifest], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._vanished = vanished
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._delivered: dict[str, dict[str, int]] = {kind: {} for kind in MAPPING}  # uid -> newest version
        self._heard: dict[str, float] = {}  # kind -> when its watch last delivered anything
        self._late: dict[str, dict[str, Late]] = {}  # kind -> uid -> what is missing

    # -- what watches say -----------------------------------------------------------------------------------

    def delivered(self, body: Manifest) -> None:
        """Note what a watch, or the listing before it, delivered."""
        kind, uid = body["kind"], body["metadata"]["uid"]
        self._heard[kind] = self._clock()
        self._delivered[kind][uid] = max(_version(body), self._delivered[kind].get(uid, 0))

    # -- what lists say -------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Compare every kind; also forget objects whose deletion no watch has told."""
        for kind in MAPPING:
            try:
                await self._check(kind)
            except ApiFailure as error:
                # Unknown is not late. All clocks stop: an API server that was away delivers late, and that is fine.
                self._late.clear()
                log.info("watches are not compared: %s", error)
                if error.status == 0:
                    return

    async def _check(self, kind: str) -> None:
        known, delivered = self._store.uids(kind), set(self._delivered[kind])
        live = await self._cluster.list(
            kind, selector_of(kind), metadata_only=True, timeout_seconds=LIST_SECONDS
        )
        there = {item["metadata"]["uid"]: {**item, "kind": kind} for item in live}
        for uid in delivered - there.keys():
            self._delivered[kind].pop(uid, None)
        for uid, key in known.items():
            body = self._store.body(key)
            if uid not in there and body is not None and body["metadata"]["uid"] == uid:
                log.info("%s %s/%s is gone; its deletion went unseen", *key)
                self._vanished(body)
        before, now = self._late.get(kind, {}), self._clock()
        late: dict[str, Late] = {}
        for uid, item in there.items():
            version = self._delivered[kind].get(uid, 0)
            earlier = before.get(uid)
            if earlier is not None and version < earlier.version:
                late[uid] = earlier
            elif version < _version(item):
                late[uid] = Late(key_of(item), _version(item), now)
        self._late[kind] = late

    # -- the verdict ----------------------------------------------------------------------------------------

    def silent(self) -> str:
        """Name a watch that has missed something for too long and delivered nothing at all meanwhile, or nothing."""
        now = self._clock()
        for late in self._oldest():
            if now - late.since >= GRACE_SECONDS and self._heard.get(late.key.kind, 0.0) < late.since:
                return f"the watch of {late.key.kind} has missed {_words(late)} for {now - late.since:.0f} s"
        return ""

    def stalled(self) -> str:
        """Name a watch that restarts of the watches did not mend, or nothing: the process has to go."""
        now = self._clock()
        for late in self._oldest():
            if now - late.since >= STALLED_SECONDS:
                return f"the watch of {late.key.kind} has missed {_words(late)} for {now - late.since:.0f} s"
        return ""

    def _oldest(self) -> list[Late]:
        """Return the oldest miss of each kind."""
        return [min(late.values(), key=lambda miss: miss.since) for late in self._late.values() if late]


def _version(body: Manifest) -> int:
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


def _words(late: Late) -> str:
    return f"{late.key.namespace}/{late.key.name}".lstrip("/")
