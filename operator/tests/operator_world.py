"""A small simulated cluster with a registry and sources, in which the real planners, cache, mapping and slots work.

What is simulated: the API server (objects, generations, garbage collection, events that wait for delivery), Jobs that
end as the sources and the registry say, Deployments that bring their pods. The operator's memory is its store and the
status of the objects; `restart` takes the store away.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from fpga_operator.errors import Retry
from fpga_operator.plan.conditions import TABLE
from fpga_operator.plan.types import REVISION_LABEL, Manifest, Owner, Plan, format_time
from fpga_operator.run.mapping import MAPPING, OWN, affected
from fpga_operator.run.reconcile import Reconciler
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store, key_of
from operator_samples import CONFIG, NOW, RUNNING, ended, server_pod

LIMIT = 2
# Whose versions: below which name in the registry, what refers to them, how, and whether its status runs one.
USERS: dict[str, tuple[str, str, str, Callable[[Manifest, Manifest], bool]]] = {
    "FpgaModel": (
        "models",
        "AccelImage",
        "modelRef",
        lambda status, version: bool(status.get("modelVersion") == version["version"]),
    ),
    "AccelImage": (
        "images",
        "AccelService",
        "imageRef",
        lambda status, version: str(status.get("image")).endswith(version["digest"]),
    ),
}


class Killed(Exception):
    """The operator's process ended between two writes."""


