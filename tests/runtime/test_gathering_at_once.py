"""Let the last two events of a join come to two replicas at once: both have read before either has written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import anyio
import pytest

from outbox.postgres import PostgresSettings, PostgresStore
from outbox.postgres.unit import PostgresUnit
from saga import NOTHING, Event, Run, Saga, Service
from saga._core.cloudevents import message
from saga._core.envelope import Delivery, Envelope
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.rows import Snapshot
from saga._core.words import Kind
from saga._runtime.context import ServiceContext
from saga._runtime.participant import Participant
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga.ports import Claim

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)
NOW = datetime.now(UTC)


class Made(Event, name="order.made", version=1):
    parcels: int


class Packed(Event, name="parcel.packed", version=1):
    number: int


class Yard:
    """Declare a depot that fans out and a truck that gathers, and remember what was loaded."""

    def __init__(self) -> None:
        saga = Saga("yard", version=1)
        shop, depot, truck = map(Service, ("shop", "depot", "truck"))
        self.services = (shop, depot, truck)
        self.loaded: list[list[int]] = []
        shop.starts(saga, Made)

        @depot.step(saga, compensation=NOTHING)
        async def pack(order: Made, run: Run) -> list[Packed]:
            return [Packed(number=number) for number in range(order.parcels)]

        @truck.join(saga, compensation=NOTHING)
        async def load(parcels: list[Packed], run: Run) -> None:
            self.loaded.append([parcel.number for parcel in parcels])


class Replicas:
    """Be two replicas of the truck on one database."""

    def __init__(self, yard: Yard, stores: Sequence[PostgresStore]) -> None:
        definitions = resolve_all(yard.services)
        self.plan = build_plan("yard", 1, [manifest_of(definition) for definition in definitions])
        book = PlanBook(definitions)
        book.learn(self.plan)
        self.contexts = [
            ServiceContext(
                definition=next(definition for definition in definitions if definition.name == "truck"),
                store=store,
                hand_over=lambda _rows: None,
                expect=lambda _rows: None,
                plans=book,
                tracer=NullTracer(),
                rng=Random(1),
                owner=f"replica {number}",
            )
            for number, store in enumerate(stores)
        ]
        self.participants = [Participant(context, cast("Any", None), "0") for context in self.contexts]

    async def handle(self, replica: int, number: int, count: int) -> None:
        """Let a replica handle the event of one branch."""
        envelope = Envelope(
            id=str(number),
            source="/saga/depot",
            type=Packed.wire_type,
            kind=Kind.EVENT,
            time=NOW,
            payload=b'{"number":%d}' % number,
            saga_id="s1",
            plan=self.plan.hash,
            step="depot.pack",
            branch=f"{number}of{count}",
            expires_at=NOW + timedelta(days=1),
        )
        sent = message(envelope, "depot.events", "s1")
        raw = Delivery(
            topic=sent.topic, partition=0, offset=number, key=sent.key, value=sent.value, headers=sent.headers
        )
        await self.participants[replica].handle([(raw, None)])


@pytest.mark.parametrize("count", [2, 3])
async def test_two_replicas_gather_into_one_row(count: int, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = Yard()
    read = PostgresUnit.read
    met: list[None] = []
    both = anyio.Event()

    async def read_and_meet(unit: PostgresUnit, *wanted: Any) -> Snapshot:
        found = await read(unit, *wanted)
        met.append(None)
        if len(met) == count:
            both.set()
        if len(met) > count - 2:
            with anyio.fail_after(30):
                await both.wait()
        return found

    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(PostgresStore(database, settings=SMALL)) for _ in range(2)]
        await stores[0].migrate()
        there = Replicas(yard, stores)
        monkeypatch.setattr(PostgresUnit, "read", read_and_meet)
        for number in range(1, count - 1):
            await there.handle(0, number, count)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(there.handle, 0, count - 1, count)
            tasks.start_soon(there.handle, 1, count, count)
        async with stores[0].unit(Claim(service="truck", sagas=())) as unit:
            rows = await unit.db.fetch("select status from saga_run")
    assert yard.loaded == [list(range(1, count + 1))]
    assert [row["status"] for row in rows] == ["done"]
    assert len(met) > count, "one of the two has read again"
