"""Whatever happens in whatever order, the chain comes to the end that its specs ask for, and status never lies."""

import os
from typing import Any

import pytest
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.plan.model import ModelDesired, payload
from fpga_operator.run.store import Key, key_of
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from operator_samples import CONFIG, owner
from operator_world import LIMIT, World, digest_of

FULL = os.environ.get("ACCEL_TEST_FULL")
MODELS, IMAGES, SERVICES = ("m0", "m1"), ("i0", "i1"), ("s0", "s1")
URIS = ("oci:///sources/a:1", "oci:///sources/b:1")
Spec = dict[str, Any]


def model_spec(uri: str, opset: bool, words: str, history: int | None) -> Spec:
    spec: Spec = {"source": {"uri": uri}}
    if opset:
        spec["conversion"] = {"outputs": ["y:0"]}
    if words:
        spec["description"] = words
    return spec if history is None else {**spec, "historyLimit": history}


def image_spec(model: str, version: int | None, history: int | None) -> Spec:
    ref = {"name": model} if version is None else {"name": model, "version": version}
    return {"modelRef": ref} if history is None else {"modelRef": ref, "historyLimit": history}


def service_spec(image: str, version: int | None) -> Spec:
    return {"imageRef": {"name": image} if version is None else {"name": image, "version": version}}


HISTORY = st.sampled_from([None, 0, 1])
MODEL_SPECS = st.builds(model_spec, st.sampled_from(URIS), st.booleans(), st.sampled_from(["", "x"]), HISTORY)
PINS = st.sampled_from([None, None, None, 1, 2])
IMAGE_SPECS = st.builds(image_spec, st.sampled_from(MODELS), PINS, HISTORY)
SERVICE_SPECS = st.builds(service_spec, st.sampled_from(IMAGES), PINS)


def ready(body: Spec) -> tuple[bool, str]:
    """Return whether an object is Ready for its newest spec, and the reason."""
    found = next(c for c in body["status"]["conditions"] if c["type"] == "Ready")
    newest = body["status"]["observedGeneration"] == body["metadata"].get("generation", 1)
    return found["status"] == "True" and newest, found["reason"]


