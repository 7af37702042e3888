"""The termination message: one document, at most 4096 bytes, cut where it hurts least."""

import json
from typing import Any

import pytest
from accel_toolchain import results
from accel_toolchain.conditions import Terminal, Transient, listed


def version(number: int) -> dict[str, Any]:
    digest = f"sha256:{number:064x}"
    return {"version": number, "digest": digest, "sourceSha256": "0" * 64, "createdTime": "t", "sizeBytes": 1}


def port(number: int) -> dict[str, Any]:
    return {
        "name": f"ssd_300_vgg/block{number}_box/Reshape_1:0",
        "alias": f"out_{number}",
        "dtype": "float32",
        "shape": [-1],
    }


def test_a_short_result_is_whole() -> None:
    document = json.loads(results.fit(results.success("push", versions=[version(1)], outputs=[port(1)])))
    assert document["versionsCut"] is False
    assert len(document["versions"]) == 1
    assert "outputsCut" not in document


def test_many_versions_are_cut_and_say_so_and_the_newest_stay() -> None:
    encoded = results.fit(
        results.success("push", versions=[version(n) for n in range(100, 0, -1)], outputs=[port(1)])
    )
    document = json.loads(encoded)
    assert len(encoded) <= 4096
    assert document["versionsCut"] is True
    assert document["versions"][0]["version"] == 100
    assert len(document["versions"]) > 10
    assert document["outputs"] == [port(1)]


def test_outputs_go_only_after_the_versions() -> None:
    document = json.loads(
        results.fit(results.success("push", versions=[version(1)], outputs=[port(n) for n in range(90)]))
    )
    assert document["outputsCut"] is True
    assert len(document["versions"]) == 1


MESSAGES = {
    "ascii": "x" * 9000,
    "four bytes a character": "𝄞" * 3000,
    "quotes that JSON escapes": '"' * 5000,
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_long_message_is_cut_to_fit(message: str) -> None:
    encoded = results.fit(results.failure("convert", Terminal("ConversionFailed", message)))
    assert len(encoded) <= 4096
    assert json.loads(encoded)["message"].endswith("…")


def test_failures_say_whether_to_try_again() -> None:
    assert results.failure("fetch", Transient("SourceUnavailable", "m"))["retry"] is True
    assert results.failure("fetch", Terminal("BadArchive", "m"))["retry"] is False


def test_lists_in_messages_are_cut_and_say_so() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(15)], 3) == "0, 1, 2 and 12 more"
