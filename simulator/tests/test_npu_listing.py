"""`npu list`: what a stranger reads of a program."""

import json
from dataclasses import replace

import pytest
from npu import cli, listing
from program_samples import samples


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    for name, program in samples().items():
        (folder / name).write_bytes(program.to_bytes())
    return folder


def listed(capsys, *arguments):
    assert cli.main(["list", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def line(text: str, word: str) -> list[str]:
    (found,) = [row for row in text.splitlines() if f" {word} " in row]
    return found.split()


def test_the_chains_say_how_they_add_and_what_they_read(files, capsys):
    text = listed(capsys, files / "every kind")
    assert "outputs   t10 2x2x146, t5 3x3x8" in text
    assert line(text, "layer2")[2:6] == ["conv", "3x3+1,1", "fp16-taps", "bias+relu"]
    assert line(text, "layer4")[2:5] == ["conv", "3x3*2+2,2", "fp32-seq"]
    assert "t3/2,2" in line(text, "layer5")
    assert line(text, "layer7")[2:][:6] == ["concat", "1x1", "residual", "t5", "t6", "t7"]
    assert line(text, "layer10")[-2:] == ["out", "1"]
    assert "they stay in the matrix registers" in text


def test_loads_are_listed_with_their_buffers(files, capsys):
    text = listed(capsys, files / "loads", "--loads", "--explain")
    assert line(text, "layer1")[-3:] == ["100", "0:64", "1:36"]
    assert "\n1     1       36     0         64          layer1\n" in text
    assert text.endswith(listing.LEGEND)
    header = next(row for row in text.splitlines() if row.startswith("#"))
    assert all(f"\n{column} " in "\n" + listing.LEGEND for column in header.split() if column != "chain")


def test_json_has_everything_but_the_weights(files, capsys):
    document = json.loads(listed(capsys, files / "timed only", "--format", "json"))
    assert (document["version"], document["sku"], document["native_dim"]) == (2, "bw-s10", 400)
    assert document["format"] == {
        "name": "msfp-a10", "box": 400, "exponent_bits": 5, "mantissa_bits": 5, "rounding": "nearest-even",
    }  # fmt: skip
    assert [chain["kind"] for chain in document["chains"]] == ["expand", "conv"]
    assert document["tensors"][0] == {
        "shape": [8, 8, 3], "files": [], "matrix_address": None, "float16_address": None, "pitch": 1,
    }  # fmt: skip
    streamed = json.loads(listed(capsys, files / "streamed", "--format", "json"))
    assert streamed["tensors"][1]["files"] == ["matrix", "streamed"]
    assert json.loads(listed(capsys, files / "loads", "--format", "json"))["loads"][1] == {
        "chain": 0, "first": 64, "tiles": 36, "buffer": 1,
    }  # fmt: skip


def test_a_strangers_names_command_no_terminal(files, capsys):
    program = samples()["streamed"]
    names = ("\x1b[2Jwiped", "two\nlines", "größe")
    (files / "hostile").write_bytes(replace(program, name="\x1b]0;title\x07", chain_names=names).to_bytes())
    text = listed(capsys, files / "hostile")
    assert "program   ?]0;title?," in text
    assert all(f" {name} " in text for name in ("?[2Jwiped", "two?lines", "größe"))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
