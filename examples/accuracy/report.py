"""The results as a table for docs/accuracy.md, which keeps it between two marks."""

from pathlib import Path

from npu import bfp

from examples.accuracy.results import FLOAT32, TUNED, NetworkResult, Outcome

__all__ = ["DOCS", "in_page", "table"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
BEGIN, END = "<!-- results: python -m examples.accuracy -->\n", "<!-- end of results -->"


def table(results: list[NetworkResult]) -> str:
    """Accuracy, and the share of pictures whose class differs from float32's with its upper 95 % bound."""
    head = ["format", "box", "mantissa"]
    for result in results:
        head += [f"{result.network}: accuracy", "differ from float32", "at most (95 %)"]
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    official = [outcome.format for outcome in results[0].outcomes if outcome.official]
    curve = [outcome.format for outcome in results[0].outcomes if not outcome.official]
    rows += [_row(name, results) for name in official]
    rows += [_row(name, results) for name in curve if _adds(name, results[0])]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{lines}\n\nHeld-out pictures: {'; '.join(_pictures(result) for result in results)}.\n"


def in_page(page: str, content: str) -> str:
    """The page with `content` between the marks; ValueError if they are not there."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs one line {BEGIN.strip()!r} and one {END!r}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def _row(name: str, results: list[NetworkResult]) -> list[str]:
    form = bfp.PRESETS.get("ms-fp8" if name == TUNED else name)
    bits = results[0].outcome(name).mantissa_bits
    row = [
        name if form or name == FLOAT32 else f"({name})",
        "-" if name == FLOAT32 else str(form.box if form else 128),
        "-" if bits is None else f"{bits} bit{'s' if bits > 1 else ''}",
    ]
    for result in results:
        outcome = result.outcome(name)
        row.append(f"{outcome.accuracy:.2%}")
        row += ["-", "-"] if name == FLOAT32 else _differing(outcome)
    return row


def _differing(outcome: Outcome) -> list[str]:
    return [f"{outcome.differ} ({outcome.differ / outcome.pictures:.2%})", f"{outcome.bound:.2%}"]


def _pictures(result: NetworkResult) -> str:
    """How many; fine-tuning may have seen fewer folds."""
    whole, tuned = (result.outcome(name).pictures for name in (FLOAT32, TUNED))
    less = "" if tuned == whole else f" (fine-tuned: {tuned:,} of them)"
    return f"{result.network} {whole:,} in {result.folds} folds{less}"


def _adds(name: str, result: NetworkResult) -> bool:
    """Whether the curve's point is no official format already."""
    bits = result.outcome(name).mantissa_bits
    return all(p.mantissa_bits != bits or p.box != 128 for p in bfp.PRESETS.values())
