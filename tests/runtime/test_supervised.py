"""A supervised loop shows where an unforeseen error was raised, and of whoever is away only the sentence."""

from __future__ import annotations

import logging
import sqlite3
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


@pytest.mark.parametrize("inside", ["alone", "in a group", "below another"])
async def test_what_a_database_driver_quotes_of_a_row_is_not_said(
    inside: str, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = sqlite3.IntegrityError("Failing row contains (canary-5be2)")
    below = LookupError("no canary-5be2")
    below.__cause__ = quoted
    errors = {"alone": quoted, "in a group": ExceptionGroup("for canary-5be2", [quoted]), "below another": below}
    left: list[Exception] = [errors[inside]]

    async def body() -> None:
        if left:
            raise left.pop()

    with caplog.at_level(logging.WARNING, "saga"):
        await supervised("a loop", body, Random(1))
    (told,) = [logging.Formatter().format(record) for record in caplog.records]
    assert "canary-5be2" not in told
    assert "its text may quote a row" in told
    assert "Traceback" in told
    assert "in body" in told
