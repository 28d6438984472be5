"""Hold what a timer grants to calls one after another."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from saga._runtime.clock import LATE_SECONDS, Timer, loop_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_clock_is_the_loops() -> None:
    before = anyio.current_time()
    assert before <= loop_clock()() <= anyio.current_time()


@pytest.mark.parametrize(("seconds", "late"), [(0.5, 0.05), (10.0, LATE_SECONDS)])
async def test_a_call_is_ended_once_its_time_is_up_and_at_most_a_little_later(seconds: float, late: float) -> None:
    timer = Timer()
    began = anyio.current_time()
    with timer.scope:
        timer.wind(seconds)
        await anyio.sleep_forever()
    assert timer.scope.cancelled_caught
    assert anyio.current_time() - began == pytest.approx(seconds + late)


async def test_every_call_has_its_whole_time() -> None:
    timer = Timer()
    with timer.scope:
        for _ in range(50):
            timer.wind(1.0)
            await anyio.sleep(0.99)
    assert not timer.scope.cancelled_caught


async def test_a_deadline_stays_as_long_as_it_is_neither_too_early_nor_much_too_late() -> None:
    timer = Timer()
    with timer.scope:
        timer.wind(10.0)
        first = timer.scope.deadline
        await anyio.sleep(0.05)
        timer.wind(10.0)
        assert timer.scope.deadline == first
        timer.wind(1.0)
        assert timer.scope.deadline == pytest.approx(anyio.current_time() + 1.1)
        timer.wind(10.0)
        assert timer.scope.deadline > first


async def test_between_calls_there_is_no_deadline() -> None:
    timer = Timer()
    with timer.scope:
        timer.wind(1.0)
        timer.rest()
        await anyio.sleep(60)
    assert not timer.scope.cancelled_caught
    timer = Timer()
    with timer.scope:
        timer.wind(1.0)
        timer.rest()
        timer.wind(1.0)
        await anyio.sleep_forever()
    assert timer.scope.cancelled_caught
