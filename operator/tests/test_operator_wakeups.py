"""The work queue under random histories, on a clock of its own: no lost wake-up, one worker a key, bounded backoff."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from fpga_operator.run.queue import FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS, WorkQueue
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

KEYS = st.sampled_from("abcde")
EPSILON = 1e-6


class QueueMachine(RuleBasedStateMachine):
    """What client-go promises, as a model: for each key, since when it has to be worked on, if at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.loop = asyncio.new_event_loop()
        self.queue: WorkQueue[str] = WorkQueue(lambda: self.now)
        self.owed: dict[str, float] = {}  # key -> by when it must be ready to be taken
        self.working: set[str] = set()
        self.again: set[str] = set()  # added while a worker has it
        self.failures: dict[str, int] = {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def _owe(self, key: str, when: float) -> None:
        self.owed[key] = min(when, self.owed.get(key, float("inf")))

    def _due(self) -> list[str]:
        return sorted(k for k, when in self.owed.items() if when <= self.now and k not in self.working)

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        if key in self.working:
            self.again.add(key)
            self.owed.pop(key, None)
        else:
            self._owe(key, self.now)

    @rule(key=KEYS, seconds=st.sampled_from([-1.0, 0.0, 0.3, 5.0, 100.0]))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self._owe(key, self.now + max(0.0, seconds))

    @precondition(lambda self: self._due())
    @rule()
    def take(self) -> None:
        taken = self._run(asyncio.wait_for(self.queue.take(), 1))
        assert taken.key not in self.working, "two workers have one key"
        assert taken.key in self._due(), "nobody asked for it, or not yet"
        assert taken.waited >= 0
        self.working.add(taken.key)
        del self.owed[taken.key]

    def _given_back(self, key: str) -> None:
        self.working.discard(key)
        if key in self.again:
            self.again.discard(key)
            self.owed[key] = self.now

    @precondition(lambda self: self.working)
    @rule(data=st.data(), after=st.sampled_from([None, 0.0, 2.0, 50.0]))
    def done(self, data: st.DataObject, after: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key, after)
        self.failures.pop(key, None)
        if after is not None and key not in self.again:
            self._owe(key, self.now + after)
        self._given_back(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def failed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        count = self.failures[key] = self.failures.get(key, 0) + 1
        pause = self.queue.failed(key)
        assert pause == min(FIRST_BACKOFF_SECONDS * 2 ** (count - 1), LAST_BACKOFF_SECONDS)
        self.again.discard(key)
        self.working.discard(key)
        self.owed[key] = self.now + pause

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 400.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def figures_are_true(self) -> None:
        assert self.queue.working() == len(self.working)
        assert self.queue.depth() <= len(self._due()), "a key waits once, and only when it is due"
        assert self.queue.oldest_wait() >= 0

    def teardown(self) -> None:
        """Everything that was asked for is worked on, by as many takes as there are keys."""
        for key in sorted(self.working):
            self.queue.done(key)
            self._given_back(key)
        self.now += LAST_BACKOFF_SECONDS + 1
        for _ in range(len(self.owed)):
            self.take()
        assert self.owed == {}
        assert self.queue.depth() == 0, "duplicates merge"
        for key in sorted(self.working):
            self.queue.done(key)
        self.loop.close()


QueueMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
test_no_wakeup_is_lost = QueueMachine.TestCase
