"""One emulated device: brings the card through its states, one job at a time, and lets faults and resets
interrupt.

A job belongs to the *life* in which it began. A reset or a fault ends the life: whatever runs is dropped, and
its result, should the computation still finish, reaches nobody. So no answer of a broken card is ever seen.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from npu.device import engine
from npu.device.card import Card
from npu.device.errors import ProgramRejected, Progress
from npu.device.faults import Fate
from npu.device.states import State
from npu.device.wire import Code
from npu.errors import NpuError

if TYPE_CHECKING:  # a card is on the bus before numpy is loaded
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Answer", "Device", "Refused", "Settings"]

log = logging.getLogger(__name__)
T = TypeVar("T")


class Refused(Exception):
    """The device does not do what it was asked; `code` says why to programs, the text to people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Settings:
    """What a card takes in wall time besides computing. 0 makes a duration vanish."""

    flash_seconds: float = (
        2.0  # writing the bitstream; a real card needs 1 to 3 s from flash, up to 150 s into it
    )
    load_scale: float = 1.0  # times the simulated seconds that weights take over PCIe
    wait_seconds: float = 10.0  # how long the driver waits for a request that never completes


@dataclass(frozen=True)
class Answer:
    """An output, float32 [h, w, C], with the seconds on each clock."""

    output: "NDArray[np.float32]"
    simulated_seconds: float
    wall_seconds: float


class _Life:
    """The time between two resets or faults."""

    def __init__(self) -> None:
        self.end: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()
        self.withheld = False  # a hung accelerator: work may finish, but nobody hears of it

    def over(self, code: Code, message: str) -> None:
        if not self.end.done():
            self.end.set_result(Refused(code, message))


