"""Handle deliveries that wait as rows: one row a step, kept until its step is done, and counted once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, cast

import pytest
import trio
import trio.testing

from outbox.urls import open_store
from saga import Run
from saga._core.bodies import Close
from saga._core.cloudevents import message
from saga._core.emit import About, command
from saga._core.envelope import Delivery, Envelope, Message
from saga._core.manifest import manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan
from saga._core.relay import messages_of
from saga._core.resolve import resolve_all
from saga._core.rows import Changes, DeliveryRow, GateRow
from saga._core.words import GateState, Kind, Reason
from saga._runtime.context import ServiceContext
from saga._runtime.participant import Participant
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga.ports import Claim, Store
from tests.runtime.test_review import Twins, down, fine
from tests.runtime.world import EPOCH, VirtualClock

pytestmark = pytest.mark.anyio

OFFICE = Claim(service="office", sagas=("s1",))
NOW = EPOCH
STEPS = ["office.bill", "office.mail"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def delivered(sent: Message) -> Delivery:
    """Return a message as it comes from the log."""
    return Delivery(topic=sent.topic, partition=0, offset=0, key=sent.key, value=sent.value, headers=sent.headers)


@dataclass
class Office:
    """Be the service of two steps that react to one event, and what it keeps."""

    store: Store
    twins: Twins
    plan: Plan
    book: PlanBook
    context: ServiceContext
    participant: Participant

    @property
    def event(self) -> Delivery:
        """Return the event both steps react to."""
        envelope = Envelope(
            id="1",
            source="/saga/desk",
            type="review.asked.v1",
            kind=Kind.EVENT,
            time=NOW,
            payload=b'{"order":"1"}',
            saga_id="s1",
            plan=self.plan.hash,
            step=self.plan.start,
            expires_at=NOW + timedelta(days=1),
        )
        return delivered(message(envelope, "desk.events", "s1"))

    async def write(self, **changes: Any) -> None:
        """Store rows."""
        async with self.store.unit(OFFICE) as unit:
            await unit.write(Changes(**changes))

    async def put(self, **changes: Any) -> DeliveryRow:
        """Store a retry row of office.mail and take it."""
        row = DeliveryRow(
            service="office",
            saga_id="s1",
            due_at=NOW,
            reason=Reason.RETRY,
            attempt=3,
            step="office.mail",
            message_id="1",
            raw=self.event,
        )
        await self.write(insert_deliveries=(replace(row, **changes),))
        (taken,) = await self.store.take_deliveries("office", 10, 60)
        return taken

    async def close(self) -> None:
        """Begin to close the gate."""
        gate = GateRow(
            saga_id="s1",
            service="office",
            plan=self.plan.hash,
            state=GateState.CLOSING,
            expires_at=NOW + timedelta(days=1),
        )
        await self.write(gates=(gate,))

    async def rows(self, sql: str = "select * from saga_delivery order by step") -> list[Any]:
        """Return what is stored."""
        async with self.store.unit(OFFICE) as unit:
            return await unit.db.fetch(sql)


@asynccontextmanager
async def office(name: str, *, knows: bool = True) -> AsyncGenerator[Office]:
    """Open the office on a database of its own."""
    twins = Twins()
    twins.mailing = twins.billing = fine
    async with open_store(f"sqlite:///:memory:?name={name}", clock=VirtualClock()) as store:
        await store.migrate()
        definitions = resolve_all(twins.services)
        plan = build_plan("twins", 1, [manifest_of(d) for d in definitions])
        book = PlanBook(definitions)
        if knows:
            book.learn(plan)
        context = ServiceContext(
            definition=next(d for d in definitions if d.name == "office"),
            store=store,
            hand_over=lambda _rows: None,
            expect=lambda _rows: None,
            plans=book,
            tracer=NullTracer(),
            rng=Random(1),
            owner="me",
        )
        yield Office(store, twins, plan, book, context, Participant(context, cast("Any", None), "0"))


async def test_a_held_row_keeps_its_count_and_its_id() -> None:
    async with office("waiting1") as there:
        await there.close()
        row = await there.put()
        await there.participant.handle([(row.raw, row)])
        (held,) = await there.rows()
    assert (held["id"], held["reason"], held["attempt"]) == (row.id, "held", 3)


async def test_a_retried_row_is_the_same_row() -> None:
    async with office("waiting2") as there:
        there.twins.mailing = down
        row = await there.put()
        await there.participant.handle([(row.raw, row)])
        (again,) = await there.rows()
    assert (again["id"], again["reason"], again["attempt"]) == (row.id, "retry", 4)


async def test_a_parked_row_keeps_its_count_and_its_step_and_is_timed_by_the_database() -> None:
    async with office("waiting3", knows=False) as there:
        row = await there.put()
        await there.participant.handle([(row.raw, row)])
        (parked,) = await there.rows()
        assert (parked["reason"], parked["attempt"], parked["step"]) == ("parked", 3, "office.mail")
        there.book.learn(there.plan)
        assert await there.store.take_deliveries("office", 10, 60) == []
        await trio.sleep(there.context.tuning.parked_seconds + 1)
        (row,) = await there.store.take_deliveries("office", 10, 60)
        attempts: list[int] = []

        async def mail(run: Run) -> None:
            attempts.append(run.attempt)

        there.twins.mailing = mail
        there.twins.billing = down
        await there.participant.handle([(row.raw, row)])
        assert await there.rows() == []
        assert [run["step"] for run in await there.rows("select step from saga_run")] == ["office.mail"]
    assert attempts == [4]


async def test_a_parked_delivery_becomes_one_row_for_each_step() -> None:
    async with office("waiting4") as there:
        row = await there.put(reason=Reason.PARKED, step="", attempt=0)
        await there.participant.handle([(row.raw, row)])
        rows = await there.rows()
        assert [(r["step"], r["reason"], r["attempt"], r["message_id"]) for r in rows] == [
            (step, "retry", 0, "1") for step in STEPS
        ]
        taken = await there.store.take_deliveries("office", 10, 60)
        await there.participant.handle([(row.raw, row) for row in taken])
        assert await there.rows() == []
        assert [run["step"] for run in await there.rows("select step from saga_run order by step")] == STEPS


async def test_a_delivery_that_comes_twice_waits_once_for_each_step() -> None:
    async with office("waiting5") as there:
        await there.close()
        await there.participant.handle([(there.event, None), (there.event, None)])
        await there.participant.handle([(there.event, None)])
        assert [row["step"] for row in await there.rows()] == STEPS


@pytest.mark.parametrize("fails", [False, True])
async def test_an_item_whose_row_is_gone_is_dropped(*, fails: bool) -> None:
    async with office(f"waiting6{fails}") as there:
        if fails:
            there.twins.mailing = down
        row = await there.put()
        await there.write(delete_deliveries=(row.id,))
        bill = await there.put(step="office.bill")
        await there.participant.handle([(row.raw, row), (bill.raw, bill)])
        assert await there.rows() == []
        assert [run["step"] for run in await there.rows("select step from saga_run")] == ["office.bill"]
    assert there.context.counts["dropped"] == 1


async def test_a_command_whose_row_is_gone_is_dropped() -> None:
    async with office("waiting7") as there:
        sent = command(
            Close(),
            service="office",
            about=About(
                saga_id="s1",
                plan=there.plan.hash,
                tenant="",
                expires_at=NOW + timedelta(days=1),
                now=NOW,
                traceparent="",
            ),
        )
        raw = delivered(messages_of(sent)[0])
        row = await there.put(reason=Reason.PARKED, step="", message_id=sent.id, raw=raw)
        await there.write(delete_deliveries=(row.id,))
        await there.participant.handle([(row.raw, row)])
        assert await there.rows("select * from saga_gate") == []
        assert await there.rows() == []
