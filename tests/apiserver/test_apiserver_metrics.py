"""What a Prometheus finds at the operator's /metrics: names, types and labels, against controller-runtime's."""

import aiohttp
import pytest
from chain import MODEL, convert, the_job
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from simulated import Kubelet
from world import Operator, World

QUEUE = {"name", "controller"}
EXPECTED = {
    # family: (type, labels); the first block is controller-runtime's, word for word
    "workqueue_depth": ("gauge", QUEUE),
    "workqueue_adds_total": ("counter", QUEUE),
    "workqueue_queue_duration_seconds": ("histogram", QUEUE),
    "workqueue_work_duration_seconds": ("histogram", QUEUE),
    "workqueue_unfinished_work_seconds": ("gauge", QUEUE),
    "workqueue_longest_running_processor_seconds": ("gauge", QUEUE),
    "workqueue_retries_total": ("counter", QUEUE),
    "controller_runtime_reconcile_total": ("counter", {"controller", "result"}),
    "controller_runtime_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_terminal_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_panics_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_time_seconds": ("histogram", {"controller"}),
    "controller_runtime_active_workers": ("gauge", {"controller"}),
    "controller_runtime_max_concurrent_reconciles": ("gauge", {"controller"}),
    "rest_client_requests_total": ("counter", {"code", "method", "host"}),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_cpu_seconds_total": ("counter", set()),
    "accel_writes_total": ("counter", {"kind", "verb"}),
    "accel_job_duration_seconds": ("histogram", {"kind", "outcome"}),
    "accel_objects": ("gauge", {"kind"}),
    "accel_object_conditions": ("gauge", {"kind", "condition", "status"}),
    "accel_objects_not_ready": ("gauge", {"kind", "state", "reason"}),
    "accel_object_not_ready_seconds": ("gauge", {"kind", "state", "reason"}),
    "accel_jobs_running": ("gauge", set()),
    "accel_jobs_waiting": ("gauge", set()),
}  # fmt: skip
PLAIN, OPEN = "text/plain", "application/openmetrics-text; version=1.0.0"
Found = dict[str, tuple[str, set[str]]]


async def scrape(port: int, accept: str) -> tuple[str, str]:
    """Return the content type and the text, as a Prometheus asks for it."""
    url, headers = f"http://127.0.0.1:{port}/metrics", {"Accept": accept}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.text()


def families(text: str) -> Found:
    """Return type and labels of each family, under the name that PromQL knows."""
    found: Found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    return found


@pytest.fixture
async def scraped(world: World, kubelet: Kubelet, operator: Operator) -> str:
    """The text after one model was converted and an image waits."""
    await world.apply("FpgaModel", "metered", MODEL)
    await convert(world, kubelet, "metered", 1, "sha256:" + "7" * 64)
    await world.until_reason("FpgaModel", "metered", "Converted")
    await world.apply("AccelImage", "metered", {"modelRef": {"name": "none"}})
    await world.until_reason("AccelImage", "metered", "WaitingForModel")
    content_type, text = await scrape(operator.metrics, OPEN)
    assert content_type.startswith("application/openmetrics-text")
    return text


async def test_names_types_and_labels_are_the_table(scraped: str) -> None:
    found = families(scraped)
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED
    assert not [name for name in found if name.endswith("_created")]


async def test_both_formats_have_the_counters_that_promql_names(scraped: str, operator: Operator) -> None:
    content_type, text = await scrape(operator.metrics, PLAIN)
    assert content_type.startswith("text/plain")
    assert "_created" not in text
    for line in (
        'controller_runtime_reconcile_total{controller="accelimage",result="success"}',
        'workqueue_adds_total{controller="fpgamodel",name="fpgamodel"}',
        'accel_job_duration_seconds_count{kind="FpgaModel",outcome="succeeded"}',
        'accel_objects_not_ready{kind="AccelImage",reason="WaitingForModel",state="Transitioning"}',
        'code="200",host="127.0.0.1:',
    ):
        assert line in text
        assert line in scraped


COUNT = 'accel_job_duration_seconds_count{kind="FpgaModel",outcome="succeeded"}'


async def test_a_job_is_counted_once_whoever_restarts(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await world.apply("FpgaModel", "once", MODEL)
    await the_job(world, "model", "once")
    operator.kill()
    await convert(world, kubelet, "once", 1, "sha256:" + "8" * 64)  # it ends while nobody looks
    operator.start()
    await world.until_reason("FpgaModel", "once", "Converted")
    assert f"{COUNT} 1.0" in (await scrape(operator.metrics, PLAIN))[1]
    operator.kill()
    operator.start()
    await world.apply("AccelImage", "once", {"modelRef": {"name": "once"}})
    await the_job(world, "image", "once")
    assert COUNT not in (await scrape(operator.metrics, PLAIN))[1]
