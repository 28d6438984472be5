"""The same metrics over Kafka and PostgreSQL: offsets come from a broker, counts from a server."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import pytest

from saga import Ending
from saga.app import App, Coordinator
from tests.telemetry.canary import Joined, leaks, watched
from tests.telemetry.metric_world import Collected, Trip, TripAsked
from tests.testbed.services import Kafka

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


async def settled(app: App, collected: Collected) -> dict[str, dict[tuple[str, ...], Any]]:
    """Look until everything has been read."""
    crew = app._crew  # pyright: ignore[reportPrivateUsage]
    assert crew is not None
    gauges = crew.gauges
    assert gauges is not None
    with anyio.fail_after(30):
        while True:
            await gauges.look()
            read = collected.read()
            lags = {**read.get("saga.coordinator.lag", {}), **read.get("saga.consumer.lag", {})}
            if len(lags) == 4 and not any(lags.values()) and not any(read["saga.outbox.pending"].values()):
                return read
            await anyio.sleep(0.1)


@pytest.mark.kafka
async def test_sagas_over_kafka_and_postgresql_are_counted_and_nobody_is_behind(database: str, kafka: Kafka) -> None:
    trip, collected = Trip(), Collected()
    transport = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    app = App(trip.services, store=database, transport=transport, coordinator=Coordinator(), meter=collected.meter)
    async with app:
        handles = [await trip.ask(TripAsked(how=how)) for how in ("well", "no seat", "stuck")]
        endings = [(await handle.outcome(timeout_seconds=60)).ending for handle in handles]
        assert endings == [Ending.COMPLETED, Ending.COMPENSATED, Ending.STUCK]
        read = await settled(app, collected)
    assert read["saga.started"] == {("trip",): 3}
    assert read["saga.completed"] == {("trip", each.value): 1 for each in endings}
    assert read["saga.stuck"] == {("trip",): 1}
    assert read["saga.active"]["trip", "running"] == 0
    assert read["saga.consumer.behind"] == {("desk",): 0.0, ("hotel",): 0.0, ("flights",): 0.0}
    assert read["messaging.client.sent.messages"]["kafka", "send", "hotel.events"] == 3
    waits = read["saga.step.queue.duration"]["trip", "hotel.book_room"]
    assert waits[0] == 3
    assert 0 <= waits[1] < 60


@pytest.mark.parametrize("how", ["raises", "the database quotes it", "breaks its transaction", "its commit fails"])
async def test_what_postgresql_says_of_a_marked_value_is_said_nowhere(database: str, how: str) -> None:
    async with watched(database) as club:
        handle = await club.club.join(Joined(how=how), key=how)
        await handle.outcome(timeout_seconds=30)
        said = {**club.said(), "error column": await club.errors()}
    assert [(where, text) for where, texts in said.items() for text in leaks(texts)] == []
    assert how != "its commit fails" or any("member_name_key" in line for line in said["log"])
