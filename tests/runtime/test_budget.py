"""A saga's deadline as handlers see it, and steps that are not worth starting any more, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import Cause, Dependency, Ended, Ending, Event, Retry, Run, Saga, Service, Start, Transient, TurnDown
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from tests.runtime.world import EPOCH, VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
TUNING = Tuning(fetch_timeout_seconds=1.0, commit_every_seconds=0.0)
PRINT_SECONDS = 20.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Wanted(Event, name="print.wanted", version=1):
    """Be a wish."""

    late: bool = False


class Booked(Event, name="print.booked", version=1):
    """Be paper put aside."""


class Printed(Event, name="print.printed", version=1):
    """Be ink on paper."""


class Sent(Event, name="print.sent", version=1):
    """Be gone."""


@dataclass
class Press:
    """Hold a press whose pivot takes 20 s; `late` wishes get their paper only 85 s after they asked."""

    turn_down: TurnDown
    booked: list[int] = field(default_factory=list[int])
    deadlines: dict[str, datetime | None] = field(default_factory=dict[str, "datetime | None"])
    want: Start[Wanted] = field(init=False)
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:
        """Declare hall -> paper -> press -> post."""
        saga = Saga("printing", version=1, timeout=timedelta(seconds=100), turn_down=self.turn_down)
        hall, paper, press, post = map(Service, ("hall", "paper", "press", "post"))
        self.services = [hall, paper, press, post]
        self.want = hall.starts(saga, Wanted)

        @paper.step(saga, retry=Retry(attempts=3))
        async def book(wanted: Wanted, run: Run) -> Booked:
            self._see(run)
            self.booked.append(run.attempt)
            if wanted.late and run.attempt == 1:
                msg = "no paper"
                raise Transient(msg, retry_after_seconds=85)
            return Booked()

        @book.compensation
        async def give_back(booked: Booked, run: Run) -> None:
            self._see(run, "give_back")

        @press.pivot(saga, calls=Dependency("press", concurrency=64))
        async def ink(booked: Booked, run: Run) -> Printed:
            self._see(run)
            await anyio.sleep(PRINT_SECONDS)
            return Printed()

        @post.retriable(saga)
        async def send(printed: Printed, run: Run) -> Sent:
            self._see(run)
            return Sent()

    def _see(self, run: Run, name: str = "") -> None:
        self.deadlines[name or run.step.partition(".")[2]] = run.deadline


@asynccontextmanager
async def running(press: Press) -> AsyncGenerator[None]:
    """Run everything in one process."""
    address, clock = f"sqlite:///:memory:?name=press{next(_NUMBERS)}", VirtualClock()
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
        MemoryTransport() as transport,
        App(
            press.services,
            store=store,
            coordinator=Coordinator(store=coordination, tuning=CoordinatorTuning(tick_seconds=1.0)),
            transport=transport,
            tuning=TUNING,
        ),
    ):
        yield


async def wanted(press: Press, number: int = 1, *, late: bool = False) -> list[Ended]:
    """Want so many at once and return how they ended."""
    handles = [await press.want(Wanted(late=late)) for _ in range(number)]
    return [await handle.outcome(timeout_seconds=1000) for handle in handles]


async def test_handlers_see_the_deadline_until_the_pivot_has_run() -> None:
    press = Press(TurnDown.NEVER)
    async with running(press):
        began = EPOCH + timedelta(seconds=anyio.current_time())
        (end,) = await wanted(press)
    assert end.ending is Ending.COMPLETED
    deadline = press.deadlines["book"]
    assert deadline is not None
    assert deadline - began == pytest.approx(timedelta(seconds=100), abs=timedelta(seconds=1))
    assert press.deadlines == {"book": deadline, "ink": deadline, "send": None}


async def test_a_step_that_comes_too_late_is_turned_down() -> None:
    press = Press(TurnDown.EARLY)
    async with running(press):
        ends = await wanted(press, 20)
        assert {end.ending for end in ends} == {Ending.COMPLETED}
        await anyio.sleep(61)
        press.booked.clear()
        (end,) = await wanted(press, late=True)
        assert (end.ending, end.cause) == (Ending.COMPENSATED, Cause.FAILED)
        assert "turned down early: the remaining path takes about 20" in end.detail
        assert press.booked == [1], "its second attempt is not made"
        assert "give_back" not in press.deadlines
        # What has been learned grows old: then it is tried again.
        await anyio.sleep(900)
        press.booked.clear()
        await wanted(press, late=True)
        assert press.booked == [1, 2]


async def test_without_a_wish_or_a_history_nothing_is_turned_down() -> None:
    for press, taught in ((Press(TurnDown.NEVER), 20), (Press(TurnDown.EARLY), 3)):
        async with running(press):
            await wanted(press, taught)
            await anyio.sleep(61)
            press.booked.clear()
            await wanted(press, late=True)
            assert press.booked == [1, 2]
