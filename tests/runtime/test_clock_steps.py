"""Let the database's clock step back: nothing that waits for its time may be lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from trio.testing import MockClock

from saga import NOTHING, Ending, Event, Retry, Run, Saga, Service, Start
from saga.app import Tuning
from tests.runtime import world as worlds
from tests.runtime.world import VirtualClock, World, running

pytestmark = pytest.mark.anyio

TUNING = Tuning(fetch_timeout_seconds=5, waiting_poll_seconds=5, pending_poll_seconds=5, commit_every_seconds=0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Rung(Event, name="bell.rung", version=1):
    """Be rung."""


class Heard(Event, name="bell.heard", version=1):
    """Be heard."""


class SteppingClock(VirtualClock):
    """Tell the loop's time, and how far somebody has put it back."""

    back = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return super().now() - SteppingClock.back


@dataclass
class Bell:
    """Declare a step that waits a minute and fails the first time, with the clock put back by an hour."""

    attempts: list[int] = field(default_factory=list[int])
    services: list[Service] = field(init=False)
    ring: Start[Rung] = field(init=False)

    def __post_init__(self) -> None:
        saga = Saga("bell", version=1, timeout=timedelta(hours=10))
        tower, town = map(Service, ("tower", "town"))
        self.services = [tower, town]
        self.ring = tower.starts(saga, Rung)

        @town.step(saga, delay=timedelta(minutes=1), compensation=NOTHING, retry=Retry(base_seconds=0.1))
        async def hear(rung: Rung, run: Run) -> Heard:
            self.attempts.append(run.attempt)
            if len(self.attempts) == 1:
                SteppingClock.back = timedelta(hours=1)
                msg = "the wind"
                raise RuntimeError(msg)
            return Heard()


async def test_a_clock_that_steps_back_while_a_step_fails_loses_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "VirtualClock", SteppingClock)
    monkeypatch.setattr(SteppingClock, "back", timedelta())
    bell = Bell()
    async with running(cast("World", bell), tuning=TUNING):
        handle = await bell.ring(Rung())
        assert (await handle.outcome(timeout_seconds=4 * 3600)).ending is Ending.COMPLETED
    assert len(bell.attempts) == 2
