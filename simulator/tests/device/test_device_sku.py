"""A card computes programs that were compiled for its own SKU, and says which one a program is for."""

from collections.abc import Callable

import pytest
from device_process import DeviceProcess
from npu.device import engine
from npu.device.client import ProgramRejected
from npu.program import Program

WORDS = (
    "DeviceSkuMismatch: the program is compiled for the SKU bw-cnn-a10 and this card is a bw-other; convert"
)


def test_a_program_for_another_sku_is_refused_in_words(program: Program) -> None:
    with pytest.raises(ProgramRejected, match=f"^{WORDS} .* bw-other, or use a card of the SKU bw-cnn-a10$"):
        engine.load(program.to_bytes(), "", "bw-other")


def test_the_refusal_reaches_the_client_and_the_card_goes_on(
    device: Callable[..., DeviceProcess], program: Program
) -> None:
    client = device(sku="bw-other").client()
    for _ in range(2):
        with pytest.raises(ProgramRejected, match=WORDS):
            client.load(program.to_bytes())
        assert client.info()["state"] == "idle"
