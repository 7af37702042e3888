"""The demo's figures and the lines that it prints, on answers made up for the purpose."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.demo import report
from examples.demo.score import Scores, agreement, deviation, logits

RIGHT, SURE, DOUBTFUL = [0.6, 0.3, 0.1], [0.05, 0.05, 0.9], [0.34, 0.33, 0.33]
FLOAT32 = np.array([RIGHT, SURE, DOUBTFUL], np.float32)
LABELS = np.array([0, 2, 1])


def scores(answers: np.ndarray = FLOAT32, simulated: float = 5e-5) -> Scores:
    count = len(answers)
    return Scores(
        answers.astype(np.float32),
        latency=np.linspace(0.01, 0.02, count),
        simulated=np.full(count, simulated),
        device_wall=np.full(count, 0.008),
        model_digest="sha256:" + "a" * 64,
    )


def test_agreement_counts_equal_first_answers() -> None:
    other = FLOAT32.copy()
    other[0] = [0.1, 0.8, 0.1]
    assert agreement(FLOAT32, FLOAT32) == 1
    assert agreement(other, FLOAT32) == pytest.approx(2 / 3)


def test_logits_are_known_up_to_a_constant() -> None:
    raw = np.array([[2.0, -1.0, -1.0], [0.5, 0.0, -0.5]])
    softmax = np.exp(raw + 7) / np.exp(raw + 7).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits(softmax.astype(np.float32)), raw, atol=1e-5)
    assert np.isfinite(logits(np.array([[1, 0]], np.float32))).all()


def test_deviation_is_relative() -> None:
    doubled = np.exp(2 * np.log(FLOAT32))
    doubled /= doubled.sum(axis=1, keepdims=True)
    assert deviation(FLOAT32, FLOAT32) == 0
    assert deviation(doubled, FLOAT32) == pytest.approx(1, abs=1e-4)


def test_percentiles() -> None:
    assert scores().percentile(50) == pytest.approx(0.015)


TIMES = {0.0000483: "0.0483 ms", 0.00978: "9.78 ms", 0.5: "500 ms", 12.3456: "12,346 ms"}


@pytest.mark.parametrize("seconds", TIMES)
def test_milliseconds(seconds: float) -> None:
    assert report.milliseconds(seconds) == TIMES[seconds]


def test_a_sketch_is_darker_for_less_light() -> None:
    gray = np.zeros((10, 20), np.uint8)
    gray[:, 10:] = 255
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    assert report.sketch(file.getvalue(), width=4, height=2) == ["  ██", "  ██"]


def test_bars_name_the_likeliest_first() -> None:
    first, second = report.bars(FLOAT32[0], count=2, names="class ")
    assert first.split() == ["1.", "class", "0", "60.000%", "█" * 18]
    assert second.split()[1:4] == ["class", "1", "30.000%"]


def test_beside_puts_the_shorter_block_in_the_middle() -> None:
    assert report.beside(["aa", "b", "c"], ["x"], gap="|") == ["aa|", "b |x", "c |"]


def test_telling_pictures_are_a_sure_one_a_wrong_one_and_a_doubtful_one() -> None:
    assert report.telling(FLOAT32, LABELS) == [1, 2, 0]
    assert len(set(report.telling(FLOAT32, np.array([0, 2, 0])))) == 3


def test_pictures_say_what_was_read_wrongly(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.new("L", (8, 8)).save(file)
    text = "\n".join(report.pictures(files, FLOAT32, LABELS))
    assert "1.png, somebody's 2, read right" in text
    assert "2.png, somebody's 1, read as 0: wrong" in text


def test_the_table_of_digits() -> None:
    lines = report.digits(scores(), FLOAT32, LABELS, ["node/fpga0"])
    text = "\n".join(lines)
    assert "66.7%   2 of 3; float32 has 66.7%" in text
    assert "100.0%   3 of 3 pictures" in text
    assert "0.05 ms   20,000 pictures a second at batch size 1" in text
    assert "8 ms   160 times the FPGA's" in text
    assert lines[-1].endswith("node/fpga0   sha256:aaaaaaaaaaaa")


def test_a_server_without_clocks() -> None:
    assert "not told by the server" in "\n".join(report.timing(scores(simulated=0)))


def test_resnet_says_why_it_differs() -> None:
    moved = FLOAT32.copy()
    moved[2] = [0.33, 0.34, 0.33]
    same, _, other, *_ = report.resnet(["a", "b", "c"], scores(moved), FLOAT32, ["node/fpga0"])
    assert same.startswith("a: class 0")
    assert same.endswith("as float32 (60.0%)")
    assert "float32: class 0 (34.0%); its margin is 0.03 logits" in other


def test_times_add_up() -> None:
    assert report.times([("one", 1.25), ("two", 2.5)])[-1].split() == ["all", "3.8", "s"]
