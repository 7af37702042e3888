"""Random histories: whatever happens, the sweep takes nothing that is referred to, and leaves nothing that is not.

The history keeps its own books of who refers to what, and the planner sees only what a real one would: objects as
they lie in the API, and what tags lead to.
"""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fpga_operator.plan.sweep import Repository, Stored, is_ours, plan_sweep, subject_of
from fpga_operator.plan.sweeprefs import References, read
from fpga_operator.run.sweepstate import State, dump, load
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

GRACE = timedelta(hours=24)
NAMES = st.sampled_from(["a", "b"])
PICK = st.integers(0, 1_000_000)


@dataclass
class Version:
    """A version on its way into the registry: record, index, then the manifest with its tag."""

    repository: str
    number: int
    digest: str
    record: str = ""
    index: str = ""


@dataclass
class Thing:
    """A FpgaModel or AccelImage."""

    kind: str
    name: str
    generation: int = 1
    observed: int = -1
    listed: list[Version] = field(default_factory=list)
    job: str = ""  # name of the Job that is under way
    pushing: Version | None = None
    pin: tuple[str, int] | None = None  # of an image: a model and its version

    @property
    def repository(self) -> str:
        return f"{'models' if self.kind == 'FpgaModel' else 'images'}/shop/{self.name}"

    def body(self) -> dict[str, Any]:
        status: dict[str, Any] = {}
        if self.observed >= 0:
            status = {
                "observedGeneration": self.observed,
                "versions": [{"version": v.number, "digest": v.digest} for v in self.listed],
                "job": {"name": "j", "outcome": "Running" if self.job else "Succeeded"},
            }
        meta = {"name": self.name, "namespace": "shop", "generation": self.generation}
        pin = {"modelRef": {"name": self.pin[0], "version": self.pin[1]}} if self.pin else {}
        return {"kind": self.kind, "metadata": meta, "spec": pin, "status": status}


@dataclass
class Running:
    """A ReplicaSet or a pod with an image."""

    kind: str
    image: str
    needs: tuple[str, str]  # repository and digest

    def body(self) -> dict[str, Any]:
        spec = {"containers": [{"name": "c", "image": self.image}]}
        meta = {"name": "x", "namespace": "elsewhere"}
        return {"metadata": meta, "spec": spec if self.kind == "Pod" else {"template": {"spec": spec}}}


