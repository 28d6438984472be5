"""Outside calls under way outlive a database that is away for a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

import anyio
import pytest

from saga import Service
from saga._core.resolve import resolve_all
from saga._core.rows import RunRow, TakenRun
from saga._core.words import RunStatus
from saga._runtime.beating import Hold
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.pending import PendingWork
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga.errors import StoreUnavailable
from saga.ports import ParticipantStore

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Away:
    """Be a store that cannot be reached when it is looked through for work."""

    def __init__(self) -> None:
        self.asked = 0
        self.asked_thrice = anyio.Event()

    async def take_runs(self, *_: object) -> Sequence[TakenRun]:
        self.asked += 1
        if self.asked >= 3:
            self.asked_thrice.set()
        raise StoreUnavailable("away")


class Slow:
    """Be a call that takes until it is let go."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.ended = anyio.Event()

    def knows(self, _run: RunRow) -> bool:
        return True

    async def perform(self, _hold: Hold) -> None:
        await self.go.wait()
        self.ended.set()


async def test_calls_go_on_while_the_database_is_away() -> None:
    store, slow = Away(), Slow()
    (definition,) = resolve_all([Service("payment")])
    context = ServiceContext(
        definition=definition,
        store=cast("ParticipantStore", store),
        hand_over=lambda _rows: None,
        expect=lambda _rows: None,
        plans=PlanBook(),
        tracer=NullTracer(),
        rng=Random(1),
        owner="me",
        tuning=Tuning(pending_poll_seconds=0.02),
    )
    pending = PendingWork(context)
    cast("Any", pending)._caller = slow
    run = RunRow(
        saga_id="s", step="payment.pay", plan="p", status=RunStatus.INTENT, expires_at=NOW, created_at=NOW, revision=1
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pending.run)
        await anyio.lowlevel.checkpoint()
        pending.take_on(run)
        with anyio.fail_after(5):
            await store.asked_thrice.wait()
            slow.go.set()
            await slow.ended.wait()
        tasks.cancel_scope.cancel()
