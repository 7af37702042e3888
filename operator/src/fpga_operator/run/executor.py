"""Makes a plan true: server-side apply for what we set, a replace for what a hand added, nothing when all is well."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from fpga_operator.errors import ApiFailure, NotOurs, Retry, Terminal
from fpga_operator.plan.types import Event, Fault, KeysSecret, Manifest, Owner, Plan, Ref
from fpga_operator.run import anchor
from fpga_operator.run.anchor import anchored
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.drift import additions, child_differences, foreign_fields
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.store import Key, Store, key_of

log = logging.getLogger(__name__)

REPORTER = "accel.dev/fpga-operator"
MAX_NOTE = 1024
REJECTED = (400, 403, 422)
# What the API server fills in once and refuses to lose in a replace.
_CARRIED = {"Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")}


class Rejected(Terminal):
    """The API server says that a child is not valid: the spec asks for something that cannot be."""


def controller_uid(body: Manifest) -> str:
    """Return the uid of the object's controller, or nothing."""
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


@dataclass(frozen=True)
class _Written:
    """A keys Secret as we wrote it, without its keys."""

    uid: str
    version: str
    wanted: KeysSecret


class Executor:
    """Applies plans."""

    def __init__(
        self, cluster: Cluster, store: Store, keys: KeyDeriver, metrics: Metrics, identity: str
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._keys = keys
        self.metrics = metrics
        self._identity = identity
        self._secrets: dict[tuple[str, str], _Written] = {}  # by namespace and name

    # -- children -------------------------------------------------------------------------------------------

    async def children(self, owner: Owner, plan: Plan, *, thorough: bool) -> None:
        """Make the children true.

        thorough: also look at what no watch tells of, an edit of the keys by hand.

        Raises:
            Terminal: a child cannot be; the plan is to be made again with the fault.
            Retry: it can be, later.
        """
        children = plan.children
        if (keys := plan.keys) is not None:
            uid = await self._secret(owner, keys, thorough=thorough)
            children = tuple(anchored(manifest, keys.name, uid) for manifest in children)
        for manifest in children:
            await self._child(owner, manifest)
        await self.delete(plan.deletes)

    async def delete(self, refs: Iterable[Ref]) -> None:
        """Delete these objects. Those that are gone are forgotten; a pod that takes its time is known to be ending."""
        for ref in refs:
            ending = await self._cluster.delete(ref.kind, ref.namespace, ref.name, ref.uid)
            self.metrics.writes.labels(ref.kind, "delete").inc()
            if ending is not None:
                self._store.put(ending)
            else:
                self._store.remove(Key(ref.kind, ref.namespace, ref.name), ref.uid)
            log.info("deleted %s %s/%s", ref.kind, ref.namespace, ref.name)

    async def _child(self, owner: Owner, manifest: Manifest) -> None:
        key = key_of(manifest)
        record = self._store.get(key)
        if record is None:
            # Watches show what carries our label; somebody else's object of that name is visible only this way.
            live = await self._cluster.get(*key)
            if live is None:
                await self._apply(manifest)
                log.info("created %s %s/%s", *key)
                return
            self._claim(owner, key, live)
            self._store.put(live)
            foreign = tuple(foreign_fields(live))
        else:
            live, foreign = record.body, record.foreign
            self._claim(owner, key, live)
        if "deletionTimestamp" in live["metadata"]:
            raise Retry(
                f"{key.kind} {key.namespace}/{key.name} is being deleted; it is made again after that"
            )
        if key.kind == "Job":
            return  # its template cannot change: other inputs have another name
        wrong = child_differences(manifest, live) + additions(manifest, live, foreign)
        if wrong:
            log.info("correcting %s %s/%s: %s", *key, ", ".join(wrong[:8]))
            await self._correct(manifest, live)

    async def _correct(self, manifest: Manifest, live: Manifest) -> None:
        try:
            current = await self._apply(manifest, uid=live["metadata"]["uid"])
            if not _left(manifest, current):
                return
        except Rejected:
            # Merged with what a hand added it may not be valid (a port renumbered by hand is a second one to a merge).
            found = await self._cluster.get(*key_of(manifest))
            if found is None:
                raise
            current = found
        current = await self._write("replace", self._cluster.replace, _replacement(manifest, current))
        self._store.put(current)
        if left := _left(manifest, current):
            what = f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            raise Retry(f"{what} is changed by someone again and again: {', '.join(left[:8])}")

    async def _apply(self, manifest: Manifest, uid: str = "") -> Manifest:
        body = manifest
        if uid:  # a successor of that name is not ours to touch
            body = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        applied = await self._write("apply", lambda wanted: self._cluster.apply(wanted, force=True), body)
        if manifest["kind"] != "Secret":
            self._store.put(applied)
        return applied

    async def _write(self, verb: str, call, manifest: Manifest) -> Manifest:  # type: ignore[no-untyped-def]
        self.metrics.writes.labels(manifest["kind"], verb).inc()
        try:
            answer: Manifest = await call(manifest)
        except ApiFailure as error:
            if error.status in REJECTED and "being terminated" not in error.message:
                what = f"{manifest['kind']} {manifest['metadata']['name']}"
                raise Rejected(f"the API server refuses {what}: {error.message}") from error
            raise
        return answer

    def _claim(self, owner: Owner, key: Key, live: Manifest) -> None:
        """Check that a live object is ours.

        Raises:
            NotOurs: it belongs to someone else.
            Retry: it belonged to an object of our name that is gone; the garbage collector is about to take it.
        """
        if controller_uid(live) == owner.uid:
            return
        for reference in live["metadata"].get("ownerReferences") or []:
            if reference.get("controller") and (reference["kind"], reference["name"]) == (
                owner.kind,
                owner.name,
            ):
                raise Retry(
                    f"{key.kind} {key.namespace}/{key.name} of an earlier {owner.kind} is not gone yet"
                )
        if key.kind == anchor.KIND and anchor.holds_any(live, f"{owner.name}-keys"):
            raise Retry(
                f"{key.kind} {key.namespace}/{key.name} goes with the keys of an earlier {owner.kind}"
            )
        raise NotOurs(*key)

    # -- keys -----------------------------------------------------------------------------------------------

    async def _secret(self, owner: Owner, wanted: KeysSecret, *, thorough: bool) -> str:
        """Write the Secret, without ever reading one: create it, or apply it once it is known to be ours.

        Returns its uid.
        """
        place = (owner.namespace, wanted.name)
        known = self._secrets.get(place)
        if known is not None and known.wanted == wanted:
            live = self._store.body(Key(anchor.KIND, owner.namespace, owner.name))
            if not thorough and anchor.holds(live, known.uid):
                return known.uid
            meta = (await self._cluster.peek("Secret", *place) or {}).get("metadata", {})
            if (meta.get("uid"), meta.get("resourceVersion")) == (known.uid, known.version):
                return known.uid
        manifest = self._keys.secret(owner, wanted)
        if known is not None:
            try:
                return self._wrote(place, wanted, await self._apply(manifest, uid=known.uid))
            except ApiFailure as error:
                if error.status not in (404, 409):
                    raise
                self._secrets.pop(place, None)  # deleted, or made again by someone: find out
        there = await self._cluster.peek("Secret", *place)
        if there is None:
            applied = await self._apply(manifest)
            log.info("created Secret %s/%s", *place)
        else:
            self._claim(owner, Key("Secret", *place), there)
            applied = await self._apply(manifest, uid=there["metadata"]["uid"])
        return self._wrote(place, wanted, applied)

    def _wrote(self, place: tuple[str, str], wanted: KeysSecret, applied: Manifest) -> str:
        meta = applied["metadata"]
        self._secrets[place] = _Written(meta["uid"], meta["resourceVersion"], wanted)
        return str(meta["uid"])

    def forget(self, key: Key) -> None:
        """Drop what is remembered about an object that is gone."""
        if key.kind == "AccelService":  # a model or an image of the same name has no keys
            self._secrets.pop((key.namespace, f"{key.name}-keys"), None)

    # -- status ---------------------------------------------------------------------------------------------

    async def status(self, owner: Owner, current: Manifest, plan: Plan) -> bool:
        """Write the status if it differs; tell whether it was written."""
        if current == plan.status:
            for event in plan.events:  # of pods that were deleted
                await self._event(owner, event)
            return False
        self.metrics.writes.labels(owner.kind, "status").inc()
        try:
            live = await self._cluster.apply_status(
                owner.kind, owner.namespace, owner.name, owner.uid, plan.status
            )
        except ApiFailure as error:
            if error.status in (404, 409):  # deleted meanwhile, or a successor took the name
                return False
            raise
        self._store.put(live)
        for event in plan.events:
            await self._event(owner, event)
        return True

    async def _event(self, owner: Owner, event: Event) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        manifest = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{owner.name[:50]}-", "namespace": owner.namespace},
            "eventTime": now,
            "type": event.type,
            "reason": event.reason,
            "note": event.note[:MAX_NOTE],
            "action": "Reconcile",
            "reportingController": REPORTER,
            "reportingInstance": self._identity[:128],
            "regarding": {
                "apiVersion": owner.reference()["apiVersion"],
                "kind": owner.kind,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
        }
        try:
            await self._cluster.create(manifest)
        except ApiFailure as error:  # an event is a courtesy: the condition says the same
            level = logging.INFO if "being terminated" in error.message else logging.WARNING
            log.log(level, "no event for %s %s/%s: %s", owner.kind, owner.namespace, owner.name, error)


def fault_of(error: Terminal) -> Fault:
    """Return what a condition says about an error that only a person can cure."""
    if isinstance(error, NotOurs):
        return Fault(
            "NameConflict",
            f"{error.kind} {error.name} exists and belongs to someone else: delete or rename it, or rename this object",
        )
    return Fault("ChildRejected", str(error))


def _left(manifest: Manifest, live: Manifest) -> list[str]:
    """Return what still differs in an object that was just written."""
    return child_differences(manifest, live) + additions(manifest, live, foreign_fields(live))


def _replacement(manifest: Manifest, live: Manifest) -> Manifest:
    """Return the live object with everything of ours set back to what we want, and nothing else beside it."""
    result = {**live, **{key: value for key, value in manifest.items() if key != "metadata"}}
    for field in _CARRIED.get(manifest["kind"], ()):
        if field in live["spec"] and field not in manifest["spec"]:
            result["spec"] = {**result["spec"], field: live["spec"][field]}
    if manifest["kind"] == "Service":
        result["spec"] = {**result["spec"], "ports": _with_node_ports(manifest, live)}
    allowed = {"apiVersion", "kind", "metadata", "status"} | manifest.keys()
    return {key: value for key, value in result.items() if key in allowed}


def _with_node_ports(manifest: Manifest, live: Manifest) -> list[Manifest]:
    """Keep the node port that Kubernetes picked: it is an address that was given out."""
    if manifest["spec"]["type"] != "NodePort":
        return list(manifest["spec"]["ports"])
    picked = {port.get("name"): port.get("nodePort") for port in live["spec"].get("ports") or []}
    return [
        {**({"nodePort": picked[port["name"]]} if picked.get(port["name"]) else {}), **port}
        for port in manifest["spec"]["ports"]
    ]
