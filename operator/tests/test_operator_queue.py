"""The work queue on fake time (looptime): what client-go's promises, we promise."""

import asyncio
import random

import pytest
from fpga_operator.run.queue import WorkQueue

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def taken(queue: WorkQueue[str]) -> str:
    return (await queue.take()).key


async def nothing_for(queue: WorkQueue[str], seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await queue.take()


async def test_a_key_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert queue.depth() == 2
    assert [await taken(queue), await taken(queue)] == ["a", "b"]


async def test_a_key_is_worked_on_by_one_worker_and_again_if_it_changed_meanwhile() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    await nothing_for(queue, 100)
    queue.done("a")
    assert await taken(queue) == "a"
    queue.done("a")
    await nothing_for(queue, 100)


async def test_success_forgets_the_failures() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    for _ in range(3):
        await taken(queue)
        queue.failed("a")
    await taken(queue)
    queue.done("a")
    queue.add("a")
    await taken(queue)
    assert queue.failed("a") == 0.5


async def test_backoff_doubles_to_five_minutes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    pauses = []
    for _ in range(12):
        await taken(queue)
        pauses.append(queue.failed("a"))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_a_change_does_not_wait_for_a_requeue() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    queue.add("a")
    await taken(queue)
    queue.done("a", requeue_after=600)
    loop.call_later(5, queue.add, "a")
    assert await taken(queue) == "a"
    assert loop.time() == pytest.approx(5)
    queue.done("a")
    await nothing_for(queue, 1000)


async def test_the_earliest_of_several_times_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    for seconds in (30, 10, 20):
        queue.add_after("a", seconds)
    assert await taken(queue) == "a"
    assert loop.time() == pytest.approx(10)
    queue.done("a")
    await nothing_for(queue, 100)


async def test_an_event_during_a_failing_pass_does_not_defeat_the_backoff() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    queue.add("a")
    await taken(queue)
    queue.add("a")
    begin = loop.time()
    queue.failed("a")
    await taken(queue)
    assert loop.time() - begin == pytest.approx(0.5)


async def test_one_slow_key_does_not_hold_up_the_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("slow")
    assert await taken(queue) == "slow"
    queue.add("quick")
    assert await taken(queue) == "quick"
    assert queue.working() == 2


async def test_health_figures() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await asyncio.sleep(7)
    assert queue.oldest_wait() == pytest.approx(7)
    await taken(queue)
    await asyncio.sleep(3)
    assert queue.longest_work() == pytest.approx(3)
    assert queue.oldest_wait() == 0


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_order_every_change_is_seen_and_no_key_has_two_workers(seed: int) -> None:
    """Property: the last pass over a key begins after its last change, and passes never overlap."""
    chance = random.Random(seed)
    queue: WorkQueue[int] = WorkQueue()
    loop = asyncio.get_running_loop()
    changed: dict[int, float] = {}
    began: dict[int, float] = {}
    busy: set[int] = set()

    async def worker() -> None:
        while True:
            key = (await queue.take()).key
            assert key not in busy
            busy.add(key)
            began[key] = loop.time()
            await asyncio.sleep(chance.random())
            busy.discard(key)
            if chance.random() < 0.3:
                queue.failed(key)
            else:
                queue.done(key, chance.choice([None, 1.0, 50.0]))

    workers = [asyncio.create_task(worker()) for _ in range(3)]
    for _ in range(200):
        key = chance.randrange(6)
        changed[key] = loop.time()
        queue.add(key)
        await asyncio.sleep(chance.random() * 0.2)
    await asyncio.sleep(2000)
    for task in workers:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert all(began[key] >= changed[key] for key in changed)
