"""An outage is a line when it begins, one every half a minute, and one when it is over."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from outbox.outages import Outage
from saga.errors import TransportRefused, TransportUnavailable
from saga.testing import trio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return trio_backend()


async def test_an_outage_is_told_when_it_begins_now_and_then_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "saga")
    outage = Outage("keys wait", "keys go on")
    outage.worked()
    outage.failed(TransportUnavailable("away"), 3)
    for _ in range(70):
        await anyio.sleep(0.5)
        outage.failed(TransportUnavailable("away"))
        outage.worked()
    outage.failed(TransportRefused("denied"))
    outage.failed(TransportRefused("denied"))
    await anyio.sleep(1)
    outage.worked()
    outage.worked()
    outage.failed(TransportUnavailable("away"))
    assert [record.getMessage() for record in caplog.records] == [
        "keys wait (3): away",
        "keys wait (still; 60 in the last 30 s): away",
        "keys wait (11): denied",
        "keys go on",
        "keys wait (1): away",
    ]
