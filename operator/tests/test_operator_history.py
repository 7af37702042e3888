"""The history limit: what is in use never leaves a status, of the rest the newest stay."""

from dataclasses import dataclass
from typing import Any

import pytest
from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.plan.history import dropped_story, kept, merged
from fpga_operator.plan.image import ImageDesired, ImageObserved, plan_image
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.model import ModelDesired, ModelObserved, plan_model
from fpga_operator.run.observe import observe_image, observe_model
from fpga_operator.run.store import Store
from hypothesis import given
from hypothesis import strategies as st
from operator_samples import CONFIG, NOW, owner


@dataclass(frozen=True)
class V:
    version: int

    @property
    def digest(self) -> str:
        return f"sha256:{self.version:064x}"


def versions(*numbers: int) -> list[dict[str, Any]]:
    return [{"version": n, "digest": V(n).digest, "modelDigest": V(n).digest} for n in numbers]


KEPT: dict[str, tuple[list[int], set[int], int | None, list[int]]] = {
    # name: (there, in use, limit) -> stays
    "nothing there": ([], set(), 3, []),
    "ten without a limit": (list(range(1, 15)), {14}, None, list(range(14, 3, -1))),
    "the newest of the others": ([5, 4, 3, 2, 1], {5}, 2, [5, 4, 3]),
    "those in use do not count": ([5, 4, 3, 2, 1], {5, 1, 2}, 1, [5, 4, 2, 1]),
    "none but those in use": ([5, 4, 3, 2, 1], {3}, 0, [5, 3]),
    "the highest number stays, for counting goes on from it": ([2, 1], {1}, 0, [2, 1]),
}


@pytest.mark.parametrize(("there", "used", "limit", "stays"), KEPT.values(), ids=KEPT)
def test_kept(there: list[int], used: set[int], limit: int | None, stays: list[int]) -> None:
    assert [v.version for v in kept([V(n) for n in there], lambda v: v.version in used, limit)] == stays


@given(st.sets(st.integers(1, 400)), st.sets(st.integers(1, 400), max_size=200), st.integers(0, 100))
def test_what_is_in_use_stays_and_dropping_is_done_once(there: set[int], used: set[int], limit: int) -> None:
    def in_use(v: V) -> bool:
        return v.version in used

    stays = kept([V(n) for n in there], in_use, limit)
    numbers = [v.version for v in stays]
    assert numbers == sorted(numbers, reverse=True)
    assert used & there <= set(numbers) <= there
    assert kept(stays, in_use, limit) == stays
    assert len([n for n in numbers if n not in used]) <= limit + 1


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30), min_size=1), st.booleans())
def test_merged_holds_what_the_registry_said(known: set[int], said: set[int], cut: bool) -> None:
    made = V(max(said))
    numbers = {v.version for v in merged([V(n) for n in known], [V(n) for n in said], made, cut=cut)}
    assert numbers >= said
    assert numbers - said == ({n for n in known if n < min(said)} if cut else set())


def test_a_story_tells_a_number_of_the_future_from_one_that_was_dropped() -> None:
    assert dropped_story("FpgaModel", "net", 9, [V(3), V(2)], None) == (
        "does not exist; versions of FpgaModel net: 2, 3"
    )
    told = dropped_story("FpgaModel", "net", 1, [V(3), V(2)], 1)
    assert "keeps 1 version that nothing uses" in told
    assert "kubectl annotate fpgamodel net accel.dev/requestedAt=" in told


def body(
    kind: str, name: str, spec: dict[str, Any], status: dict[str, Any], where: str = "demo"
) -> dict[str, Any]:
    meta = {"name": name, "namespace": where, "uid": f"{kind}-{where}-{name}", "resourceVersion": "1"}
    return {"kind": kind, "metadata": meta, "spec": spec, "status": status}


def test_an_image_keeps_what_services_name_run_and_could_fall_back_to() -> None:
    store = Store()
    reference = f"oci:///images/demo/digits@{V(2).digest}"
    store.put(body("AccelService", "pins", {"imageRef": {"name": "digits", "version": 1}}, {}))
    store.put(body("AccelService", "runs", {"imageRef": {"name": "digits"}}, {"image": reference}))
    good = {"lastGood": {"image": f"oci:///images/demo/digits@{V(4).digest}"}}
    store.put(body("AccelService", "fell", {"imageRef": {"name": "digits"}}, good))
    store.put(body("AccelService", "far", {"image": f"oci:///teams/x@{V(5).digest}"}, {}, where="other"))
    spec = AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "historyLimit": 0})
    there = {
        "versions": versions(9, 8, 7, 6, 5, 4, 3, 2, 1),
        "imageVersion": 9,
        "repository": "images/demo/digits",
    }
    me = owner("AccelImage")
    image = body("AccelImage", "digits", spec.dump(), there)
    seen = observe_image(store, me, spec, image, slot=True, fault=None)
    plan = plan_image(ImageDesired(me, spec), seen, CONFIG, NOW)
    assert [v["version"] for v in plan.status["versions"]] == [9, 5, 4, 2, 1]


def test_a_model_keeps_what_images_name_and_are_built_from() -> None:
    store = Store()
    store.put(body("AccelImage", "pins", {"modelRef": {"name": "digits", "version": 2}}, {}))
    store.put(body("AccelImage", "follows", {"modelRef": {"name": "digits"}}, {"modelVersion": 4}))
    store.put(body("AccelImage", "other", {"modelRef": {"name": "x", "version": 1}}, {}))
    spec = FpgaModelSpec.model_validate({"source": {"uri": "oci:///s/x:1"}, "historyLimit": 1})
    there = {"versions": versions(6, 5, 4, 3, 2, 1), "latestVersion": 5}
    me = owner("FpgaModel")
    model = body("FpgaModel", "digits", spec.dump(), there)
    seen = observe_model(store, me, model, slot=True, fault=None)
    plan = plan_model(ModelDesired(me, spec), seen, CONFIG, NOW)
    assert [v["version"] for v in plan.status["versions"]] == [6, 5, 4, 3, 2]


def test_a_limit_that_is_lowered_counts_at_once() -> None:
    me, there = (
        owner("FpgaModel"),
        FpgaModelStatus.model_validate({"versions": versions(5, 4, 3, 2, 1), "latestVersion": 5}),
    )
    for limit, stays in ((100, 5), (2, 3), (0, 1)):
        spec = FpgaModelSpec.model_validate({"source": {"uri": "oci:///s/x:1"}, "historyLimit": limit})
        plan = plan_model(ModelDesired(me, spec), ModelObserved(there, Jobs()), CONFIG, NOW)
        assert len(plan.status["versions"]) == stays


def test_an_image_that_is_built_now_is_never_the_one_that_is_dropped() -> None:
    me = owner("AccelImage")
    spec = AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "historyLimit": 0})
    there = AccelImageStatus.model_validate({"versions": versions(3, 2, 1), "imageVersion": 2})
    plan = plan_image(ImageDesired(me, spec), ImageObserved(there, None, Jobs()), CONFIG, NOW)
    assert [v["version"] for v in plan.status["versions"]] == [3, 2]
