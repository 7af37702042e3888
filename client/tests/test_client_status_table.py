"""`kubectl accel status`: the table of all chains, and what scripts read."""

import json

from accel.status import report, table
from status_samples import (
    DONE,
    DONE_MODEL,
    DONE_SERVICE,
    NOW,
    condition,
    image,
    model,
    ready,
    seen,
    service,
    told,
    waits,
)


def test_the_table_has_one_chain_per_row() -> None:
    snapshot = seen(
        DONE_MODEL,
        image(ready(), modelVersion=1),
        service(ready(), modelVersion=1, readyReplicas=1, devices=DONE_SERVICE["status"]["devices"]),
        model(waits("Fetching", "…"), name="new"),
        image(waits("WaitingForModel", "waits for FpgaModel new: Fetching: …"), name="new", of="new"),
        service(waits("WaitingForImage", "waits for AccelImage gone, which does not exist"), name="lost", of="gone"),
    )  # fmt: skip
    found = table.rows(snapshot)
    printed = [" ".join(line.split()) for line in table.table(found, NOW, everywhere=False)]
    assert printed == [
        "SERVICE IMAGE MODEL VERSION STATE READY DEVICES AGE WAITS FOR",
        "lost gone - - Waiting 0/1 - 60s AccelImage gone, which does not exist",
        "net net net 1>2 Ready 1/1 a/fpga0 60s -",
        "- new new - Waiting - - 60s FpgaModel new: Fetching",
    ]
    assert all(len(line) <= 110 for line in table.table(found, NOW, everywhere=True))


def test_a_row_names_the_object_that_failed() -> None:
    failed = model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"))
    (row,) = table.rows(
        seen(failed, image(waits("WaitingForModel", "waits for FpgaModel net: BadSource: fix it")))
    )
    assert (row.state, row.waits_for) == ("Waiting", "FpgaModel net failed: BadSource")


def test_documents_hold_no_age_and_nothing_empty() -> None:
    text = json.dumps(report.document(told(DONE)))
    assert text == json.dumps(report.document(told(DONE)))
    found = json.loads(text)
    assert (found["schema"], found["kind"], found["ready"]) == ("accel.dev/status/v1", "AccelService", True)
    assert found["objects"][0]["device"] == {
        "offloadedOps": 12,
        "hostOps": 5,
        "latencyMs": 0.0483,
        "boundBy": "memory",
    }
    assert found["objects"][2]["pods"][0]["device"]["node"] == "a"
    assert all(value not in ("", None, []) for entry in found["objects"] for value in entry.values())


def test_a_document_has_all_that_the_status_has_of_the_device() -> None:
    reasons = [{"operator": "Gemm", "count": 1, "reason": "no such operator"}]
    device = {
        "sku": "bw-a10", "fits": True, "tiles": 5, "vectors": 6, "latencyMs": 1.5, "inferencesPerSecond": 9.5,
        "boundBy": "dram", "offloadedOps": 4, "hostOps": 1, "hostReasons": reasons,
    }  # fmt: skip
    found = json.loads(json.dumps(report.document(told(seen(model(ready(), device=device))))))
    assert found["objects"][0]["device"] == device