class Device:
    """One card with the process around it. All methods belong to one event loop."""

    def __init__(self, card: Card, settings: Settings) -> None:
        self.card = card
        self.settings = settings
        self._life = _Life()
        self._jobs = asyncio.Lock()  # in order of arrival
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._loaded: engine.Loaded | None = None
        self._flash: asyncio.Task[None] | None = None
        self.on_end: Callable[[Code, str], None] | None = None  # a reset closes every handle
        # Begin and end of the present flash or load, monotonic seconds.
        self._deadline: tuple[float, float] | None = None
        card.move(State.GOLDEN)  # the presence check: an emulated board always answers

    # -- what an owner does

    async def load(self, data: bytes, digest: str) -> engine.Loaded:
        """Bring the card to ready with this program: flash if it must, load unless it is there already."""
        async with self._jobs:
            self._refuse_if_faulted()
            if self.card.state is State.GOLDEN:
                self._flash = asyncio.create_task(self._write_bitstream())
            if self._flash is not None:
                await self._within_life(asyncio.shield(self._flash))
            if self._loaded is not None and self._loaded.digest == digest:
                return self._loaded
            return await self._download(data, digest)

    async def execute(self, x: "NDArray[np.float32]", digest: str) -> Answer:
        """Compute one picture, float32 [H, W, C], with the program that the session has loaded."""
        async with self._jobs:
            self._refuse_if_faulted()
            loaded = self._loaded
            if loaded is None or loaded.digest != digest:
                raise Refused(
                    Code.NO_PROGRAM,
                    f"the device is {self.card.state} and has lost the program; load it again",
                )
            life = self._life
            self.card.move(State.BUSY)
            started = time.perf_counter()
            try:
                output = await self._within_life(self._in_thread(loaded.compute, x))
            except NpuError as error:
                raise Refused(Code.HEX, f"hardware exception: {error}") from error
            except MemoryError as error:
                raise Refused(
                    Code.TOO_LARGE, f"the emulator has not enough memory for it: {error}"
                ) from error
            finally:
                if self._life is life and self.card.state is State.BUSY:
                    self.card.move(State.READY)
            wall = time.perf_counter() - started
            counters = self.card.counters
            counters.inferences += 1
            counters.simulated_seconds += loaded.latency_seconds
            counters.wall_seconds += wall
            return Answer(output, loaded.latency_seconds, wall)

    def progress(self) -> Progress:
        """Return how far the present flash or load is."""
        if self._deadline is None:
            return Progress(self.card.state, 100 if self.card.state in (State.READY, State.BUSY) else 0, 0.0)
        begin, end = self._deadline
        now = time.monotonic()
        share = 1.0 if end <= begin else min(1.0, (now - begin) / (end - begin))
        return Progress(self.card.state, int(100 * share), max(0.0, end - now))

    # -- what the control socket does

    def reset(self) -> None:
        """Back to the golden image, without program, owner or request. Refused while a fault is active."""
        self._refuse_if_faulted()
        self._end_life(Code.RESET, "the device was reset; connect and load again")
        if self.card.state is not State.GOLDEN:
            self.card.move(State.GOLDEN)

    def inject(self, kind: str) -> None:
        """Break the card in the way that `kind` names; KeyError where there is no such fault."""
        fault = self.card.inject(kind)
        message = f"{fault.reason}: {fault.message}"
        log.warning("fault injected: %s", message)
        if fault.fate is Fate.WITHHELD and not self._life.end.done():
            life = self._life
            life.withheld = True
            waited = f"no completion for {self.settings.wait_seconds:g} s"
            asyncio.get_running_loop().call_later(
                self.settings.wait_seconds, life.over, fault.code, f"{fault.reason}: {waited}"
            )
        else:
            self._life.over(fault.code, message)
        self._wipe()
        if self.card.state is not State.FAULTED:
            self.card.move(State.FAULTED)

    def clear(self, kind: str) -> None:
        """End a fault. With the last one gone the card restarts from its golden image, and is healthy."""
        self.card.clear(kind)
        if self.card.state is State.FAULTED and not self.card.active:
            log.info("fault cleared: %s", kind)
            self._end_life(Code.RESET, "the device restarted after a fault; connect and load again")
            self.card.move(State.GOLDEN)

    def close(self) -> None:
        """Stop; a computation that still runs is abandoned."""
        self._end_life(Code.HARDWARE_NOT_PRESENT, "the device is being shut down")
        self._thread.shutdown(wait=False, cancel_futures=True)

    # -- how

    async def _write_bitstream(self) -> None:
        seconds = self.settings.flash_seconds
        self.card.move(State.FLASHING)
        await self._pause(seconds)
        self.card.counters.reconfigurations += 1
        self.card.counters.reconfiguration_seconds += seconds
        self._flash = None
        self.card.move(State.IDLE)

    async def _download(self, data: bytes, digest: str) -> engine.Loaded:
        life = self._life
        self._unload()
        self.card.move(State.LOADING)
        try:
            loaded = await self._within_life(self._in_thread(engine.load, data, digest, self.card.sku))
            await self._within_life(self._pause(loaded.download_seconds * self.settings.load_scale))
        except ProgramRejected as error:
            raise Refused(Code.PROGRAM_REJECTED, str(error)) from error
        except MemoryError as error:
            raise Refused(Code.TOO_LARGE, f"the emulator has not enough memory for it: {error}") from error
        else:
            self._loaded, self.card.model_digest = loaded, digest
            self.card.counters.loads += 1
            self.card.move(State.READY)
            return loaded
        finally:
            if self._life is life and self.card.state is State.LOADING:
                self.card.move(State.IDLE)

    async def _pause(self, seconds: float) -> None:
        now = time.monotonic()
        self._deadline = (now, now + seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._deadline = None

    def _in_thread(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _within_life(self, work: Awaitable[T]) -> T:
        """Return what `work` gives if this life is still the one in which it ends; else raise its Refused."""
        life = self._life
        task = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {task, life.end}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if life.withheld:
            await asyncio.wait({life.end})
        if life.end.done():
            task.cancel()  # a thread cannot be stopped: the next job waits for it, its result is dropped
            task.add_done_callback(_swallow)
            raise life.end.result()
        return task.result()

    def _refuse_if_faulted(self) -> None:
        if self.card.active:
            raise Refused(Code.FAULTED, f"device {self.card.id} is faulted: {self.card.reason}")

    def _end_life(self, code: Code, message: str) -> None:
        if self.on_end is not None:
            self.on_end(code, message)
        self._life.over(code, message)
        self._life = _Life()
        self._wipe()
        self.card.next_epoch()

    def _wipe(self) -> None:
        """Leave nothing of the tenant on the card."""
        if self._flash is not None:
            self._flash.cancel()
            self._flash = None
        self._unload()

    def _unload(self) -> None:
        if self._loaded is not None:
            self._thread.submit(
                self._loaded.close
            )  # takes its turn behind a computation that nobody waits for
        self._loaded, self.card.model_digest = None, ""


def _swallow(task: "asyncio.Future[T]") -> None:
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it
