"""For pytest alone: what every room's tests need of the process that runs them."""

import asyncio
import operator
import os
from collections.abc import Iterator
from typing import Any

import pytest

# A folder named operator/ must not replace the standard library's module of that name: pytest's importlib mode
# names test modules after their path (operator.tests.test_x), and makes a new parent module unless the one that is
# loaded looks like a package.
operator.__path__ = []  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def idle_event_loop() -> Iterator[None]:
    """Give the main thread a loop that is closed in the end; pytest-asyncio makes one that nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session")
def tf() -> Any:
    """TensorFlow, imported once for all who ask for it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    return tf
