"""Wait for plans that nobody publishes, in virtual time."""

from __future__ import annotations

import logging

import pytest
import trio.testing

from saga import PlanError
from saga._core.resolve import resolve_all
from saga._runtime.planbook import PlanBook, wait_for_plans
from tests.runtime.world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_whoever_waits_for_plans_says_again_what_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="saga")
    with pytest.raises(PlanError):
        await wait_for_plans(PlanBook(resolve_all(World().services)), 35.0)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("waiting up to 35 s for plans")
    assert len(said) == 4
    assert all(each.startswith("still waiting for plans") for each in said[1:])
    assert "inventory: no plan published for checkout.v1" in said[1]
