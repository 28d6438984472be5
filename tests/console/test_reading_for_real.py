"""Read a fleet on PostgreSQL and Kafka as a console does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from uuid import uuid4

import anyio
import pytest

from outbox.urls import open_coordination_store, open_store
from saga import Ending
from saga._core.instance import Phase
from saga._core.overview import Card
from saga._core.sagas import SagaFilter
from saga._core.whole import Payloads, Shown
from saga.app import Tuning
from saga.console.reading import Reader
from tests.runtime.world import Placed, World, up
from tests.testbed.services import Kafka
from transports import open_transport

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres]

SERVICES = {"orders", "inventory", "payment", "shipping"}


async def test_everything_is_read_from_postgres_and_kafka(database: str, kafka: Kafka) -> None:
    url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        coordination = await stack.enter_async_context(open_coordination_store(database))
        transport = await stack.enter_async_context(open_transport(url))
        running = await stack.enter_async_context(up(World(), store, coordination, transport, Tuning()))
        reader = await stack.enter_async_context(Reader(database, services=[database], transport=url))
        before = await reader.changes()
        done = await running.world.place(Placed(order="1"), key="1")
        undone = await running.world.place(Placed(order="2", capture="refuse"), key="2")
        assert [(await one.outcome(30)).ending for one in (done, undone)] == [Ending.COMPLETED, Ending.COMPENSATED]

        async def known() -> bool:
            consumers = await reader.consumers()
            running = {one.service for one in consumers.replicas} == SERVICES
            return running and len(consumers.groups) == 5 and not any(one.messages for one in consumers.groups)

        with anyio.fail_after(60):
            while not await known():  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.1)
        assert reader.databases == ("coordinator",)
        assert Card.SAGAS in (await reader.changes()).differing(before)
        (line,) = (await reader.sagas(SagaFilter(key="2"))).lines
        assert (line.saga_id, line.phase, line.step) == (undone.saga_id, Phase.COMPENSATED, "payment.capture")
        assert await reader.count(SagaFilter(text="payment.declined")) == 1
        whole = await reader.saga(line.saga_id)
        assert whole is not None
        assert [run.step for run in whole.rows.runs] == ["orders.start", "inventory.reserve", "payment.capture"]
        assert set(whole.places.values()) == {"coordinator"}
        shown = await reader.payloads(line.saga_id, payloads=Payloads.ALLOWED)
        assert {view.shown for run in shown for view in run.inputs} == {Shown.WHOLE}
        view = await reader.overview()
        assert sum(minute.started for minute in view.minutes) == 2
        assert view.missing == view.consumers.missing == ()
        assert {one.group for one in view.consumers.groups} == {*SERVICES, "saga-coordinator"}
        assert {one.members for one in view.consumers.groups} == {1}
