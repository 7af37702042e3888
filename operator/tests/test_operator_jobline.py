"""Those who wait for a Job slot are told who has them, once."""

import pytest
from fpga_operator.api.fpgamodel import FpgaModelStatus
from fpga_operator.plan.jobline import JobHolder, story
from fpga_operator.plan.types import Plan
from fpga_operator.run.observe import job_holders
from fpga_operator.run.store import Store
from operator_samples import job
from test_operator_image import model
from test_operator_image import plan as plan_image
from test_operator_model import plan as plan_model

A, B, C, D = (JobHolder("FpgaModel", "demo", name) for name in "abcd")
IMAGE, FAR, FARTHER = JobHolder("AccelImage", "demo", "a"), *(JobHolder("FpgaModel", "far", n) for n in "xy")

BEGAN = "; as it began to wait, they were those of "
TOLD = {
    # name: (who has the slots) -> the sentence behind the limit
    "not known": ((), ""),
    "one": ((B,), f"{BEGAN}FpgaModel b"),
    "both kinds": ((B, IMAGE), f"{BEGAN}AccelImage a, FpgaModel b"),
    "another namespace": ((FAR,), f"{BEGAN}one of another namespace"),
    "both": ((FAR, A, FARTHER), f"{BEGAN}FpgaModel a, 2 of other namespaces"),
    "at most three by name": (
        (D, C, B, A, FAR),
        f"{BEGAN}FpgaModel a, FpgaModel b, FpgaModel c, 1 more of this namespace, one of another namespace",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("holders", "told"), TOLD.values(), ids=TOLD)
def test_story(holders: tuple[JobHolder, ...], told: str) -> None:
    assert story(5, holders, "demo") == (
        "WaitingForJobSlot",
        f"waits for a Job slot: at most 5 Jobs run at once{told}",
    )


def message(result: Plan) -> str:
    found: str = next(c["message"] for c in result.status["conditions"] if c["type"] == "Ready")
    return found


def test_who_waits_is_told_once_and_not_at_each_change() -> None:
    first = plan_model(slot=False, holders=(A,))
    assert "FpgaModel a" in message(first)
    status = FpgaModelStatus.model_validate(first.status)
    later = plan_model(status=status, slot=False, holders=(B,), seconds=60)
    assert later.status == first.status, "nothing is written"
    assert not later.events
    assert "FpgaModel b" in message(plan_image(seen=model(), slot=False, holders=(B,)))


def test_holders_are_read_from_the_jobs_that_run() -> None:
    store = Store()
    store.put(job("x-1", uid="1", labels={"accel.dev/model": "x"}, resourceVersion="1"))
    store.put(job("y-1", "Complete", uid="2", labels={"accel.dev/model": "y"}, resourceVersion="1"))
    store.put(job("z-1", uid="3", labels={"accel.dev/image": "z"}, resourceVersion="1"))
    assert job_holders(store) == (JobHolder("FpgaModel", "demo", "x"), JobHolder("AccelImage", "demo", "z"))
