"""The study of trained networks: its statistics, its table and picture, and that a fold trained afresh agrees."""

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from npu import bfp

from examples.accuracy import plot, report
from examples.accuracy.bounds import upper_bound
from examples.accuracy.results import FLOAT32, TUNED, read

BOUNDS = {
    # seen, of -> the 0.95 quantile of Beta(seen + 1, of - seen), by SciPy
    (0, 1797): 0.0016656854,
    (5, 1797): 0.0058413550,
    (9, 1797): 0.0087233829,
    (1, 3): 0.8646496378,
    (899, 1797): 0.5199467734,
    (3, 3): 1.0,
}


@pytest.mark.parametrize("given", BOUNDS)
def test_the_bound_is_clopper_pearsons(given: tuple[int, int]) -> None:
    assert upper_bound(*given) == pytest.approx(BOUNDS[given], abs=1e-7)


def test_what_is_promised_of_the_default_format_holds() -> None:
    for result in read():
        default = result.outcome(bfp.DEFAULT)
        assert default.pictures >= 1000, "held out once each"
        assert default.bound <= 0.01, f"{result.network} differs from float32 too often"
        tuned, plain = result.outcome(TUNED), result.outcome("ms-fp8")
        assert tuned.accuracy > plain.accuracy
        assert {o.mantissa_bits for o in result.outcomes if not o.official} == set(range(1, 8))
        assert {o.format for o in result.outcomes if o.official} == {FLOAT32, TUNED, *bfp.PRESETS}


def test_curve_and_official_formats_agree_where_they_are_the_same() -> None:
    for result in read():
        for name in ("ms-fp8", "ms-fp9", "msfp-a10"):
            official = result.outcome(name)
            point = result.outcome(f"m = {official.mantissa_bits}")
            assert (point.right, point.differ) == (official.right, official.differ)


def test_the_docs_show_the_committed_results() -> None:
    results, page = read(), report.DOCS.read_text()
    cure = "run python -m examples.accuracy --report"
    assert report.in_page(page, report.table(results)) == page, cure
    assert plot.FILE.read_text() == plot.svg(results), cure
    assert ET.fromstring(plot.svg(results)).tag.endswith("svg")
    assert plot.FILE.name in page
    rows = re.findall(r"^\| msfp-a10 .*$", page, re.MULTILINE)
    assert len(rows) == 1


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="the page needs one line"):
        report.in_page("# Accuracy\n", "table\n")


@pytest.mark.tensorflow
@pytest.mark.timeout(3600)  # the full count trains ten folds and their tuned twins
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, at import
def test_a_fold_trained_afresh_agrees_with_float32(tmp_path: Path) -> None:
    """Loosely: a single fold has 360 pictures, and other versions of TensorFlow train other weights."""
    from examples.accuracy import study, training

    full = bool(os.environ.get("ACCEL_TEST_FULL"))
    data = training.load()
    given, held_out = training.folds(data)[0]
    forms = {name: bfp.PRESETS[name] for name in ("msfp-a10", "ms-fp8")}
    found = study.run_fold("residual", data[given], data[held_out], 0, forms, print, tune=full)
    labels = data.labels[held_out]
    right = {name: int((classes == labels).sum()) for name, classes in found.items()}
    assert right[FLOAT32] > 0.95 * len(labels)
    differ = int((found["msfp-a10"] != found[FLOAT32]).sum())
    assert upper_bound(differ, len(labels)) < 0.04, f"{differ} of {len(labels)} differ in msfp-a10"
    assert right["ms-fp8"] < right[FLOAT32]
    if full:
        assert right[TUNED] > right["ms-fp8"]
        assert_the_whole_study_is_as_committed(data)


def assert_the_whole_study_is_as_committed(data: Any) -> None:
    """Every fold of every network; loosely, because another processor's kernels train other weights."""
    from examples.accuracy.study import study

    for committed in read():
        fresh = study(committed.network, data, print)
        assert fresh.outcome(bfp.DEFAULT).bound <= 0.01
        for name in (FLOAT32, TUNED, "msfp-a10", "msfp16"):
            now, then = fresh.outcome(name).accuracy, committed.outcome(name).accuracy
            assert abs(now - then) < 0.02, (committed.network, name, now, then)
