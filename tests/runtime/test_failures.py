"""What becomes of a step that raises: transient, permanent, out of attempts or of time, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import (
    NOTHING,
    Cause,
    Dependency,
    Ended,
    Ending,
    Event,
    Permanent,
    Retry,
    Run,
    Saga,
    Service,
    Start,
    Transient,
)
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from saga.ports import Claim, Store
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)
SLOW = Tuning(fetch_timeout_seconds=5.0, waiting_poll_seconds=20.0, pending_poll_seconds=20.0, beat_seconds=20.0)
SECONDS = timedelta(seconds=20)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Asked(Event, name="desk.asked", version=1):
    """Be a question."""

    name: str


class Opened(Event, name="desk.opened", version=1):
    """Be a file opened for it."""

    name: str


class Answered(Event, name="desk.answered", version=1):
    """Be its answer."""

    name: str


Plays = Callable[[Run, str], None]


def well(run: Run, name: str) -> None:
    """Do nothing wrong."""


@dataclass
class Desk:
    """Hold a desk that opens a file and answers; `answers` and `closes` say what goes wrong."""

    answers: Plays = well
    closes: Plays = well
    kind: str = "pivot"
    outside: Dependency | None = None
    retry: Retry = field(default_factory=Retry)
    undo_retry: Retry = field(default_factory=Retry)
    attempts: int | None = None
    timeout: timedelta = timedelta(hours=10)
    tried: list[float] = field(default_factory=list[float])
    closed: list[float] = field(default_factory=list[float])
    ask: Start[Asked] = field(init=False)
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:
        """Declare hall -> file -> desk."""
        saga = Saga("asking", version=1, timeout=self.timeout, attempts=self.attempts)
        hall, files, desk = map(Service, ("hall", "files", "desk"))
        self.services = [hall, files, desk]
        self.ask = hall.starts(saga, Asked)

        @files.step(saga)
        async def open_file(asked: Asked, run: Run) -> Opened:
            return Opened(name=asked.name)

        @open_file.compensation(retry=self.undo_retry)
        async def close_file(asked: Asked, run: Run) -> None:
            self.closed.append(anyio.current_time())
            self.closes(run, asked.name)

        async def answer(opened: Opened, run: Run) -> Answered:
            self.tried.append(anyio.current_time())
            self.answers(run, opened.name)
            return Answered(name=opened.name)

        match self.kind:
            case "pivot":
                desk.pivot(saga, timeout=SECONDS, retry=self.retry, calls=self.outside)(answer)
            case "retriable":
                # Beside no pivot it must be able to be undone.
                options: Any = {"calls": self.outside, "compensation": NOTHING}
                desk.retriable(saga, timeout=SECONDS, retry=self.retry, **options)(answer)
            case _:
                desk.step(saga, timeout=SECONDS, retry=self.retry, calls=self.outside, compensation=NOTHING)(answer)

    @property
    def pauses(self) -> list[float]:
        """Return the seconds between the attempts."""
        return [after - before for before, after in zip(self.tried, self.tried[1:], strict=False)]


@dataclass
class Office:
    """Be a desk's databases and transport, which outlive its processes."""

    desk: Desk
    store: Store
    coordination: Any
    transport: MemoryTransport

    @asynccontextmanager
    async def process(self, tuning: Tuning = TUNING, partitions: int = 8) -> AsyncGenerator[App]:
        """Run one process of everything."""
        ticks = CoordinatorTuning(tick_seconds=20 * tuning.fetch_timeout_seconds / 5)
        coordinator = Coordinator(store=self.coordination, tuning=ticks)
        app = App(
            self.desk.services,
            coordinator=coordinator,
            store=self.store,
            transport=self.transport,
            tuning=tuning,
            partitions=partitions,
        )
        async with app:
            yield app

    async def attempts(self) -> int:
        """Return how many attempts the answer's run has taken."""
        async with self.store.unit(Claim(service="desk", sagas=())) as unit:
            (row,) = await unit.db.fetch("select attempt from saga_run where step = 'desk.answer'")
            return int(row["attempt"])

    async def status(self) -> str:
        """Return what has become of the answer's run."""
        async with self.store.unit(Claim(service="desk", sagas=())) as unit:
            (row,) = await unit.db.fetch("select status from saga_run where step = 'desk.answer'")
            return str(row["status"])


