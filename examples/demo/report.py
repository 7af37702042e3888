"""The printed report. Pure: figures in, lines out."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from examples.demo.score import Answers, Scores, agreement, deviation, logits

SHADES = " ░▒▓█"
LABEL = 42


def row(name: str, value: str, note: str = "") -> str:
    """Return one line of a table."""
    return f"{name:<{LABEL}}{value:>18}   {note}".rstrip()


def milliseconds(seconds: float) -> str:
    """Return a time with three significant figures, more where it is long."""
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def sketch(jpeg: bytes, width: int = 20, height: int = 10) -> list[str]:
    """Return a picture as lines of characters, darker for less light."""
    gray = Image.open(io.BytesIO(jpeg)).convert("L").resize((width, height), Image.Resampling.BOX)
    levels = (np.asarray(gray, dtype=np.float64) / 256 * len(SHADES)).astype(int)
    return ["".join(SHADES[level] for level in line) for line in levels]


def bars(answer: Answers, count: int = 5, names: str = "") -> list[str]:
    """Return the `count` most probable classes with a bar each."""
    lines = []
    for place, k in enumerate(answer.argsort()[::-1][:count], start=1):
        share = float(answer[k])
        lines.append(f"{place}.  {names}{k:<4} {share:8.3%}  {'█' * round(share * 30)}")
    return lines


def beside(left: Sequence[str], right: Sequence[str], gap: str = "    ") -> list[str]:
    """Return two blocks of lines side by side, the shorter one in the middle."""
    height, width = max(len(left), len(right)), max(map(len, left))
    above = (height - len(right)) // 2
    padded = [""] * above + list(right) + [""] * (height - above - len(right))
    return [
        f"{a:<{width}}{gap}{b}".rstrip()
        for a, b in zip([*left, *[""] * (height - len(left))], padded, strict=True)
    ]


def telling(answers: Answers, labels: np.ndarray) -> list[int]:
    """Return three pictures worth a look: a sure one, the least sure one, and a wrong one (or the next
    least sure).
    """
    certainty = answers.max(axis=1)
    doubtful = [int(i) for i in certainty.argsort()]
    wrong = [i for i in doubtful if answers[i].argmax() != labels[i]]
    chosen = [doubtful[-1], *wrong[:1]]
    chosen += [i for i in doubtful if i not in chosen][: 3 - len(chosen)]
    return chosen


def pictures(files: Sequence[Path], answers: Answers, labels: np.ndarray) -> list[str]:
    """Return the top-5 of three pictures."""
    lines: list[str] = []
    for i in telling(answers, labels):
        said = int(answers[i].argmax())
        verdict = "read right" if said == labels[i] else f"read as {said}: wrong"
        text = [f"{files[i].name}, somebody's {labels[i]}, {verdict}", "", *bars(answers[i])]
        lines += [*beside(sketch(files[i].read_bytes()), text), ""]
    return lines


def timing(scores: Scores) -> list[str]:
    """Return the rows about time: the client's, the simulated FPGA's and the emulator's."""
    simulated, wall = float(scores.simulated.mean()), float(scores.device_wall.mean())
    rate = (
        f"{1 / simulated:,.0f} pictures a second at batch size 1" if simulated else "not told by the server"
    )
    slower = f"{wall / simulated:,.0f} times the FPGA's: emulation on this CPU" if simulated else ""
    return [
        row(
            "latency of a call at the client, p50",
            milliseconds(scores.percentile(50)),
            "wall time, gRPC and JPEG included",
        ),
        row("                                 p99", milliseconds(scores.percentile(99))),
        row("FPGA, simulated time of a picture", milliseconds(simulated), rate),
        row("FPGA, emulator's wall time", milliseconds(wall), slower),
    ]


def digits(scores: Scores, float32: Answers, labels: np.ndarray, held: Sequence[str]) -> list[str]:
    """Return the table about the digits network."""
    right = int((scores.answers.argmax(axis=1) == labels).sum())
    theirs = float((float32.argmax(axis=1) == labels).mean())
    same = agreement(scores.answers, float32)
    return [
        row(
            "accuracy on held-out pictures",
            f"{right / len(labels):.1%}",
            f"{right} of {len(labels)}; float32 has {theirs:.1%}",
        ),
        row(
            "FPGA names the class that float32 names",
            f"{same:.1%}",
            f"{round(same * len(labels))} of {len(labels)} pictures",
        ),
        row(
            "largest change of a probability",
            f"{np.abs(scores.answers - float32).max():.4f}",
            "block floating point against float32; not zero",
        ),
        row("relative change of the logits", f"{deviation(scores.answers, float32):.2%}"),
        *timing(scores),
        row("computed by", ", ".join(held), scores.model_digest[:19]),
    ]


def resnet(names: Sequence[str], scores: Scores, float32: Answers, held: Sequence[str]) -> list[str]:
    """Return the table about ResNet-50: each picture's answer beside float32's, and why they differ where
    they do.
    """
    lines = []
    for name, ours, theirs in zip(names, scores.answers, float32, strict=True):
        mine, other = int(ours.argmax()), int(theirs.argmax())
        if mine == other:
            note = f"as float32 ({theirs[other]:.1%})"
        else:
            said, moved = logits(theirs[None])[0], logits(ours[None])[0]
            shift = float(np.sqrt(((moved - said) ** 2).mean()))
            note = (
                f"float32: class {other} ({theirs[other]:.1%}); its margin is {said[other] - said[mine]:.2f} "
                f"logits, and 5-bit mantissas move a logit by {shift:.2f}"
            )
        lines.append(row(f"{name}: class {mine}", f"{ours[mine]:.1%}", note))
    lines += [
        row(
            "same top-1 as float32", f"{agreement(scores.answers, float32):.0%}", f"of {len(names)} pictures"
        ),
        row(
            "relative change of the logits",
            f"{deviation(scores.answers, float32):.2%}",
            "50 layers of 5-bit mantissas against float32",
        ),
        *timing(scores),
        row("computed by", ", ".join(held), scores.model_digest[:19]),
    ]
    return lines


def times(taken: Sequence[tuple[str, float]]) -> list[str]:
    """Return how long each phase took."""
    lines = [f"{number}  {title:<78}{took:8.1f} s" for number, (title, took) in enumerate(taken, start=1)]
    return [*lines, f"{'':3}{'all':<78}{sum(took for _, took in taken):8.1f} s"]
