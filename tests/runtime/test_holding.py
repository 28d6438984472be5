"""What a process holds: leases that are still its own, and rows it gives back as if it had never had them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any, cast

import anyio
import pytest
import trio.testing

from outbox.urls import open_store
from saga import Service
from saga._core.resolve import resolve_all
from saga._core.rows import Changes, RunRow, TakenRun
from saga._core.words import RunStatus
from saga._runtime.beating import Hold
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.pending import PendingWork
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga.ports import Claim, Store
from tests.contracts.loading import loaded
from tests.runtime.world import VirtualClock

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
ID = ("s", "payment.pay", "")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Calls:
    """Be a caller that knows some plans, and remembers what it was to perform."""

    known: bool = True
    made: list[RunRow] = field(default_factory=list[RunRow])

    def knows(self, _run: RunRow) -> bool:
        return self.known

    async def perform(self, hold: Hold) -> None:
        self.made.append(hold.run)


@dataclass
class Desk:
    """Hold one service's outside work over a database of its own."""

    store: Store
    context: ServiceContext
    pending: PendingWork
    calls: Calls

    async def put(self, change: Callable[[RunRow], RunRow] = lambda row: row) -> RunRow:
        """Store an intent that `change` has leased, and return it as it is stored."""
        claim = Claim(service="payment", sagas=("s",))
        async with self.store.unit(claim) as unit:
            now = (await unit.read(("s",), ())).now
            row = change(_intent(now))
            await unit.write(Changes(insert_runs=(row,)))
        return await self.row()

    async def row(self) -> RunRow:
        """Return the row as it is stored."""
        row = await loaded(self.store, ID)
        assert row is not None
        return row


def _intent(now: Any) -> RunRow:
    later = now + timedelta(days=1)
    return RunRow(
        saga_id="s",
        step="payment.pay",
        plan="p",
        status=RunStatus.INTENT,
        pending_at=now,
        expires_at=later,
        created_at=now,
    )


@asynccontextmanager
async def desk(calls: Calls) -> AsyncGenerator[Desk]:
    """Open one."""
    async with open_store(f"sqlite:///:memory:?name=desk{next(_NUMBERS)}", clock=VirtualClock()) as store:
        await store.migrate()
        (definition,) = resolve_all([Service("payment")])
        context = ServiceContext(
            definition=definition,
            store=store,
            hand_over=lambda _rows: None,
            expect=lambda _rows: None,
            plans=PlanBook(),
            tracer=NullTracer(),
            rng=Random(1),
            owner="me",
            tuning=Tuning(pending_poll_seconds=1.0),
        )
        pending = PendingWork(context)
        cast("Any", pending)._caller = calls
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pending.run)
            await anyio.sleep(0.1)
            yield Desk(store=store, context=context, pending=pending, calls=calls)
            tasks.cancel_scope.cancel()


async def test_an_intent_is_leased_and_its_call_written_down_before_it_is_made() -> None:
    async with desk(Calls()) as here:
        row = await here.put(lambda row: here.pending.intent(row, row.created_at))
        assert (row.owner, row.called_at, row.first_called_at) == ("me", row.created_at, row.created_at)
        assert row.pending_at == row.created_at + timedelta(seconds=here.context.lease_seconds)
        here.pending.take_on(row)
        await anyio.sleep(0.5)
        assert here.calls.made == [row]


async def test_what_could_not_start_is_given_back_as_if_nobody_had_had_it() -> None:
    async with desk(Calls()) as here:
        row = await here.put(lambda row: here.pending.intent(row, row.created_at))
        cast("Any", here.pending)._draining = True
        await anyio.sleep(8)  # the promise is no longer kept
        here.pending.take_on(row)
        await anyio.sleep(0.5)
        given_back = await here.row()
        assert (given_back.owner, given_back.called_at, given_back.first_called_at) == ("", None, None)
        assert here.calls.made == []


async def test_a_process_that_stood_still_does_not_call_what_may_be_somebody_elses() -> None:
    async with desk(Calls()) as here:
        row = await here.put(lambda row: here.pending.intent(row, row.created_at))
        hold = Hold(TakenRun(run=row), anyio.current_time() - here.context.lease_seconds)
        await cast("Any", here.pending)._work(hold)
        assert here.calls.made == []
        assert here.context.counts["lost"] == 1


async def test_a_run_whose_plan_is_not_known_here_is_left_to_others_and_is_in_no_doubt() -> None:
    async with desk(Calls(known=False)) as here:
        await here.put()
        await anyio.sleep(2)
        row = await here.row()
        assert (row.owner, row.called_at, here.calls.made) == ("", None, [])
        assert row.pending_at is not None
        assert row.pending_at > row.created_at + timedelta(seconds=here.context.lease_seconds - 1)
        assert here.context.counts["pending_parked"] == 1


async def test_who_takes_a_run_again_cancels_the_call_it_still_makes() -> None:
    async with desk(Calls()) as here:
        row = await here.put(lambda row: here.pending.intent(row, row.created_at))
        heart = cast("Any", here.pending)._heart
        zombie, fresh = (Hold(TakenRun(run=each), anyio.current_time()) for each in (row, _again(row)))
        heart.hold(zombie)
        heart.hold(fresh)
        assert (zombie.lost, fresh.lost) == (True, False)
        assert zombie.call.cancel_called


def _again(row: RunRow) -> RunRow:
    return replace(row, revision=row.revision + 1)
