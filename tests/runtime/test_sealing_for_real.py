"""Seal what sagas carry on PostgreSQL and Kafka: no version of any row and no message has ever held it in clear."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import anyio
import pytest

from outbox.urls import open_coordination_store, open_store
from saga import Ended, Ending
from saga.app import Tuning
from saga.errors import OutcomePending
from saga.ports import Claim, GroupSpec, Store, TopicPartition, Transport
from saga.sealing import MemoryKeys
from tests.runtime.sealing_world import CANARY, Ordered, Shop, open_shop, until
from tests.testbed.services import Kafka
from transports import open_transport

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres]

TABLES = ("saga_run", "saga_outbox", "saga_delivery", "saga_instance", "saga_gate", "saga_audit", "saga_inbox")
SERVICES = ("shop", "stock", "office")
KINDS = ("events", "events.urgent", "commands", "commands.urgent")
TOPICS = (
    *(f"{service}.{kind}" for service in SERVICES for kind in KINDS),
    "saga.runs",
    "saga.outcomes",
    "saga.outcomes.urgent",
)


async def watch_tables(store: Store) -> None:
    """Let the database remember every version of every row that is stored from now on."""
    async with store.unit(Claim(service="shop", sagas=())) as unit:
        await unit.db.execute("create table seen (line text)")
        await unit.db.execute(
            "create function see() returns trigger language plpgsql as "
            "$$begin insert into seen values (tg_table_name || ' ' || new::text); return null; end$$"
        )
        for table in TABLES:
            await unit.db.execute(
                f"create trigger seeing after insert or update on {table} for each row execute function see()"
            )


async def rows_seen(store: Store) -> str:
    """Return all of that."""
    async with store.unit(Claim(service="shop", sagas=())) as unit:
        return "\n".join(row["line"] for row in await unit.db.fetch("select line from seen"))


async def everything_on(transport: Transport) -> bytes:
    """Return what is on all topics, read by somebody who opens nothing."""
    found: list[bytes] = []

    async def assigned(places: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        del places
        return {}

    async def revoked(places: frozenset[TopicPartition]) -> None:
        del places

    group = GroupSpec(name=f"reader-{uuid4().hex[:6]}", slot="0", topics=TOPICS)
    with anyio.fail_after(60):
        async with transport.subscribe(group, on_assigned=assigned, on_revoked=revoked) as reading:
            behind = True
            while behind:
                for delivery in await reading.fetch(500, 1.0):
                    found += [delivery.key or b"", delivery.value or b"", *(value for _, value in delivery.headers)]
                ends, at = await reading.end_offsets(), reading.positions()
                behind = not ends or any(at.get(place, 0) < end for place, end in ends.items())
    return b"\n".join(found)


def is_clear(text: str | bytes) -> bool:
    """Return whether the canary can be read, as it is or in PostgreSQL's hexadecimal."""
    data = text.encode() if isinstance(text, str) else text
    return CANARY.encode() in data or CANARY.encode().hex().encode() in data


async def test_no_row_and_no_message_is_in_clear_and_nothing_can_be_read_without_the_key(
    database: str, kafka: Kafka
) -> None:
    shop, keys = Shop(timeout=timedelta(seconds=12)), MemoryKeys()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        coordination = await stack.enter_async_context(open_coordination_store(database))
        url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
        transport = await stack.enter_async_context(open_transport(url))
        await store.migrate()
        await coordination.migrate()
        await watch_tables(store)
        await stack.enter_async_context(open_shop(shop, store, coordination, transport, keys=keys, tuning=Tuning()))

        async def order(how: str, customer: str = CANARY) -> Ending:
            handle = await shop.place(Ordered(customer=customer, note=customer, how=how))
            ended: Ended = await handle.outcome(60)
            return ended.ending

        assert await order("well") is Ending.COMPLETED
        assert await order("refuse") is Ending.COMPENSATED
        assert await order("undo") is Ending.COMPENSATED
        waiting = await shop.place(Ordered(customer=CANARY, note=CANARY, how="wait"))
        with pytest.raises(OutcomePending):
            await waiting.outcome(3)
        assert await keys.erase("", CANARY)

        async def is_stuck() -> object:
            async with store.unit(Claim(service="shop", sagas=())) as unit:
                return await unit.db.fetch("select * from saga_instance where phase = 'stuck'")

        await until(is_stuck, 120, 0.5)
        assert await order("well", "somebody else") is Ending.COMPLETED
        rows, messages = await rows_seen(store), await everything_on(transport)
        async with store.unit(Claim(service="shop", sagas=())) as unit:
            letters = await unit.db.fetch("select error from saga_delivery where reason = 'dead'")
            (undo,) = await unit.db.fetch("select error from saga_run where undo = 'failed'")
    assert not is_clear(rows)
    assert not is_clear(messages)
    assert all(table in rows for table in ("saga_run", "saga_outbox", "saga_delivery", "saga_instance"))
    assert messages.count(b"saga-sealed.v1.A256GCM.") > 10
    assert any("has been erased" in letter["error"] for letter in letters)
    assert "has been erased" in undo["error"]
