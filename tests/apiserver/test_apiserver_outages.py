"""The operator through outages: dead watches, cut watches, an API server and an etcd that go and come back.

Always the same process, and a liveness that fails for none of them but a watch that nothing in the process mends.
"""

import asyncio
import os
from typing import Any

import aiohttp
import pytest
from chain import MODEL
from fpga_operator.errors import ApiFailure
from proxy import Proxy
from servers import Server
from world import Operator, World

FULL = bool(os.environ.get("ACCEL_TEST_FULL"))
OUTAGE_SECONDS = 60.0 if FULL else 10.0
NO_MODEL, MODEL_SEEN = "does not exist", "waits for FpgaModel"


async def alive(operator: Operator) -> bool:
    """Tell what the liveness probe says."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://127.0.0.1:{operator.health}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


async def told(world: World, name: str, words: str, seconds: float = 60.0) -> None:
    """Await words in the Ready condition of an AccelImage; an API server that is away has none."""

    async def said() -> bool:
        try:
            condition = await world.condition("AccelImage", name, "Ready")
        except ApiFailure:
            return False
        message = condition.get("message", "")
        return words in message and (words == NO_MODEL or NO_MODEL not in message)

    await world.until(f"AccelImage {name} says {words!r}", said, seconds=seconds)


async def waiting(world: World, name: str) -> None:
    """Apply an AccelImage without a model, and await that it says so: the operator is at work."""
    await world.apply("AccelImage", name, {"modelRef": {"name": name}})
    await told(world, name, NO_MODEL)


def same_process(operator: Operator, before: int) -> None:
    """Check that the operator did not end."""
    assert operator.process is not None
    assert (operator.process.poll(), operator.process.pid) == (None, before), operator.log.read_text()[-3000:]


def pid(operator: Operator) -> int:
    assert operator.process is not None
    return operator.process.pid


async def test_watches_that_are_dead_without_an_error_are_started_again(
    world: World, operator: Operator, proxy: Proxy
) -> None:
    await waiting(world, "dead")
    before, watches = pid(operator), proxy.watches
    proxy.black_hole()
    await world.apply("FpgaModel", "dead", MODEL)
    await told(world, "dead", MODEL_SEEN, seconds=120)
    assert proxy.watches >= watches + 12
    assert "all watches are started again" in operator.log.read_text()
    same_process(operator, before)
    await world.until("liveness is well", lambda: alive(operator))


async def test_an_error_that_kopf_does_not_forgive_ends_the_watches_and_not_the_process(
    world: World, operator: Operator, proxy: Proxy
) -> None:
    await waiting(world, "error")
    before = pid(operator)
    await proxy.fail()
    await world.apply("FpgaModel", "error", MODEL)
    await told(world, "error", MODEL_SEEN, seconds=120)
    assert "the watches ended; they are started again" in operator.log.read_text()
    same_process(operator, before)
    await world.until("liveness is well", lambda: alive(operator))


async def test_what_happens_while_watches_are_cut_is_caught_up(
    world: World, operator: Operator, proxy: Proxy
) -> None:
    for name in ("deleted", "made"):
        await waiting(world, name)
    await world.apply("FpgaModel", "deleted", MODEL)
    await told(world, "deleted", MODEL_SEEN)
    before = pid(operator)
    proxy.refusing = True
    proxy.cut()
    await world.delete("FpgaModel", "deleted")
    await world.apply("FpgaModel", "made", MODEL)
    proxy.refusing = False
    await told(world, "deleted", NO_MODEL)
    await told(world, "made", MODEL_SEEN)
    same_process(operator, before)


@pytest.mark.parametrize("part", ["etcd", "api"])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_outage_is_waited_out(
    world: World, server: Server, operator: Operator, part: str, how: str
) -> None:
    name = f"{part}-{how}"
    await waiting(world, name)
    before = pid(operator)
    await world.until("liveness is well", lambda: alive(operator))
    (server.kill if how == "killed" else server.freeze)(part)
    try:
        end = asyncio.get_running_loop().time() + OUTAGE_SECONDS
        while asyncio.get_running_loop().time() < end:
            assert await alive(operator), "a restart of the operator would help nobody"
            await asyncio.sleep(1)  # that is how long the outage is
    finally:
        (server.start if how == "killed" else server.thaw)(part)
        await asyncio.to_thread(server.wait)

    async def applied() -> bool:
        try:
            return bool(await world.apply("FpgaModel", name, MODEL))
        except ApiFailure:  # connections of before the outage
            return False

    await world.until("the API server takes writes again", applied, seconds=60)
    await told(world, name, MODEL_SEEN)
    same_process(operator, before)
    assert await alive(operator)


async def test_an_operator_that_starts_in_an_outage_waits(
    world: World, server: Server, operator: Operator
) -> None:
    operator.stop()
    server.kill("api")
    begin = len(operator.log.read_text())
    operator.start()
    before = pid(operator)
    try:

        async def waits() -> bool:
            return "waiting for the API server" in operator.log.read_text()[begin:]

        await world.until("the operator says that it waits", waits)
    finally:
        server.start("api")
        await asyncio.to_thread(server.wait)
    await world.until("the API server takes writes", lambda: applied_image(world))
    await told(world, "early", NO_MODEL)
    same_process(operator, before)


async def applied_image(world: World) -> Any:
    """Apply an AccelImage, where the API server takes it."""
    try:
        return await world.apply("AccelImage", "early", {"modelRef": {"name": "early"}})
    except ApiFailure:
        return None


@pytest.mark.skipif(not FULL, reason="takes four minutes of waiting: make test-full")
@pytest.mark.timeout(600)
async def test_watches_that_no_start_mends_fail_liveness(
    world: World, operator: Operator, proxy: Proxy
) -> None:
    await waiting(world, "deaf")
    proxy.deaf = True
    proxy.black_hole()
    await world.apply("FpgaModel", "deaf", MODEL)

    async def fails() -> bool:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://127.0.0.1:{operator.health}/healthz") as answer:
                    return answer.status >= 500
            except aiohttp.ClientError:
                return False  # the watches are being started again

    await world.until("liveness fails", fails, seconds=280)
