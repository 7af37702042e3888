"""The configuration file and the command line: what is wrong is named, and the exit code says so."""

from pathlib import Path

import pytest
from fpga_operator.config import load
from fpga_operator.errors import ConfigError
from fpga_operator.main import main

IMAGES = "images: {toolchain: t, converter: c, runtime: r}\n"
WRONG = {
    "not there": (None, "No such file"),
    "not YAML": ("images: [", "parsing"),
    "image missing": ("images: {toolchain: t, converter: c}", "images.runtime"),
    "typo": (IMAGES + "maxConcurentJobs: 3", "maxConcurentJobs"),
    "no Jobs at all": (IMAGES + "maxConcurrentJobs: 0", "maxConcurrentJobs"),
    "key file missing": (IMAGES + "masterKeyFile: /nowhere/key", ""),
}


@pytest.mark.parametrize(
    ("text", "words"), [case for case in WRONG.values() if case[1]], ids=[n for n, c in WRONG.items() if c[1]]
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "operator.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(path)


def test_the_smallest_file(tmp_path: Path) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text(IMAGES)
    config = load(path)
    assert config.resource_name == "fpga.intel.com/arria10"
    assert config.max_concurrent_jobs == 2


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_the_process_does_not_start(
    tmp_path: Path, case: tuple[str | None, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operator.yaml"
    if case[0] is not None:
        path.write_text(case[0])
    assert main(["--config", str(path)]) == 1
    assert "cannot start" in capsys.readouterr().err
