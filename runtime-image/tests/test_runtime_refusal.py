"""A server on a card of another kind ends with the card's words where the kubelet reads them."""

from pathlib import Path

from runtime_harness import DeviceProcess, Packed
from test_runtime_process import container, environment

WORDS = "DeviceSkuMismatch: the program is compiled for the SKU bw-cnn-a10 and this card is a bw-other"


def test_it_ends_with_78_and_says_why(compiled_folder: Packed, tmp_path: Path) -> None:
    device = DeviceProcess(tmp_path / "fpga", sku="bw-other")
    device.start()
    word = tmp_path / "termination-log"
    given = environment(compiled_folder, device, tmp_path / "keys") | {"ACCEL_TERMINATION_LOG": str(word)}
    try:
        with container(given, tmp_path / "log") as running:
            assert running.process.wait(timeout=60) == 78
            assert word.read_text().startswith(WORDS)
            assert "spec.conversion.sku bw-other" in word.read_text(), "the cure"
            messages = [line["message"] for line in running.lines()]
            assert messages[-1] == "the card refuses the program"
            assert {"loading failed", "draining", "stopped"} < set(messages), "in an orderly way"
    finally:
        device.kill()