class History(RuleBasedStateMachine):
    """The world, and the books."""

    kinds_read = ("FpgaModel", "AccelImage", "AccelService", "ReplicaSet", "Job", "Pod")

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.count = 0
        self.tags: dict[tuple[str, str], str] = {}
        self.manifests: dict[tuple[str, str], Stored] = {}  # what the registry holds, reachable or not
        self.things: dict[tuple[str, str], Thing] = {}
        self.jobs: dict[str, str] = {}  # pods of Jobs that may still push: name to repository
        self.running: list[Running] = []
        self.services: list[Running] = []
        self.state = State()
        self.since: dict[tuple[str, str], datetime] = {}  # the books' own marks

    # -- the registry ---------------------------------------------------------------------------------------

    def put(self, repository: str, tag: str, children: frozenset[str] = frozenset(), digest: str = "") -> str:
        if not digest:
            self.count += 1
            digest = f"sha256:{self.count:064x}"
        self.manifests[repository, digest] = Stored(digest, children=children, is_index=bool(children))
        self.tags[repository, tag] = digest
        return digest

    def reachable(self, repository: str) -> Repository:
        tagged: dict[str, set[str]] = {}
        for (there, tag), digest in self.tags.items():
            if there == repository:
                tagged.setdefault(digest, set()).add(tag)
                if subject := subject_of(tag):
                    tagged.setdefault(subject, set())
        for digest in list(tagged):
            for child in (
                self.manifests[repository, digest].children if (repository, digest) in self.manifests else ()
            ):
                tagged.setdefault(child, set())
        found = {
            digest: Stored(digest, frozenset(tags), here.children, here.is_index)
            for digest, tags in tagged.items()
            if (here := self.manifests.get((repository, digest))) is not None
        }
        return Repository(repository, found)

    def delete(self, repository: str, digest: str) -> None:
        self.manifests.pop((repository, digest), None)
        self.tags = {key: d for key, d in self.tags.items() if key[0] != repository or d != digest}

    # -- objects of ours ------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(["FpgaModel", "AccelImage"]), name=NAMES)
    def create(self, kind: str, name: str) -> None:
        self.things.setdefault((kind, name), Thing(kind, name))

    @rule(pick=PICK)
    @precondition(lambda self: self.things)
    def edit(self, pick: int) -> None:
        thing = self.thing(pick)
        thing.generation += 1
        self.abandon(thing)

    @rule(pick=PICK)
    @precondition(lambda self: self.things)
    def remove(self, pick: int) -> None:
        thing = self.thing(pick)
        self.abandon(thing)
        del self.things[thing.kind, thing.name]

    def abandon(self, thing: Thing) -> None:
        """The Job is deleted; its pod may go on for a while."""
        thing.job, thing.pushing = "", None

    @rule(pick=PICK)
    @precondition(lambda self: any(not t.job and t.observed != t.generation for t in self.things.values()))
    def start_job(self, pick: int) -> None:
        idle = [t for t in self.things.values() if not t.job and t.observed != t.generation]
        self.start_job_of(idle[pick % len(idle)])

    def start_job_of(self, thing: Thing) -> None:
        self.count += 1
        thing.job = f"job{self.count}"
        self.jobs[thing.job] = thing.repository
        numbers = [int(t[1:]) for (there, t) in self.tags if there == thing.repository and t[0] == "v"]
        self.count += 1
        digest = f"sha256:{self.count:064x}"
        thing.pushing = Version(thing.repository, max(numbers, default=0) + 1, digest)

    @rule(pick=PICK, again=st.booleans())
    @precondition(lambda self: any(t.pushing for t in self.things.values()))
    def push_on(self, pick: int, again: bool) -> None:
        """One more put; `again`: the container died and its successor begins from the front."""
        busy = [t for t in self.things.values() if t.pushing]
        self.push_for(busy[pick % len(busy)], again=again)

    def push_for(self, thing: Thing, *, again: bool) -> None:
        version = thing.pushing
        assert version is not None
        tag = version.digest.replace(":", "-")
        if again:
            version.record = version.index = ""
        if not version.record:
            version.record = self.put(version.repository, f"{tag}.r{self.count}")
        elif not version.index:
            before = self.tags.get((version.repository, tag))
            if before is not None:
                self.tags[version.repository, f"{tag}.i{self.count}"] = before
            version.index = self.put(version.repository, tag, frozenset({version.record}))
        else:
            self.put(version.repository, f"v{version.number}", digest=version.digest)
            thing.listed.insert(0, version)
            thing.pushing = None

    @rule(pick=PICK)
    @precondition(lambda self: any(t.job and not t.pushing for t in self.things.values()))
    def finish(self, pick: int) -> None:
        """The operator reads the result."""
        done = [t for t in self.things.values() if t.job and not t.pushing]
        self.finish_job_of(done[pick % len(done)])

    def finish_job_of(self, thing: Thing) -> None:
        self.jobs.pop(thing.job, None)
        thing.job, thing.observed = "", thing.generation

    @rule(kind=st.sampled_from(["FpgaModel", "AccelImage"]), name=NAMES)
    def make(self, kind: str, name: str) -> None:
        """What mostly happens, in one step: the object is edited, and its Job goes through."""
        thing = self.things.setdefault((kind, name), Thing(kind, name))
        self.abandon(thing)
        thing.generation += 1
        self.start_job_of(thing)
        while thing.pushing:
            self.push_for(thing, again=False)
        self.finish_job_of(thing)

    @rule(pick=PICK)
    @precondition(lambda self: self.jobs)
    def pod_of_a_job_ends(self, pick: int) -> None:
        busy = {t.job for t in self.things.values()}
        names = sorted(set(self.jobs) - busy)
        if names:
            del self.jobs[names[pick % len(names)]]

    @rule(pick=PICK)
    @precondition(lambda self: any(len(t.listed) > 1 for t in self.things.values()))
    def history_limit(self, pick: int) -> None:
        many = [t for t in self.things.values() if len(t.listed) > 1]
        many[pick % len(many)].listed.pop()

    @rule(pick=PICK)
    @precondition(lambda self: any(kind == "AccelImage" for kind, _ in self.things))
    def pin(self, pick: int) -> None:
        """An image names a version of a model that is there, or follows again."""
        images = sorted(name for kind, name in self.things if kind == "AccelImage")
        there = sorted((r[12:], int(t[1:])) for r, t in self.tags if r.startswith("models/") and t[0] == "v")
        self.things["AccelImage", images[pick % len(images)]].pin = [*there, None][pick % (len(there) + 1)]

    def thing(self, pick: int) -> Thing:
        return sorted(self.things.values(), key=lambda t: (t.kind, t.name))[pick % len(self.things)]

    # -- what runs ------------------------------------------------------------------------------------------

    @rule(pick=PICK, kind=st.sampled_from(["Pod", "ReplicaSet", "AccelService"]), by_tag=st.booleans())
    @precondition(lambda self: any(t[0] == "v" for _, t in self.tags))
    def run_it(self, pick: int, kind: str, by_tag: bool) -> None:
        there = sorted(key for key in self.tags if key[1][0] == "v")
        repository, tag = there[pick % len(there)]
        digest = self.tags[repository, tag]
        name = f":{tag}" if by_tag and kind != "AccelService" else f"@{digest}"
        if kind == "AccelService":
            self.services.append(Running(kind, f"oci:///{repository}{name}", (repository, digest)))
        else:
            self.running.append(Running(kind, f"localhost:5000/{repository}{name}", (repository, digest)))

    @rule(pick=PICK)
    @precondition(lambda self: self.running)
    def stop_it(self, pick: int) -> None:
        self.running.pop(pick % len(self.running))

    @rule(pick=PICK)
    @precondition(lambda self: self.services)
    def remove_service(self, pick: int) -> None:
        self.services.pop(pick % len(self.services))

    # -- time and sweeps ------------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.state = load(dump(self.state))

    @rule(hours=st.sampled_from([1, 12, 23, 24, 30]), cut=st.sampled_from([None, None, None, 0, 1, 2, 4]))
    def sweep(self, hours: int, cut: int | None) -> None:
        """One pass, that many hours later; `cut`: it dies after that many deletions."""
        self.now += timedelta(hours=hours)
        protected = self.protected()
        for entry in set(self.manifests) | set(self.since):
            if entry in protected or entry not in self.manifests:
                self.since.pop(entry, None)
            else:
                self.since.setdefault(entry, self.now)
        names = {repository for repository, _ in self.tags if is_ours(repository)}
        plan = plan_sweep(
            [self.reachable(name) for name in names], self.references(), self.state.marks, self.now, GRACE
        )
        self.state = State(plan.marks)
        for candidate in plan.deletions[:cut]:
            assert (candidate.repository, candidate.digest) not in protected, candidate
            self.delete(candidate.repository, candidate.digest)
        if cut is None:
            late = {entry for entry, since in self.since.items() if self.now - since >= GRACE}
            assert not late & set(self.manifests), "unreferenced for longer than the grace, and still there"

    def references(self) -> References:
        found = References()
        bodies: list[tuple[str, dict[str, Any]]] = [(t.kind, t.body()) for t in self.things.values()]
        for service in self.services:
            meta = {"name": "s", "namespace": "shop"}
            bodies.append(("AccelService", {"metadata": meta, "status": {"image": service.image}}))
        for name, repository in self.jobs.items():
            env = [{"name": "ACCEL_JOB", "value": json.dumps({"target": {"repository": repository}})}]
            spec = {"containers": [{"name": name, "image": "toolchain", "env": env}]}
            bodies.append(("Pod", {"metadata": {}, "spec": spec, "status": {"phase": "Running"}}))
        bodies += [(each.kind, each.body()) for each in self.running]
        for kind, body in bodies:
            if kind in self.kinds_read:
                read(found, kind, body)
        return found

    def protected(self) -> set[tuple[str, str]]:
        """The books: what must stay now."""
        needed = {each.needs for each in (*self.running, *self.services)}
        whole = set(self.jobs.values())
        for thing in self.things.values():
            needed |= {(v.repository, v.digest) for v in thing.listed}
            if thing.job or thing.observed != thing.generation:
                whole.add(thing.repository)
            if thing.pin:
                pinned = f"models/shop/{thing.pin[0]}", f"v{thing.pin[1]}"
                needed |= {(pinned[0], self.tags[pinned])} if pinned in self.tags else set()
            numbers = {
                int(t[1:]): d for (r, t), d in self.tags.items() if r == thing.repository and t[0] == "v"
            }
            if numbers:
                needed.add((thing.repository, numbers[max(numbers)]))
        for repository, digest in list(needed):
            index = self.tags.get((repository, digest.replace(":", "-")))
            if index is not None and (repository, digest) in self.manifests:
                needed |= {(repository, index)}
                needed |= {(repository, child) for child in self.manifests[repository, index].children}
        return {entry for entry in self.manifests if entry[0] in whole or entry in needed}

    @invariant()
    def nothing_is_out_of_sight(self) -> None:
        for repository in {name for name, _ in self.manifests}:
            held = {digest for name, digest in self.manifests if name == repository}
            assert held == set(self.reachable(repository).manifests)

    @invariant()
    def no_tag_leads_nowhere(self) -> None:
        assert all((name, digest) in self.manifests for (name, _), digest in self.tags.items())


