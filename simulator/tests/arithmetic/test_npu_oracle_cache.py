"""The cache on disk gives what the oracle gives, and is never needed."""

import numpy as np
import pytest
from drawn_layers import drawn
from golden_reader import bits16
from npu import oracle_cache
from npu.errors import TensorError
from npu.oracle import run
from npu.oracle_cache import remembered


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "accel-oracle"


@pytest.fixture
def layer():
    program, x = drawn("zeros", 1)
    return program, np.array(x, np.float32)


def test_the_second_answer_comes_from_the_file(home, layer):
    program, x = layer
    assert bits16(remembered(program, x)) == bits16(run(program, x))
    (file,) = home.iterdir()
    numbers = np.load(file)
    np.save(file, numbers + 1)
    assert bits16(remembered(program, x)) == bits16(numbers + 1)  # the file was asked


def test_another_input_and_another_program_are_another_file(home, layer):
    program, x = layer
    remembered(program, x)
    remembered(program, x + 1)
    other, y = drawn("zeros", 2)
    remembered(other, np.array(y, np.float32))
    assert len(list(home.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_damaged_file_is_computed_again(home, layer, damage):
    program, x = layer
    remembered(program, x)
    (file,) = home.iterdir()
    file.write_bytes(damage)
    assert bits16(remembered(program, x)) == bits16(run(program, x))
    assert np.load(file).size


def test_it_works_without_a_folder(home, layer):
    program, x = layer
    home.write_text("a file where the folder would be")
    assert bits16(remembered(program, x)) == bits16(run(program, x))


def test_old_files_go(home, layer, monkeypatch):
    program, x = layer
    monkeypatch.setattr(oracle_cache, "MOST_FILES", 2)
    for offset in range(4):
        remembered(program, x + offset)
    assert len(list(home.iterdir())) == 2


def test_refusals_are_the_oracles(layer):
    program, x = layer
    with pytest.raises(TensorError):
        remembered(program, x[:1])