class WorldMachine(RuleBasedStateMachine):
    """A user, a cluster that fails now and then, and an operator that is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize()
    def the_usual_chain(self) -> None:
        self.push(URIS[0])
        self.apply("AccelService", "s0", service_spec("i0", None))
        self.apply("AccelImage", "i0", image_spec("m0", None, None))
        self.apply("FpgaModel", "m0", model_spec(URIS[0], False, "", None))

    def apply(self, kind: str, name: str, spec: Spec) -> None:
        key = Key(kind, "demo", name)
        if key in self.world.api.objects:
            self.world.api.edit(key, spec)
        else:
            meta = {"name": name, "namespace": "demo", "generation": 1}
            self.world.api.put(
                {"kind": kind, "metadata": meta, "spec": spec, "status": {"observedGeneration": -1}}
            )

    # -- users ----------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(MODELS), spec=MODEL_SPECS)
    def model(self, name: str, spec: Spec) -> None:
        self.apply("FpgaModel", name, spec)

    @rule(name=st.sampled_from(IMAGES), spec=IMAGE_SPECS)
    def image(self, name: str, spec: Spec) -> None:
        self.apply("AccelImage", name, spec)

    @rule(name=st.sampled_from(SERVICES), spec=SERVICE_SPECS)
    def service(self, name: str, spec: Spec) -> None:
        self.apply("AccelService", name, spec)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        kinds = ("FpgaModel", "AccelImage", "AccelService", "Job", "Deployment")
        keys = sorted(key for key in self.world.api.objects if key.kind in kinds)
        if keys:
            self.world.api.delete(data.draw(st.sampled_from(keys)))

    @rule(data=st.data(), when=st.sampled_from(["", "monday", "tuesday"]))
    def request(self, data: st.DataObject, when: str) -> None:
        keys = sorted(key for key in self.world.api.objects if key.kind in ("FpgaModel", "AccelImage"))
        if keys:
            body = self.world.api.objects[data.draw(st.sampled_from(keys))]
            notes = {"accel.dev/requestedAt": when} if when else {}
            self.world.api.put({**body, "metadata": {**body["metadata"], "annotations": notes}})

    @rule(uri=st.sampled_from(URIS))
    def push(self, uri: str) -> None:
        self.world.sources[uri] = uri

    @rule(uri=st.sampled_from(URIS))
    def withdraw(self, uri: str) -> None:
        self.world.sources.pop(uri, None)

    # -- the cluster ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.running())
    @rule(data=st.data(), how=st.sampled_from(["", "", "", "crash", "down"]))
    def a_job_ends(self, data: st.DataObject, how: str) -> None:
        self.world.end(data.draw(st.sampled_from(self.world.running())), how)

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        for _ in range(2):
            self.world.cycle()

    @rule()
    def ended_jobs_are_collected(self) -> None:
        self.world.forget_ended_jobs()

    @rule()
    def pods_come_and_go(self) -> None:
        self.world.kubelet()

    @precondition(lambda self: any(self.world.tags.values()))
    @rule(data=st.data())
    def the_registry_loses(self, data: st.DataObject) -> None:
        there = sorted((repository, n) for repository, tags in self.world.tags.items() for n in tags)
        self.world.lose(*data.draw(st.sampled_from(there)))

    @rule()
    def the_registry_is_checked(self) -> None:
        self.world.check_registry()

    @rule(seconds=st.sampled_from([1, 20, 70, 700]))
    def time_goes_by(self, seconds: float) -> None:
        self.world.passes(seconds)

    # -- the operator ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.api.events)
    @rule(data=st.data(), how=st.sampled_from(["", "", "", "keep", "drop"]), count=st.integers(1, 8))
    def events_arrive(self, data: st.DataObject, how: str, count: int) -> None:
        for _ in range(min(count, len(self.world.api.events))):
            index = data.draw(st.integers(0, len(self.world.api.events) - 1))
            self.world.deliver(index, keep=how == "keep", drop=how == "drop")

    @precondition(lambda self: self.world.todo)
    @rule(data=st.data(), count=st.integers(1, 8))
    def workers_work(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.world.todo))):
            if self.world.todo:
                self.world.work(data.draw(st.sampled_from(sorted(self.world.todo))))

    @rule()
    def it_resyncs(self) -> None:
        self.world.resync()

    @rule()
    def it_is_restarted(self) -> None:
        self.world.restart()

    @rule(writes=st.integers(0, 3))
    def it_is_killed_in_the_middle(self, writes: int) -> None:
        self.world.executor.kill_at = writes

    # -- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def never_more_jobs_than_slots(self) -> None:
        assert len(self.world.running()) <= LIMIT

    def teardown(self) -> None:
        """Once everything can be, everything is as the specs ask for, and nothing is written any more."""
        for uri in URIS:
            self.push(uri)
        self.world.executor.kill_at = None
        self.world.settle()
        for body in self.world.api.of("FpgaModel"):
            self.model_is_as_asked(body)
        for body in self.world.api.of("AccelImage"):
            self.image_is_as_asked(body)
        for body in self.world.api.of("AccelService"):
            self.service_is_as_asked(body)
        self.world.restart()
        while self.world.todo:
            self.world.work(min(self.world.todo))
        assert self.world.executor.writes == 0, "with nothing to do, nothing is written"

    def model_is_as_asked(self, body: Spec) -> None:
        assert ready(body) == (True, "Converted"), body["status"]
        spec = FpgaModelSpec.model_validate(body["spec"])
        desired = ModelDesired(owner("FpgaModel", body["metadata"]["name"]), spec)
        wanted = payload(desired, FpgaModelStatus(), CONFIG)
        digest = digest_of("model", spec.source.uri, wanted["conversion"])
        status = body["status"]
        (latest,) = [v for v in status["versions"] if v["version"] == status["latestVersion"]]
        assert latest["digest"] == digest
        assert self.world.holds(wanted["target"]["repository"], digest)

    def image_is_as_asked(self, body: Spec) -> None:
        ref, status = body["spec"]["modelRef"], body["status"]
        model = self.world.api.objects.get(Key("FpgaModel", "demo", ref["name"]))
        if model is None:
            assert ready(body) == (False, "WaitingForModel")
            return
        number = ref.get("version", model["status"]["latestVersion"])
        versions = {v["version"]: v["digest"] for v in model["status"]["versions"]}
        repository = f"images/demo/{body['metadata']['name']}"
        images = [v for v in status.get("versions", []) if self.world.holds(repository, v["digest"])]
        built = {v.get("modelVersion") for v in images}
        if number not in versions and number not in built:
            assert ready(body) == (False, "VersionNotFound")
            assert (
                "spec.modelRef.version"
                in next(c for c in status["conditions"] if c["type"] == "Ready")["message"]
            )
            return
        assert ready(body) == (True, "Built"), status
        assert status["image"].startswith(f"oci:///{repository}@")
        digest = status["image"].rpartition("@")[2]
        if number in versions:
            assert digest == digest_of("image", "r/runtime:1", versions[number])
        assert self.world.holds(repository, digest)

    def service_is_as_asked(self, body: Spec) -> None:
        ref = body["spec"]["imageRef"]
        image = self.world.api.objects.get(Key("AccelImage", "demo", ref["name"]))
        if image is None:
            assert ready(body) == (False, "WaitingForImage")
            return
        versions = {v["version"]: v["digest"] for v in image["status"].get("versions", [])}
        if "version" in ref and ref["version"] not in versions:
            assert ready(body)[1] in ("VersionNotFound", "WaitingForImage")
            return
        if "version" not in ref and not ready(image)[0]:
            assert not ready(body)[0]
            return
        digest = versions[ref["version"]] if "version" in ref else image["status"]["image"].rpartition("@")[2]
        assert ready(body) == (True, "Serving"), body["status"]
        deployment = self.world.api.objects[Key("Deployment", "demo", body["metadata"]["name"])]
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["image"].endswith(digest)
        assert key_of(deployment).name == body["metadata"]["name"]


# Shrinking takes minutes: whoever finds a failure adds Phase.shrink for as long as it is looked at.
WorldMachine.TestCase.settings = settings(
    max_examples=1000 if FULL else 50,
    stateful_step_count=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
test_every_history_ends_well = pytest.mark.timeout(1800 if FULL else 300)(WorldMachine.TestCase)


def test_the_orderly_run() -> None:
    """The machine's beginning and nothing else: three objects, two Jobs, one Deployment."""
    machine = WorldMachine()
    machine.the_usual_chain()
    machine.teardown()
    assert len(machine.world.api.of("Job")) == 2
    assert machine.world.essence()["AccelService/s0"]["state"] == "Healthy"


