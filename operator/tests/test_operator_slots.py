"""Job slots: never more than the limit, in turn by namespace, and nobody waits while one is free."""

import pytest
from fpga_operator.run.slots import JobSlots, Place
from fpga_operator.run.store import Key, Store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

NEW = "2026-01-01T00:00:{:02}Z"


def key(namespace: str, number: int = 0) -> Key:
    return Key("FpgaModel", namespace, f"m{number}")


class Farm:
    """Slots, and the Jobs that run in them."""

    def __init__(self, limit: int) -> None:
        self.store = Store()
        self.slots = JobSlots(self.store, limit)
        self.slots.wake = self.ask
        self.asked: list[Key] = []
        self.places: dict[Key, Place] = {}
        self.count = 0

    def ask(self, who: Key) -> None:
        self.asked.append(who)

    def start(self, who: Key) -> None:
        self.count += 1
        meta = {"name": who.name, "namespace": who.namespace, "uid": f"u{self.count}", "resourceVersion": "1"}
        self.store.put({"kind": "Job", "metadata": meta, "status": {}})

    def end(self, who: Key) -> None:
        job = Key("Job", who.namespace, who.name)
        body = self.store.body(job)
        assert body is not None
        self.store.remove(job, body["metadata"]["uid"])
        for other in self.slots.next():
            self.ask(other)

    def running(self) -> list[Key]:
        return [Key("FpgaModel", *there[1:]) for there in self.store.keys("Job")]

    def reconcile(self, who: Key, *, fails: bool = False) -> bool:
        """One pass over an object that wants a Job; tell whether it has got it."""
        place = self.places[who]
        if not self.slots.reserve(who, place):
            self.slots.waits(who, place)
            return False
        if not fails:
            self.start(who)
        self.slots.release(who)
        return not fails


def test_one_object_does_not_wait_behind_two_hundred_of_another_namespace() -> None:
    farm = Farm(2)
    crowd = [key("crowd", number) for number in range(200)]
    farm.places = {who: (0, NEW.format(0)) for who in crowd} | {key("alone"): (0, NEW.format(9))}
    for who in [*crowd, key("alone")]:
        farm.reconcile(who)
    assert farm.running() == sorted(crowd)[:2]
    farm.end(farm.running()[0])
    assert farm.asked == [key("alone")]


def test_namespaces_take_turns_even_with_one_slot() -> None:
    farm = Farm(1)
    everyone = [key(space, number) for space in "abc" for number in range(2)]
    farm.places = {who: (0, NEW.format(number)) for number, who in enumerate(everyone)}
    order = []
    for who in everyone:
        farm.reconcile(who)
    for _ in everyone:
        (now,) = farm.running()
        order.append(now.namespace)
        farm.asked.clear()
        farm.end(now)
        for who in farm.asked:
            farm.reconcile(who)
    assert order == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, NEW.format(1)), (0, NEW.format(2))), ((0, NEW.format(5)), (3, NEW.format(1)))],
    ids=["by age", "behind those that failed less often"],
)
def test_within_a_namespace(first: Place, second: Place) -> None:
    farm = Farm(1)
    one, two = key("a", 1), key("a", 2)
    farm.slots.waits(one, first)
    farm.slots.waits(two, second)
    assert farm.slots.next() == [one]
    assert not farm.slots.reserve(two, second)


def test_a_slot_that_was_reserved_and_not_used_wakes_the_next() -> None:
    farm = Farm(1)
    one, two = key("a", 1), key("b", 2)
    farm.places = {one: (0, NEW.format(1)), two: (0, NEW.format(2))}
    assert farm.slots.reserve(one, farm.places[one])
    assert not farm.reconcile(two)
    farm.slots.release(one)
    assert farm.asked == [two]


def test_a_slot_that_is_offered_to_someone_who_is_gone_wakes_the_next() -> None:
    farm = Farm(1)
    one, two = key("a", 1), key("b", 2)
    farm.slots.waits(one, (0, NEW.format(1)))
    farm.slots.waits(two, (0, NEW.format(2)))
    farm.slots.settled(one)
    assert farm.asked == [two]


class SlotsMachine(RuleBasedStateMachine):
    """Objects come, want Jobs, fail to make them, go away; Jobs end. Whoever is asked is worked on, sooner or later."""

    def __init__(self) -> None:
        super().__init__()
        self.farm = Farm(3)
        self.wanting: set[Key] = set()
        self.todo: list[Key] = []

    def _work(self, who: Key, *, fails: bool = False) -> None:
        if who not in self.wanting or who in self.farm.running():
            self.farm.slots.settled(who)
            self.todo += self.farm.asked
            self.farm.asked.clear()
            return
        if self.farm.reconcile(who, fails=fails):
            self.wanting.discard(who)
        elif fails and who not in self.farm.slots.next():
            self.todo.append(who)  # the queue's backoff
        self.todo += self.farm.asked
        self.farm.asked.clear()

    @rule(space=st.sampled_from("abcd"), number=st.integers(0, 5), failed=st.integers(0, 2))
    def comes(self, space: str, number: int, failed: int) -> None:
        who = key(space, number)
        if who not in self.farm.running():
            self.farm.places[who] = (failed, NEW.format(number))
            self.wanting.add(who)
            self._work(who)

    @precondition(lambda self: self.todo)
    @rule(data=st.data(), fails=st.booleans())
    def works(self, data: st.DataObject, fails: bool) -> None:
        who = self.todo.pop(data.draw(st.integers(0, len(self.todo) - 1)))
        self._work(who, fails=fails)

    @precondition(lambda self: self.farm.running())
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        self.farm.end(data.draw(st.sampled_from(self.farm.running())))
        self.todo += self.farm.asked
        self.farm.asked.clear()

    @precondition(lambda self: self.wanting)
    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.wanting)))
        self.wanting.discard(who)
        self.todo.append(who)  # its deletion is an event

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert self.farm.slots.running() <= 3

    def teardown(self) -> None:
        """Everybody gets a Job in the end, by nothing but the wake-ups that were given."""
        for _ in range(500):
            if self.todo:
                self._work(self.todo.pop(0))
            elif self.farm.running():
                self.farm.end(self.farm.running()[0])
                self.todo += self.farm.asked
                self.farm.asked.clear()
            else:
                break
        assert self.wanting == set()
        assert self.farm.slots.waiting() == 0


SlotsMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_nobody_is_forgotten = SlotsMachine.TestCase
