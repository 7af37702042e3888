"""Bad requests: each gets a gRPC status and a text that helps, and the server lives."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from accel import PredictionClient
from clients import address_and_key
from kube import Kube
from networks import cnn, pictures
from objects import chain

Call = Callable[[], Any]


@pytest.fixture(scope="module")
def reached(kube: Kube, push: Callable[[Any, str], str]) -> tuple[tuple[str, int], str]:
    kube.apply(*chain("ask", push(cnn(41), "requests:1")))
    kube.wait_ready("accelservice", "ask")
    return address_and_key(kube, "ask")


@pytest.fixture(scope="module")
def address(reached: tuple[tuple[str, int], str]) -> tuple[str, int]:
    return reached[0]


@pytest.fixture(scope="module")
def key(reached: tuple[tuple[str, int], str]) -> str:
    return reached[1]


CASES: dict[str, tuple[dict[str, np.ndarray], grpc.StatusCode, list[str]]] = {
    "wrong input name": ({"picture": pictures(1)}, grpc.StatusCode.INVALID_ARGUMENT, ["picture", "image"]),
    "wrong dtype": (
        {"image": pictures(1).astype(np.int64)},
        grpc.StatusCode.INVALID_ARGUMENT,
        ["image", "float32"],
    ),
    "wrong shape": ({"image": pictures(1)[:, :, :8]}, grpc.StatusCode.INVALID_ARGUMENT, ["image", "16"]),
    "100 MB": (
        {"image": np.zeros((1, 3, 16, (100 << 20) // (3 * 16 * 4)), np.float32)},
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_tensor(address: tuple[str, int], key: str, case: str) -> None:
    tensors, code, words = CASES[case]
    with pytest.raises(grpc.RpcError) as refused:
        PredictionClient(*address, access_token=key).score_numpy_arrays(tensors)
    assert refused.value.code() is code, refused.value.details()
    for word in words:
        assert word in refused.value.details()


KEYS = {"no key": "", "wrong key": "0" * 32}


@pytest.mark.parametrize("wrong", KEYS.values(), ids=KEYS)
def test_without_the_key(address: tuple[str, int], wrong: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        PredictionClient(*address, access_token=wrong).score_numpy_arrays({"image": pictures(1)})
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_server_lives_after_all_that(kube: Kube, address: tuple[str, int], key: str) -> None:
    answer = PredictionClient(*address, access_token=key).score_numpy_arrays({"image": pictures(3)})
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-3)
    (pod,) = kube.list("pod", "accel.dev/service=ask")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