def test_a_pinned_version_outlives_a_miss_that_was_repaired() -> None:
    """The build that missed it looks again in its own time, and meanwhile the model goes on to another source."""
    machine = WorldMachine()
    machine.the_usual_chain()
    machine.world.settle()
    machine.push(URIS[1])
    machine.world.lose("models/demo/m0", 1)
    machine.apply("AccelImage", "i1", image_spec("m0", 1, None))
    machine.all_goes_well_for_a_while()
    assert machine.world.essence()["AccelImage/i1"]["conditions"][0]["reason"] == "ModelNotFound"
    assert machine.world.tags["models/demo/m0"].keys() == {1}, "it was made again"
    machine.apply("FpgaModel", "m0", model_spec(URIS[1], False, "", 0))
    machine.all_goes_well_for_a_while()
    assert [v["version"] for v in machine.world.essence()["FpgaModel/m0"]["versions"]] == [2, 1]
    machine.teardown()
    assert machine.world.essence()["AccelImage/i1"]["modelVersion"] == 1


@pytest.mark.parametrize("uri", URIS)
def test_a_push_alone_heals(uri: str) -> None:
    machine = WorldMachine()
    machine.apply("FpgaModel", "m0", model_spec(uri, False, "", None))
    machine.world.settle()
    assert machine.world.essence()["FpgaModel/m0"]["state"] == "Failed"
    machine.push(uri)
    machine.world.settle()
    assert machine.world.essence()["FpgaModel/m0"]["state"] == "Healthy"