@asynccontextmanager
async def office(desk: Desk) -> AsyncGenerator[Office]:
    """Open the databases of a desk."""
    address, clock = f"sqlite:///:memory:?name=desk{next(_NUMBERS)}", VirtualClock()
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
        MemoryTransport() as transport,
    ):
        await store.migrate()
        yield Office(desk=desk, store=store, coordination=coordination, transport=transport)


async def asked(desk: Desk, tuning: Tuning = SLOW) -> tuple[Ended, int]:
    """Ask once and return how it ended, and the attempts the answer took."""
    async with office(desk) as here, here.process(tuning):
        handle = await desk.ask(Asked(name="a"))
        ended: Ended = await handle.outcome(timeout_seconds=36_000)
        return ended, await here.attempts()


GATEWAY = [None, Dependency("gateway")]
outside_too = pytest.mark.parametrize("outside", GATEWAY, ids=["local", "external"])


def never(run: Run, name: str) -> None:
    msg = "not yet"
    raise RuntimeError(msg)


# --- permanent -------------------------------------------------------------------------------------------------


@outside_too
async def test_a_permanent_failure_is_tried_once(outside: Dependency | None) -> None:
    def bad(run: Run, name: str) -> None:
        if run.purpose == "act":
            msg = "no such card"
            raise Permanent(msg)

    desk = Desk(answers=bad, outside=outside, kind="step")
    ended, attempts = await asked(desk)
    assert (ended.ending, ended.cause, attempts) == (Ending.COMPENSATED, Cause.FAILED, 1)
    assert "no such card" in ended.detail


@outside_too
async def test_an_exception_the_policy_calls_permanent_is_tried_once(outside: Dependency | None) -> None:
    def bad(run: Run, name: str) -> None:
        if run.purpose == "act":
            int("x")

    desk = Desk(answers=bad, outside=outside, kind="step", retry=Retry(permanent=(ValueError,)))
    ended, attempts = await asked(desk)
    assert (ended.cause, attempts) == (Cause.FAILED, 1)


@outside_too
async def test_a_step_that_must_succeed_is_alarmed_and_waits_with_the_cap(
    outside: Dependency | None, caplog: pytest.LogCaptureFixture
) -> None:
    def twice(run: Run, name: str) -> None:
        if len(desk.tried) < 3:
            msg = "the printer is on fire"
            raise Permanent(msg)

    desk = Desk(
        answers=twice,
        outside=outside,
        kind="retriable",
        retry=Retry(attempts=1, base_seconds=1, cap_seconds=90, window_seconds=1),
    )
    with caplog.at_level(logging.ERROR, "saga"):
        ended, _ = await asked(desk)
    assert ended.ending is Ending.COMPLETED
    assert desk.pauses == pytest.approx([90, 90], abs=21)
    assert len([r for r in caplog.records if "the printer is on fire" in r.getMessage()]) == 2


async def test_a_permanent_failure_of_a_compensation_leaves_the_saga_stuck_at_once() -> None:
    def bad(run: Run, name: str) -> None:
        msg = "the file is lost"
        raise Permanent(msg)

    desk = Desk(answers=never, closes=bad, kind="step", retry=Retry(attempts=1))
    ended, _ = await asked(desk)
    assert (ended.ending, ended.cause, len(desk.closed)) == (Ending.STUCK, Cause.UNDO_FAILED, 1)


# --- the window --------------------------------------------------------------------------------------------------


