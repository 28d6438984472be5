"""Declare a race of any shape with this project: how many runners, what an event carries, what a runner does.

`programs.product` shows how one is written down by hand; here the services are made in a loop so that one case differs
from another by a number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from saga import Event, Refusal, Run, Saga, Service
from tests.benchmarks.place import Shape
from tests.benchmarks.programs.by_hand import RUNNERS

RUN = "insert into lap (number, runner) values ($1, $2)"
UNDO = "delete from lap where number = $1 and runner = $2"
HEAT = "update hot set laps = laps + 1 where runner = $1 and id = $2"
HOT = (
    "create table hot (runner text, id integer, laps bigint not null, primary key (runner, id)) with (fillfactor = 50)"
)
FILL_HOT = "insert into hot select r, n, 0 from unnest($1::text[]) r, generate_series(0, $2::integer - 1) n"
SPREAD = 2_654_435_761
"""A multiplier that spreads neighbouring numbers over all rows."""
REFUSED_OF = 20


class Refusing(StrEnum):
    """Say whether the last runner refuses one saga of twenty, before its lap or after it."""

    NEVER = "never"
    BEFORE = "before"
    AFTER = "after"


class Passed(Event, name="race.passed", version=1):
    number: int
    note: str = ""


def _event(name: str) -> type[Passed]:
    return type(name.title(), (Passed,), {"__module__": __name__}, name=f"race.{name}", version=1)


class Stumbled(Refusal, name="race.stumbled", version=1):
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Be the services of a race, and what starts one."""

    services: Sequence[Service]
    start: Any
    started: type[Passed]


def race_of(
    shape: Shape,
    *,
    hot_rows: int = 0,
    refusing: Refusing = Refusing.NEVER,
    delay_seconds: float = 0.0,
    timeout_seconds: float = 300.0,
) -> Race:
    """Declare a race of as many services as it has runners; the last of them waits for `delay_seconds`."""
    saga = Saga("relay-race", version=1, timeout=timedelta(seconds=timeout_seconds))
    services = [Service(runner) for runner in RUNNERS[: shape.steps]]
    events = [_event(name) for name in ("started", *RUNNERS[: shape.steps])]
    for service, takes, emits in zip(services, events[:-1], events[1:], strict=True):
        last = service is services[-1]
        options: Any = {"delay": timedelta(seconds=delay_seconds)} if last and delay_seconds else {}
        _declare(saga, service, takes, emits, hot_rows, refusing if last else Refusing.NEVER, options)
    return Race(services=services, start=services[0].starts(saga, events[0]), started=events[0])


def _declare(
    saga: Saga,
    service: Service,
    takes: type[Passed],
    emits: type[Passed],
    hot_rows: int,
    refusing: Refusing,
    options: Any,
) -> None:
    runner = service.name

    async def lap(number: int, run: Run) -> None:
        if hot_rows:
            await run.db.execute(HEAT, runner, number * SPREAD % hot_rows)
        else:
            await run.db.execute(RUN, number, runner)

    async def take_lap(event: Passed, run: Run) -> Passed | Stumbled:
        stumbles = refusing is not Refusing.NEVER and event.number % REFUSED_OF == 0
        if stumbles and refusing is Refusing.BEFORE:
            return Stumbled(number=event.number)
        await lap(event.number, run)
        return Stumbled(number=event.number) if stumbles else emits(number=event.number, note=event.note)

    async def undo_lap(event: Passed, run: Run) -> None:
        await run.db.execute(UNDO, event.number, runner)

    returns: Any = emits if refusing is Refusing.NEVER else emits | Stumbled
    step = service.step(saga, **options)(_annotated(take_lap, {"event": takes, "run": Run, "return": returns}))
    step.compensation(_annotated(undo_lap, {"event": emits, "run": Run, "return": type(None)}))


def _annotated(handler: Callable[..., Awaitable[Any]], hints: dict[str, Any]) -> Any:
    handler.__annotations__ = hints
    return handler
