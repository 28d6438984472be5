"""Declare the saga and its two services: money is set aside, a person answers, or time runs out."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from saga import NOTHING, Ended, Event, Refusal, Run, Saga, Service

WITHIN = timedelta(seconds=float(os.environ.get("APPROVAL_WITHIN_SECONDS", "600")))
"""How long a person may take: days in earnest, ten minutes here. It is part of the plan, the same in every process."""

SHORT = timedelta(seconds=5)

travel = Saga("travel", version=1, timeout=WITHIN + timedelta(minutes=5))

desk = Service("desk", migrations=Path(__file__).parent / "migrations" / "desk")
budget = Service("budget", migrations=Path(__file__).parent / "migrations" / "budget")
SERVICES = (desk, budget)

YEAR = 2026


class Requested(Event, name="travel.requested", version=1):
    id: str
    who: str
    amount: int


class SetAside(Event, name="travel.set-aside", version=1):
    id: str
    amount: int


class NoMoney(Refusal, name="travel.no-money", version=1): ...


class Answered(Event, name="travel.answered", version=1):
    yes: bool
    by: str


class Granted(Event, name="travel.granted", version=1):
    id: str
    by: str


class Denied(Refusal, name="travel.denied", version=1):
    by: str


request = desk.starts(travel, Requested)
answer = desk.receives(travel, Answered)


@desk.retriable(travel, timeout=SHORT, compensation=NOTHING)
async def file(requested: Requested, run: Run) -> None:
    """Show the request while its saga runs; there is nothing to undo, as `close` has the last word."""
    await run.db.execute(
        "insert into request (id, who, amount, state, reason) values ($1, $2, $3, 'open', '') on conflict do nothing",
        requested.id,
        requested.who,
        requested.amount,
    )


@budget.step(travel, timeout=SHORT)
async def set_aside(requested: Requested, run: Run) -> SetAside | NoMoney:
    found = await run.db.fetch_one(
        "update budget set free = free - $1 where year = $2 and free >= $1 returning free", requested.amount, YEAR
    )
    return SetAside(id=requested.id, amount=requested.amount) if found else NoMoney()


@set_aside.compensation
async def give_back(set_aside: SetAside, run: Run) -> None:
    await run.db.execute("update budget set free = free + $1 where year = $2", set_aside.amount, YEAR)


@budget.join(travel, within=WITHIN, timeout=SHORT, compensation=NOTHING)
async def decide(set_aside: SetAside, answered: Answered, run: Run) -> Granted | Denied:
    """Wait for the person; the clock of `within` runs from the moment the money was set aside."""
    del run
    return Granted(id=set_aside.id, by=answered.by) if answered.yes else Denied(by=answered.by)


@desk.on_end(travel)
async def close(end: Ended, run: Run) -> None:
    assert isinstance(end.start, Requested)
    await run.db.execute(
        "insert into request (id, who, amount, state, reason) values ($1, $2, $3, $4, $5) "
        "on conflict (id) do update set state = excluded.state, reason = excluded.reason",
        end.start.id,
        end.start.who,
        end.start.amount,
        end.ending.value,
        reason_of(end),
    )


def reason_of(end: Ended) -> str:
    """Say in one line why there will be no journey; empty when there will."""
    if denied := end.refused_with(Denied):
        return f"{denied.by} said no"
    if end.refusal_type == NoMoney.wire_type:
        return "there is no money left"
    return f"nobody answered: {end.detail}" if end.cause else ""
