"""A supervised loop shows where an unforeseen error was raised, and of whoever is away only the sentence."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import pytest

from saga._runtime.supervise import supervised
from saga.errors import StoreUnavailable, TransportUnavailable
from saga.testing import trio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return trio_backend()


@pytest.mark.parametrize(
    ("error", "shows"),
    [
        (TransportUnavailable("away"), False),
        (ExceptionGroup("both", [StoreUnavailable("away"), TransportUnavailable("away")]), False),
        (ExceptionGroup("both", [StoreUnavailable("away"), ValueError("ours")]), True),
        (ValueError("ours"), True),
    ],
)
async def test_it_starts_again_and_says_why(error: Exception, shows: bool, caplog: pytest.LogCaptureFixture) -> None:
    left = [error, error]

    async def body() -> None:
        if left:
            raise left.pop()

    with caplog.at_level(logging.WARNING, "saga"):
        await supervised("a loop", body, Random(1))
    assert [bool(record.exc_info) for record in caplog.records] == [shows, False]
    assert all("a loop failed and starts again in" in record.getMessage() for record in caplog.records)