def digest_of(*what: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def drive(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the simulated world has nothing to wait for")


class Api:
    """The API server: the truth, and the events that tell of it."""

    def __init__(self) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.events: list[Manifest] = []
        self.version = 0

    def put(self, body: Manifest) -> Manifest:
        self.version += 1
        meta = {"uid": f"uid{self.version}", "creationTimestamp": format_time(NOW), **body["metadata"]}
        body = {**copy.deepcopy(body), "metadata": {**meta, "resourceVersion": str(self.version)}}
        self.objects[key_of(body)] = body
        self.events.append(body)
        return body

    def edit(self, key: Key, spec: Manifest) -> None:
        body = self.objects[key]
        if spec != body["spec"]:
            meta = {**body["metadata"], "generation": body["metadata"].get("generation", 1) + 1}
            self.put({**body, "metadata": meta, "spec": spec})

    def delete(self, key: Key) -> None:
        body = self.objects.pop(key)
        self.events.append({**body, "gone": True})
        for other, child in list(self.objects.items()):
            owners = child["metadata"].get("ownerReferences") or []
            if other in self.objects and any(o["uid"] == body["metadata"]["uid"] for o in owners):
                self.delete(other)

    def of(self, kind: str) -> list[Manifest]:
        return [body for key, body in sorted(self.objects.items()) if key.kind == kind]


class Executor:
    """Writes at once and without fail, unless the process is to be killed at its n-th write."""

    metrics = SimpleNamespace(
        job_seconds=SimpleNamespace(labels=lambda *_: SimpleNamespace(observe=lambda _: None))
    )

    def __init__(self, api: Api, store: Store) -> None:
        self.api, self.store = api, store
        self.writes = 0
        self.kill_at: int | None = None
        self.check_history: Callable[[Key, Manifest, Manifest], None] = lambda *_: None

    def _write(self) -> None:
        if self.kill_at is not None and self.kill_at <= 0:
            raise Killed
        if self.kill_at is not None:
            self.kill_at -= 1
        self.writes += 1

    async def children(self, owner: Owner, plan: Plan, **_: Any) -> None:
        for manifest in plan.children:
            key = key_of(manifest)
            live = self.store.body(key) or self.api.objects.get(key)
            if live is not None and live["metadata"]["ownerReferences"][0]["uid"] != owner.uid:
                raise Retry("a predecessor's")
            if live is not None and (key.kind == "Job" or live["spec"] == manifest.get("spec", {})):
                continue
            self._write()
            if key.kind == "Job":
                self._check_once(owner, manifest)
            meta = dict(manifest["metadata"])
            if live is not None and key in self.api.objects:
                old = self.api.objects[key]["metadata"]
                meta |= {"uid": old["uid"], "generation": old.get("generation", 1) + 1}
            self.store.put(self.api.put({"spec": {}, **manifest, "metadata": meta}))
        await self.delete(plan.deletes)

    async def delete(self, refs: Any) -> None:
        for ref in refs:
            self._write()
            key = Key(ref.kind, ref.namespace, ref.name)
            live = self.api.objects.get(key)
            if live is not None and live["metadata"]["uid"] == ref.uid:
                self.api.delete(key)
            self.store.remove(key, ref.uid)

    def _check_once(self, owner: Owner, job: Manifest) -> None:
        live = self.api.objects.get(Key(owner.kind, owner.namespace, owner.name))
        record = ((live or {}).get("status") or {}).get("job") or {}
        done = (record.get("name"), record.get("outcome")) == (job["metadata"]["name"], "Succeeded")
        assert not done, f"a second Job for the same inputs: {job['metadata']['name']}"

    async def status(self, owner: Owner, current: Manifest, plan: Plan) -> bool:
        check_contract(owner, plan.status)
        if current == plan.status:
            return False
        self._write()
        key = Key(owner.kind, owner.namespace, owner.name)
        live = self.api.objects.get(key)
        if live is None or live["metadata"]["uid"] != owner.uid:
            return False
        self.check_history(key, live.get("status") or {}, plan.status)
        self.store.put(self.api.put({**live, "status": plan.status}))
        return True

    def forget(self, _: Key) -> None:
        pass


def check_contract(owner: Owner, status: Manifest) -> None:
    """What holds of every status at any time."""
    found = {c["type"]: c for c in status["conditions"]}
    flags = {kind: found[kind]["status"] == "True" for kind in ("Reconciling", "Stalled") if kind in found}
    assert not (flags.get("Reconciling") and flags.get("Stalled"))
    assert found["Ready"]["status"] != "True" or not flags
    assert status["observedGeneration"] == owner.generation
    assert all(c["observedGeneration"] == owner.generation for c in found.values())
    rows = {
        (str(row.state), row.ready, row.reconciling or None, row.stalled or None) for row in TABLE.values()
    }
    seen = (
        status["state"],
        found["Ready"]["status"] == "True",
        flags.get("Reconciling"),
        flags.get("Stalled"),
    )
    assert seen in rows
    versions = [v["version"] for v in status.get("versions", [])]
    assert versions == sorted(set(versions), reverse=True)


class World:
    """All of it, with a clock."""

    def __init__(self) -> None:
        self.api = Api()
        self.seconds = 0.0
        self.sources: dict[str, str] = {}
        self.tags: dict[str, dict[int, str]] = {}  # repository -> number -> digest
        self.reported: set[tuple[str, str]] = set()
        self._node()
        self.restart()

    # -- the operator ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        """End the process and start another: it lists everything first."""
        self.store = Store()
        self.executor = Executor(self.api, self.store)
        self.executor.check_history = self.check_history
        self.slots = JobSlots(self.store, LIMIT)
        self.todo: set[Key] = set()
        self.due: dict[Key, float] = {}
        self.slots.wake = self.todo.add
        now = lambda: NOW + timedelta(seconds=self.seconds)  # noqa: E731
        self.reconciler = Reconciler(CONFIG, self.store, self.executor, self.slots, now)  # type: ignore[arg-type]
        self.reconciler.lost = lambda repository: frozenset(
            digest for where, digest in self.reported if where == repository
        )
        self.api.events.clear()
        for body in self.api.objects.values():
            self.store.put(body)
        for body in self.api.objects.values():
            self.todo |= affected(self.store, body)

    def deliver(self, index: int = 0, *, keep: bool = False, drop: bool = False) -> None:
        """Let an event arrive: out of order, twice (keep), or never (drop)."""
        body = self.api.events[index]
        if not keep:
            del self.api.events[index]
        if drop or body["kind"] not in MAPPING:
            return
        if body.get("gone"):
            self.store.remove(key_of(body), body["metadata"]["uid"])
        else:
            self.store.put(body)
        self.todo |= affected(self.store, body)
        if body["kind"] == "Job":
            self.todo |= set(self.slots.next())

    def resync(self) -> None:
        """Compare with a list, as the operator does now and then, and look at everything."""
        for kind in MAPPING:
            for uid, key in self.store.uids(kind).items():
                if self.api.objects.get(key, {"metadata": {"uid": ""}})["metadata"]["uid"] != uid:
                    gone = self.store.body(key)
                    assert gone is not None
                    self.store.remove(key, uid)
                    self.todo |= affected(self.store, gone)
        for body in self.api.objects.values():
            self.store.put(body)
        for kind in OWN:
            self.todo |= set(self.store.keys(kind))

    def work(self, key: Key) -> None:
        """One pass of a worker."""
        self.todo.discard(key)
        self.due.pop(key, None)
        try:
            after = drive(self.reconciler.reconcile(key))
        except Killed:
            self.restart()
            return
        except Retry:
            after = 1.0
        if after is not None:
            self.due[key] = self.seconds + after

    def passes(self, seconds: float) -> None:
        """Let time go by."""
        self.seconds += seconds
        self.todo |= {key for key, when in self.due.items() if when <= self.seconds}

    # -- the world around it --------------------------------------------------------------------------------

    def running(self) -> list[Manifest]:
        return [job for job in self.api.of("Job") if not job.get("status")]

    def end(self, job: Manifest, how: str = "") -> None:
        """Let a Job end: as the world has it, or `crash` (its pods are gone), or `down` (the registry is away)."""
        steps = job["spec"]["template"]["spec"]
        names = [c["name"] for c in [*steps.get("initContainers", []), *steps["containers"]]]
        payload = json.loads(steps["containers"][0]["env"][0]["value"])
        down = {"ok": False, "reason": "RegistryUnavailable", "message": "down", "retry": True}
        said = down if how == "down" else self._outcome(names[-1], payload)
        code = 0 if said.pop("ok") else 65
        if how != "crash":
            step = names[-1] if code == 0 or names[-1] == "build" else "fetch"
            state = ended(code, step=step, **said)
            meta = {
                "name": f"{job['metadata']['name']}-pod{self.api.version}",
                "namespace": "demo",
                "labels": job["metadata"]["labels"],
                "ownerReferences": [{"uid": job["metadata"]["uid"]}],
            }
            status = {"phase": "Failed", "containerStatuses": [{"name": step, "state": state}]}
            self.api.put({"kind": "Pod", "metadata": meta, "spec": {}, "status": status})
        fine = how == "" and code == 0
        conditions = [{"type": "Complete" if fine else "Failed", "status": "True", "reason": "x"}]
        self.api.put({**job, "status": {"conditions": conditions}})

    def _outcome(self, last: str, payload: Manifest) -> Manifest:
        repository, remembered = payload["target"]["repository"], payload["target"]["versions"]
        if last == "push":
            source = self.sources.get(payload["source"]["uri"])
            if source is None:
                return {"ok": False, "reason": "SourceNotFound", "message": "push it", "retry": False}
            content = digest_of("model", source, payload["conversion"])
            number = self._version(repository, content, remembered)
            return {
                "ok": True,
                "model": self._entry(repository, number),
                "versions": self._entries(repository),
            }
        model = payload["model"]
        if not self.holds(model["repository"], model["digest"]):
            return {"ok": False, "reason": "ModelNotFound", "message": "gone", "retry": False}
        content = digest_of("image", payload["base"], model["digest"])
        number = self._version(repository, content, remembered)
        more = {"modelVersion": model["version"], "modelDigest": model["digest"]}
        return {
            "ok": True,
            "image": {**self._entry(repository, number), **more},
            "versions": [],
            "versionsCut": True,
        }

    def holds(self, repository: str, digest: str) -> bool:
        return digest in self.tags.get(repository, {}).values()

    def _version(self, repository: str, digest: str, remembered: dict[str, int]) -> int:
        """Return the number of what a Job made, as the toolchain gives it: the one it has or had, or the next."""
        tags = self.tags.setdefault(repository, {})
        found = [number for number, there in tags.items() if there == digest]
        before = remembered.get(digest, 0)
        if not found and before and before not in tags:
            found = [before]
        number = max(found, default=max((*tags, *remembered.values()), default=0) + 1)
        tags[number] = digest
        return number

    def _entry(self, repository: str, number: int) -> Manifest:
        return {"version": number, "digest": self.tags[repository][number]}

    def _entries(self, repository: str) -> list[Manifest]:
        return [self._entry(repository, n) for n in sorted(self.tags[repository], reverse=True)]

    def lose(self, repository: str, number: int) -> None:
        """Take a manifest out of the registry."""
        del self.tags[repository][number]

    def check_history(self, key: Key, before: Manifest, after: Manifest) -> None:
        """A version that someone uses and the registry has never leaves a status; as far as the operator knows.

        And a number that stays means the same bytes.
        """
        if key.kind not in USERS:
            return
        head, kind, ref, runs = USERS[key.kind]
        repository = f"{head}/{key.namespace}/{key.name}"
        stays = {v["version"]: v["digest"] for v in after.get("versions", [])}
        for version in before.get("versions", []):
            number = version["version"]
            assert stays.get(number, version["digest"]) == version["digest"], f"{key} gave {number} twice"
            used = any(
                body["spec"][ref]["name"] == key.name
                and (body["spec"][ref].get("version") == number or runs(body.get("status") or {}, version))
                for body in self.store.all(kind)
            )
            gone = (repository, version["digest"]) in self.reported or not self.holds(
                repository, version["digest"]
            )
            assert number in stays or gone or not used, f"{key} dropped {version}"

    def forget_ended_jobs(self) -> None:
        """Remove the Jobs whose time to live is over."""
        for job in self.api.of("Job"):
            if job.get("status"):
                self.api.delete(key_of(job))

    def check_registry(self) -> None:
        """Find out what statuses name and the registry has not, as the sweep does."""
        self.reported = set()
        for kind, head in (("FpgaModel", "models"), ("AccelImage", "images")):
            for body in self.api.of(kind):
                repository = f"{head}/demo/{body['metadata']['name']}"
                for version in (body.get("status") or {}).get("versions", []):
                    if not self.holds(repository, version["digest"]):
                        self.reported.add((repository, version["digest"]))

    def kubelet(self) -> None:
        """Bring each Deployment the pods that its template wants; collect what has lost its owner."""
        uids = {body["metadata"]["uid"] for body in self.api.objects.values()}
        for key, body in list(self.api.objects.items()):
            owners = [o["uid"] for o in body["metadata"].get("ownerReferences") or []]
            if owners and not uids & set(owners) and key in self.api.objects:
                self.api.delete(key)
        for deployment in self.api.of("Deployment"):
            meta, spec = deployment["metadata"], deployment["spec"]
            revision = spec["template"]["metadata"]["labels"][REVISION_LABEL]
            if (deployment.get("status") or {}).get("observedGeneration") != meta.get("generation", 1):
                self.api.put({**deployment, "status": {"observedGeneration": meta.get("generation", 1)}})
            mine = [p for p in self.api.of("Pod") if p["metadata"]["name"].startswith(f"srv-{meta['name']}-")]
            for pod in mine:
                if pod["metadata"]["labels"][REVISION_LABEL] != revision:
                    self.api.delete(key_of(pod))
            for number in range(spec.get("replicas", 1)):
                name = f"srv-{meta['name']}-{revision}-{number}"
                if Key("Pod", "demo", name) not in self.api.objects:
                    pod = server_pod(name, revision, node="n", ready=True, service=meta["name"])
                    del pod["metadata"]["uid"]  # each pod has one of its own, also under the same name
                    pod["metadata"]["ownerReferences"] = [{"uid": meta["uid"]}]
                    pod["status"]["containerStatuses"] = [{"name": "server", "ready": True, "state": RUNNING}]
                    self.api.put(pod)

    def _node(self) -> None:
        ready = [{"type": "Ready", "status": "True"}]
        address = [{"type": "InternalIP", "address": "192.0.2.1"}]
        node = {"conditions": ready, "addresses": address}
        self.api.put({"kind": "Node", "metadata": {"name": "n"}, "spec": {}, "status": node})
        devices = [{"id": f"fpga{n}", "health": "Healthy", "state": "idle"} for n in range(4)]
        self.api.put({"kind": "FpgaNode", "metadata": {"name": "n"}, "status": {"devices": devices}})

    # -- the end --------------------------------------------------------------------------------------------

    def cycle(self) -> None:
        """Let everything that is due happen once, in good order."""
        self.check_registry()
        while self.api.events:
            self.deliver()
        self.resync()
        while self.todo:
            self.work(min(self.todo))
        for job in self.running():
            self.end(job)
        self.kubelet()
        while self.api.events:
            self.deliver()
        while self.todo:
            self.work(min(self.todo))

    def settle(self) -> None:
        """Let everything happen in good order until nothing changes any more but the times of the next checks."""
        quiet, before = 0, None
        history: list[Manifest] = []
        for _ in range(120):
            self.cycle()
            self.passes(601)
            now = self.essence()
            quiet = quiet + 1 if now == before else 0
            before = now
            if quiet == 4:
                return
            history.append(now)
        moving = {
            name: [h.get(name) for h in history[-3:]] for name in now if history[-2].get(name) != now[name]
        }
        raise AssertionError(f"it does not come to rest: {json.dumps(moving)}")

    def essence(self) -> Manifest:
        """Return what is told of every object, without the record of Jobs."""
        return {
            f"{kind}/{body['metadata']['name']}": {
                name: value for name, value in (body.get("status") or {}).items() if name != "job"
            }
            for kind in OWN
            for body in self.api.of(kind)
        }
