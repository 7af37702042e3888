"""The cache, the Job slots, the keys, the mapping table: parts of `run` that need no API server."""

from typing import Any

import pytest
from fpga_operator.errors import ConfigError
from fpga_operator.plan.types import MODEL_LABEL, SERVICE_LABEL, KeysSecret
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.mapping import affected, node_matters
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store
from operator_samples import owner


def body(kind: str, name: str, version: int = 1, uid: str = "", **more: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "demo",
        "uid": uid or f"{kind}-{name}",
        "resourceVersion": str(version),
    }
    return {"kind": kind, "metadata": meta | more.pop("meta", {}), **more}


class TestStore:
    """Versions decide which copy is newer; what was deleted stays deleted."""

    key = Key("Job", "demo", "j")

    def test_an_older_copy_does_not_replace_a_newer_one(self) -> None:
        store = Store()
        assert store.put(body("Job", "j", 5, status={"new": 1}))
        assert not store.put(body("Job", "j", 4, status={}))
        assert (store.body(self.key) or {})["status"] == {"new": 1}

    def test_a_late_event_does_not_bring_a_deleted_object_back(self) -> None:
        store = Store()
        store.put(body("Job", "j", 5))
        assert store.remove(self.key, "Job-j")
        assert not store.put(body("Job", "j", 6))
        assert store.get(self.key) is None
        assert store.put(body("Job", "j", 7, uid="successor"))

    def test_the_deletion_of_a_predecessor_does_not_remove_its_successor(self) -> None:
        store = Store()
        store.put(body("Job", "j", 5, uid="two"))
        assert not store.remove(self.key, "one")
        assert store.get(self.key) is not None

    def test_owned_objects_are_found_by_their_owner(self) -> None:
        store = Store()
        store.put(body("Job", "j", meta={"ownerReferences": [{"uid": "m"}]}))
        assert [job["metadata"]["name"] for job in store.owned("m", "Job")] == ["j"]
        store.remove(self.key, "Job-j")
        assert store.owned("m", "Job") == []


class TestSlots:
    """At most two, in the order of creation."""

    def test_first_come_first_served(self) -> None:
        store = Store()
        slots = JobSlots(store, 2)
        keys = [Key("FpgaModel", "demo", name) for name in "abc"]
        assert slots.reserve(keys[1], (0, "t1"))
        assert slots.reserve(keys[2], (0, "t2"))
        assert not slots.reserve(keys[0], (0, "t0")), "both are taken, whoever asks"
        slots.waits(keys[0], (0, "t0"))
        slots.release(keys[2])
        assert slots.next() == [keys[0]]
        assert not slots.reserve(keys[2], (0, "t2")), "the older one is first in line"
        assert slots.reserve(keys[0], (0, "t0"))

    def test_those_who_failed_for_now_stand_behind_those_who_never_tried(self) -> None:
        slots = JobSlots(Store(), 1)
        old, new = Key("FpgaModel", "demo", "old"), Key("FpgaModel", "demo", "new")
        slots.waits(old, (3, "t0"))
        slots.waits(new, (0, "t9"))
        assert slots.next() == [new]
        assert not slots.reserve(old, (3, "t0"))
        assert slots.reserve(new, (0, "t9"))

    def test_running_jobs_count_and_finished_ones_do_not(self) -> None:
        store = Store()
        slots = JobSlots(store, 1)
        store.put(body("Job", "j", 1))
        assert not slots.reserve(Key("FpgaModel", "demo", "a"), (0, "t"))
        store.put(body("Job", "j", 2, status={"conditions": [{"type": "Failed", "status": "True"}]}))
        assert slots.reserve(Key("FpgaModel", "demo", "a"), (0, "t"))


class TestKeys:
    """Derived, so that a deleted Secret comes back with the same keys."""

    def test_same_service_same_keys_and_nothing_else_the_same(self) -> None:
        keys = KeyDeriver(b"0123456789abcdef")
        assert keys.key("u", "primary", 0) == KeyDeriver(b"0123456789abcdef").key("u", "primary", 0)
        others = {
            keys.key("u", "primary", 0),
            keys.key("u", "secondary", 0),
            keys.key("u", "primary", 1),
            keys.key("v", "primary", 0),
            KeyDeriver(b"another master key").key("u", "primary", 0),
        }
        assert len(others) == 5
        assert all(len(key) == 32 for key in others)

    def test_the_master_key_shows_nowhere(self) -> None:
        keys = KeyDeriver(b"0123456789abcdef")
        assert "0123" not in f"{keys!r} {keys} {vars(keys).keys()}"

    def test_a_short_master_key_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 16"):
            KeyDeriver(b"short")

    def test_the_secret_is_the_services(self) -> None:
        manifest = KeyDeriver(b"0123456789abcdef").secret(
            owner("AccelService"), KeysSecret("digits-keys", {"a": "b"})
        )
        assert manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-digits"
        assert manifest["data"].keys() == {"primary", "secondary"}


def world() -> Store:
    store = Store()
    store.put(body("FpgaModel", "m", spec={}))
    store.put(body("AccelImage", "i", spec={"modelRef": {"name": "m"}}))
    store.put(body("AccelService", "s", spec={"imageRef": {"name": "i"}}, status={"state": "Healthy"}))
    store.put(
        body("AccelService", "waits", spec={"imageRef": {"name": "other"}}, status={"state": "Unschedulable"})
    )
    store.put(body("Pod", "p", meta={"labels": {SERVICE_LABEL: "s"}}, spec={"nodeName": "n"}))
    return store


MODEL, IMAGE = Key("FpgaModel", "demo", "m"), Key("AccelImage", "demo", "i")
SERVICE, WAITS = Key("AccelService", "demo", "s"), Key("AccelService", "demo", "waits")
MAPPED = {
    "a model wakes what is made of it": (body("FpgaModel", "m"), {MODEL, IMAGE, SERVICE}),
    "an image wakes its services": (body("AccelImage", "i"), {IMAGE, SERVICE}),
    "an image wakes the model that keeps its version": (
        body("AccelImage", "i", spec={"modelRef": {"name": "m"}}), {IMAGE, SERVICE, MODEL},
    ),
    "a service wakes itself": (body("AccelService", "s"), {SERVICE}),
    "a service wakes the image that keeps its version": (
        body("AccelService", "s", spec={"imageRef": {"name": "i"}}), {SERVICE, IMAGE},
    ),
    "a child wakes its owner": (body("Job", "j", meta={"labels": {MODEL_LABEL: "m"}}), {MODEL}),
    "a server's pod wakes its service": (
        body("Pod", "p", meta={"labels": {SERVICE_LABEL: "s"}}), {SERVICE},
    ),
    "a device wakes those who wait and those who hold": (
        {"kind": "FpgaNode", "metadata": {"name": "n", "uid": "n"}}, {SERVICE, WAITS},
    ),
    "a node wakes every service": ({"kind": "Node", "metadata": {"name": "n", "uid": "n"}}, {SERVICE, WAITS}),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "expected"), MAPPED.values(), ids=MAPPED)
def test_mapping(changed: dict[str, Any], expected: set[Key]) -> None:
    assert affected(world(), changed) == expected


def test_a_heartbeat_of_a_node_wakes_nobody() -> None:
    def node(beat: str, ready: str = "True") -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": beat}]
        return {"metadata": {"name": "n"}, "spec": {}, "status": {"conditions": conditions}}

    assert not node_matters(node("1"), node("2"))
    assert node_matters(node("1"), node("2", "False"))
    assert node_matters(None, node("1"))
