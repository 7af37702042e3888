"""What the sweep removes, and what it leaves: tables over one repository."""

from datetime import UTC, datetime, timedelta

import pytest
from fpga_operator.plan.sweep import Repository, Stored, is_ours, plan_sweep, subject_of
from fpga_operator.plan.sweeprefs import References

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GRACE = timedelta(days=1)
MODEL = "models/shop/net"


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def referrers(letter: str) -> str:
    return "sha256-" + letter * 64


def version(number: int, letter: str, record: str, index: str) -> list[Stored]:
    """A version as the toolchain leaves it: its manifest, its record, the index that leads to the record."""
    return [
        Stored(digest(letter), frozenset({f"v{number}"})),
        Stored(digest(record), frozenset({f"{referrers(letter)}.{record * 32}"})),
        Stored(digest(index), frozenset({referrers(letter)}), frozenset({digest(record)}), is_index=True),
    ]


ONE = version(1, "a", "b", "c")
TWO = version(2, "d", "e", "f")


def repository(*manifests: Stored, name: str = MODEL) -> Repository:
    return Repository(name, {manifest.digest: manifest for manifest in manifests})


def live(*digests: str, owned: bool = True, **more: set[str]) -> References:
    found = References(**more)  # type: ignore[arg-type]
    found.digests |= {(MODEL, digest(letter)) for letter in digests}
    if owned:
        found.owned[MODEL] = "FpgaModel shop/net"
    return found


def tagged(tag: str, name: str = MODEL) -> References:
    found = live()
    found.tags.add((name, tag))
    return found


HALF_PUSHED = [Stored(digest("e"), frozenset({f"{referrers('d')}.{'e' * 32}"})), TWO[2]]
REPLACED = [
    Stored(digest("1"), frozenset({f"{referrers('a')}.{'1' * 32}"})),
    Stored(digest("2"), frozenset({f"{referrers('a')}.{'2' * 32}"}), frozenset({digest("1")}), is_index=True),
]
PLATFORMS = [
    Stored(digest("3"), frozenset({"v3"}), frozenset({digest("4")}), is_index=True),
    Stored(digest("4")),
]
FOREIGN = Stored(digest("9"), frozenset({"mine"}), ours=False)
CASES = {
    # name: (manifests, live, what goes)
    "nobody is left": ([*ONE, *TWO], live(owned=False), "abcdef"),
    "a model with both versions": ([*ONE, *TWO], live("a", "d"), ""),
    "a version that was dropped": ([*ONE, *TWO], live("d"), "abc"),
    "a version that only a pod has": ([*ONE, *TWO], live("a", owned=False), "def"),
    "the newest of a live model stays, so that counting goes on": ([*ONE, *TWO], live("a"), ""),
    "a pinned version": ([*ONE, *TWO], tagged("v1"), ""),
    "a tag elsewhere": ([*ONE, *TWO], tagged("v1", name="models/shop/other"), "abc"),
    "somebody is at work": ([*ONE, *HALF_PUSHED], live(whole={MODEL}), ""),
    "a digest without a repository": ([*ONE, *TWO], live(owned=False, anywhere={digest("d")}), "abc"),
    "a push that was cut short": ([*ONE, *HALF_PUSHED], live("a"), "ef"),
    "a record and its index that were replaced": ([*ONE, *REPLACED], live("a"), "12"),
    "a log that a status names": ([*ONE, *REPLACED], live("a", "1"), "2"),
    "children of a living index": ([*PLATFORMS], live("3"), ""),
    "children of a dead index": ([*ONE, *PLATFORMS], live("a", owned=False), "34"),
    "what users pushed beside": ([*ONE, FOREIGN], live(owned=False), "abc"),
    "nothing there": ([], live(), ""),
}


@pytest.mark.parametrize(("manifests", "references", "goes"), CASES.values(), ids=CASES)
def test_what_goes(manifests: list[Stored], references: References, goes: str) -> None:
    old = {(MODEL, manifest.digest): NOW - GRACE for manifest in manifests}
    plan = plan_sweep([repository(*manifests)], references, old, NOW, GRACE)
    assert {each.digest for each in plan.deletions} == {digest(letter) for letter in goes}
    assert not plan.waiting