@outside_too
async def test_attempts_end_with_the_window(outside: Dependency | None) -> None:
    retry = Retry(attempts=999, base_seconds=10, cap_seconds=10, window_seconds=100)
    desk = Desk(answers=never, outside=outside, kind="step", retry=retry)
    ended, attempts = await asked(desk)
    assert (ended.cause, ended.ending) == (Cause.FAILED, Ending.COMPENSATED)
    assert attempts > 5
    assert desk.tried[attempts - 1] - desk.tried[0] == pytest.approx(100, abs=21)


@outside_too
async def test_the_window_goes_on_over_a_crash(outside: Dependency | None) -> None:
    retry = Retry(attempts=999, base_seconds=50, cap_seconds=50, window_seconds=100)
    desk = Desk(answers=never, outside=outside, kind="step", retry=retry)
    async with office(desk) as here:
        async with here.process():
            await desk.ask(Asked(name="a"), key="a")
            await anyio.sleep(5)
        assert desk.tried
        before = len(desk.tried)
        await anyio.sleep(500)
        async with here.process():
            await anyio.sleep(60)
            assert await here.attempts() == before + 1
            assert await here.status() == "failed"


async def test_a_compensation_ends_with_its_window() -> None:
    undo = Retry(attempts=999, base_seconds=10, cap_seconds=10, window_seconds=100)
    desk = Desk(answers=never, closes=never, kind="step", retry=Retry(attempts=1), undo_retry=undo)
    ended, _ = await asked(desk)
    assert ended.ending is Ending.STUCK
    assert desk.closed[-1] - desk.closed[0] == pytest.approx(100, abs=21)


# --- retry after ---------------------------------------------------------------------------------------------------


@outside_too
async def test_nobody_is_asked_again_before_the_time_he_said(outside: Dependency | None) -> None:
    def busy(run: Run, name: str) -> None:
        if len(desk.tried) < 4:
            msg = "busy"
            raise Transient(msg, retry_after_seconds=300)

    desk = Desk(answers=busy, outside=outside)
    ended, _ = await asked(desk)
    assert ended.ending is Ending.COMPLETED
    assert all(300 <= pause < 330 for pause in desk.pauses)
    assert len(desk.pauses) == 3


# --- all attempts of a saga ------------------------------------------------------------------------------------------


async def test_a_saga_that_takes_too_many_attempts_is_undone_and_told_of_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def late(run: Run, name: str) -> None:
        if run.attempt < 7:
            never(run, name)

    desk = Desk(answers=late, kind="step", attempts=8, retry=Retry(attempts=9))
    with caplog.at_level(logging.WARNING, "saga"):
        ended, _ = await asked(desk)
    # Everything has run: an alarm, and it completes.
    assert ended.ending is Ending.COMPLETED
    assert [r.getMessage() for r in caplog.records if "are allowed" in r.getMessage()] == [
        f"saga {ended.saga_id} has taken 9 attempts, 8 are allowed"
    ]


# --- neighbours ------------------------------------------------------------------------------------------------


@outside_too
async def test_a_saga_that_is_tried_for_an_hour_does_not_hold_up_its_partition(outside: Dependency | None) -> None:
    def bad(run: Run, name: str) -> None:
        if name == "bad" and anyio.current_time() < began + 3600:
            never(run, name)

    began = anyio.current_time()
    retry = Retry(attempts=9999, base_seconds=60, cap_seconds=60)
    desk = Desk(answers=bad, outside=outside, retry=retry, kind="pivot")
    async with office(desk) as here, here.process(SLOW, partitions=1):
        slow = await desk.ask(Asked(name="bad"))
        for number in range(20):
            placed = anyio.current_time()
            handle = await desk.ask(Asked(name=f"good {number}"))
            assert (await handle.outcome(timeout_seconds=60)).ending is Ending.COMPLETED
            assert anyio.current_time() - placed < 30
            await anyio.sleep(150)
        assert anyio.current_time() < began + 3600
        assert (await slow.outcome(timeout_seconds=7200)).ending is Ending.COMPLETED
        assert anyio.current_time() > began + 3600
