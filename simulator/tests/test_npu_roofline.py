"""The roofline picture: valid SVG, everything inside, no label on another, names of any letters."""

import dataclasses
import xml.etree.ElementTree as ET
from functools import cache

import pytest
from npu import roofline, timing
from npu.compiler import compile_model
from npu.sku import load_sku

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 0.55  # of the font's size: the mean width of DejaVu Sans's lower case


@cache
def estimated(net):
    n = net((1, 3, 24, 24))
    x = n.relu(n.bn(n.conv("x", 64, pads=[1, 1, 1, 1])))
    for channels in (128, 128, 256, 256, 512, 512):
        x = n.relu(n.bn(n.conv(x, channels, pads=[1, 1, 1, 1])))
        x = n.relu(n.bn(n.conv(x, channels, (1, 1))))
    return timing.estimate(compile_model(n.model(x)).program)


@pytest.fixture
def estimate(net):
    return estimated(net)


def boxes(root):
    """Left, top, right, bottom and words of every text."""
    for text in root.iter(f"{SVG}text"):
        size, words = float(text.get("font-size")), text.text
        width = LETTER * size * len(words)
        left = float(text.get("x")) - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
        yield left, float(text.get("y")) - 0.75 * size, left + width, float(text.get("y")) + 0.2 * size, words


def test_labels_lie_in_the_picture_and_not_on_each_other(estimate):
    root = ET.fromstring(roofline.render(estimate, load_sku()))
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    found = list(boxes(root))
    for left, top, right, bottom, words in found:
        assert left >= 0, words
        assert top >= 0, words
        assert right <= width, words
        assert bottom <= height, words
    for at, (left, top, right, bottom, words) in enumerate(found):
        for other in found[:at]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (words, other[4])
    texts = {words for *_, words in found}
    assert {"matrix unit, 9.83 TOPS", "operations per byte of weights from DRAM"} <= texts
    assert len(root.findall(f"{SVG}circle")) >= 4


def test_names_of_models_cannot_break_the_picture(estimate):
    evil = ["</svg><script>", 'a"b&c', "\x00\x1b", "ü→" * 60, ""]
    layers = [
        dataclasses.replace(layer, name=evil[at % len(evil)]) for at, layer in enumerate(estimate.layers)
    ]
    text = roofline.render(dataclasses.replace(estimate, layers=tuple(layers)), load_sku())
    assert not list(ET.fromstring(text).iter(f"{SVG}script"))


def test_a_network_whose_weights_stay_on_the_chip_has_a_picture(net):
    n = net((1, 3, 8, 8))
    estimate = timing.estimate(compile_model(n.model(n.relu(n.conv("x", 8)))).program)
    assert not any(layer.loaded_bytes for layer in estimate.layers)
    ET.fromstring(roofline.render(estimate, load_sku()))