def test_grace_is_counted_from_the_first_sight() -> None:
    stored, nobody = [repository(*ONE)], live(owned=False)
    first = plan_sweep(stored, nobody, {}, NOW, GRACE)
    assert not first.deletions
    assert set(first.marks.values()) == {NOW}
    early = plan_sweep(stored, nobody, first.marks, NOW + GRACE - timedelta(seconds=1), GRACE)
    assert not early.deletions
    assert early.marks == first.marks
    due = plan_sweep(stored, nobody, early.marks, NOW + GRACE, GRACE)
    assert len(due.deletions) == 3


def test_what_is_referred_to_again_loses_its_mark() -> None:
    marks = plan_sweep([repository(*ONE)], live(owned=False), {}, NOW, GRACE).marks
    again = plan_sweep([repository(*ONE)], live("a"), marks, NOW + GRACE, GRACE)
    assert not again.marks
    later = plan_sweep([repository(*ONE)], live(owned=False), again.marks, NOW + 2 * GRACE, GRACE)
    assert not later.deletions


def test_no_grace_deletes_at_first_sight() -> None:
    assert len(plan_sweep([repository(*ONE)], live(owned=False), {}, NOW, timedelta(0)).deletions) == 3


def test_a_clock_that_went_back_does_not_lengthen_the_grace_for_ever() -> None:
    future = {(MODEL, manifest.digest): NOW + 30 * GRACE for manifest in ONE}
    marks = plan_sweep([repository(*ONE)], live(owned=False), future, NOW, GRACE).marks
    assert len(plan_sweep([repository(*ONE)], live(owned=False), marks, NOW + GRACE, GRACE).deletions) == 3


def test_a_sweep_that_is_cut_short_loses_sight_of_nothing() -> None:
    """After any number of deletions a tag still leads to what is left."""
    everything = [*ONE, *HALF_PUSHED, *REPLACED]
    plan = plan_sweep([repository(*everything)], live(owned=False), {}, NOW, timedelta(0))
    order = [each.digest for each in plan.deletions]
    assert len(order) == len(everything)
    for cut in range(len(order)):
        left = [manifest for manifest in everything if manifest.digest in order[cut:]]
        reached = {digest for m in left if m.tags for digest in (m.digest, *m.children)}
        reached |= {subject for m in left for tag in m.tags if (subject := subject_of(tag))}
        assert {m.digest for m in left} <= reached


def test_why_names_the_object() -> None:
    nobody = plan_sweep([repository(*ONE)], live(owned=False), {}, NOW, GRACE)
    assert {each.why for each in nobody.waiting} == {"no FpgaModel shop/net"}
    dropped = plan_sweep([repository(*ONE, *TWO)], live("d"), {}, NOW, GRACE)
    assert dropped.waiting[0].why == "FpgaModel shop/net no longer lists v1"


OURS = {
    # name: (repository, ledger, sources, swept)
    "a model": ("models/shop/net", (), False, True),
    "too short for a model": ("models/shop", (), False, False),
    "too long for a model": ("models/shop/net/more", (), False, False),
    "an image": ("images/shop/net", (), False, True),
    "a namespace's own name": ("images/shop/a/b", (), False, True),
    "too short for an image": ("images/shop", (), False, False),
    "a chosen name": ("shop/net", ("shop/net",), False, True),
    "a name nobody knows": ("library/python", ("shop/net",), False, False),
    "a source": ("sources/net", (), False, False),
    "a source, if asked for": ("sources/net", (), True, True),
}


@pytest.mark.parametrize(("name", "ledger", "sources", "swept"), OURS.values(), ids=OURS)
def test_which_repositories_are_swept(name: str, ledger: tuple[str, ...], sources: bool, swept: bool) -> None:
    assert is_ours(name, ledger=ledger, sources=sources) is swept