def run(machine: type[History], examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=phases,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_history_costs_what_is_needed_or_keeps_what_is_not() -> None:
    run(History, 5000 if os.environ.get("ACCEL_TEST_FULL") else 300)


MUTANTS = [kind for kind in History.kinds_read if kind != "Job"]  # Jobs are known by their pods here


@pytest.mark.parametrize("ignored", MUTANTS)
def test_a_sweep_that_overlooks_a_kind_is_found_out(ignored: str) -> None:
    """The property has teeth: without one kind of object it must fail."""
    rest = tuple(kind for kind in History.kinds_read if kind != ignored)
    blind = type(f"Without{ignored}", (History,), {"kinds_read": rest})
    with pytest.raises(AssertionError):
        run(blind, 1000, (Phase.generate,))


class WithoutPins(History):
    """Tags count for nothing."""

    def references(self) -> References:
        found = super().references()
        found.tags.clear()
        return found


def test_a_sweep_that_overlooks_pins_is_found_out() -> None:
    with pytest.raises(AssertionError):
        run(WithoutPins, 1000, (Phase.generate,))


def test_marks_survive_being_written() -> None:
    marks = {("models/a/b", f"sha256:{n:064x}"): datetime(2026, 1, 1 + n, tzinfo=UTC) for n in range(5)}
    state = State(marks, frozenset({"x/y"}))
    assert load(dump(state)) == state
    assert load("") == load("{}") == load("[]") == State()


def test_too_many_marks_lose_the_newest() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    marks = {("models/a/b", f"sha256:{n:064x}"): start + timedelta(minutes=n) for n in range(20_000)}
    kept = load(dump(State(marks))).marks
    assert len(dump(State(marks))) < 1_000_000
    assert 5_000 < len(kept) < 20_000
    assert max(kept.values()) < max(marks.values())
    assert set(kept) <= set(marks)
