"""What is counted of sagas, in one app on virtual time, read back as an exporter reads it."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
import trio.testing

from saga import Ending
from saga._core.measuring import Reading
from saga._core.metrics import METRICS, STEP_DURATION, STEP_RUNS, Labels, Metric
from tests.telemetry.metric_world import Collected, Trip, TripAsked, travelling

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def trips(collected: Collected, *hows: str) -> dict[str, dict[tuple[str, ...], object]]:
    trip = Trip()
    async with travelling(trip, collected.meter):
        for how in hows:
            handle = await trip.ask(TripAsked(how=how))
            await handle.outcome(timeout_seconds=30)
        await anyio.sleep(11)  # so that the gauges are looked at once more
        return collected.read()


async def test_sagas_are_counted_by_outcome_and_timed() -> None:
    read = await trips(Collected(), "well", "well", "no room", "no seat")
    assert read["saga.started"] == {("trip",): 4}
    assert read["saga.completed"] == {("trip", "completed"): 2, ("trip", "compensated"): 2}
    assert {labels: value[0] for labels, value in read["saga.duration"].items()} == read["saga.completed"]  # type: ignore[index]


async def test_runs_are_counted_by_what_they_came_to_and_handlers_timed() -> None:
    read = await trips(Collected(), "well", "no room", "no seat", "flaky")
    room, seat = "hotel.book_room", "flights.book_seat"
    assert read["saga.step.runs"] == {
        ("trip", room, "done"): 3,
        ("trip", room, "refused"): 1,
        ("trip", room, "undone"): 1,
        ("trip", seat, "done"): 2,
        ("trip", seat, "refused"): 1,
    }
    assert read["saga.retries"] == {("trip", room, "action"): 1}
    counts = {labels: value[0] for labels, value in read["saga.step.duration"].items()}  # type: ignore[index]
    assert counts == {
        ("trip", room, "action"): 5,
        ("trip", room, "compensation"): 1,
        ("trip", seat, "action"): 3,
    }


async def test_the_wait_from_an_event_to_its_step_is_measured_once_for_each_run() -> None:
    read = await trips(Collected(), "well", "flaky", "no room")
    waits = read["saga.step.queue.duration"]
    assert {labels: value[0] for labels, value in waits.items()} == {  # type: ignore[index]
        ("trip", "hotel.book_room"): 3,
        ("trip", "flights.book_seat"): 2,
    }


async def test_gauges_are_there_from_the_start_and_show_what_is_open() -> None:
    collected = Collected()
    read = await trips(collected, "stuck")
    assert read["saga.stuck"] == {("trip",): 1}
    assert read["saga.active"]["trip", "stuck"] == 1
    assert read["saga.active"]["trip", "running"] == 0
    assert read["saga.outbox.pending"] == {(name,): 0 for name in ("desk", "hotel", "flights", "saga-coordinator")}
    assert read["saga.dead_letters"]["hotel",] == 0
    assert read["saga.deliveries.waiting"]["hotel", "retry"] == 0
    assert read["saga.coordinator.lag"] == {(): 0}
    assert read["saga.consumer.behind"]["hotel",] == 0
    assert read["saga.breaker.state"] == {
        ("flights", "airline", phase): float(phase == "closed")
        for phase in ("closed", "open", "half_open", "recovering")
    }
    assert set(read["saga.heartbeat"]) == {("desk",), ("hotel",), ("flights",), ("saga-coordinator",)}
    assert "saga.stuck" not in collected.read()  # an app that is gone says nothing any more


async def test_messages_are_counted_by_topic() -> None:
    read = await trips(Collected(), "well")
    sent, read_ = read["messaging.client.sent.messages"], read["messaging.client.consumed.messages"]
    assert sent["memory", "send", "hotel.events"] == 1
    assert read_["memory", "receive", "hotel.events", "flights"] == 1
    assert read["messaging.client.operation.duration"]["memory", "send"][0] > 0  # type: ignore[index]
    assert read["messaging.process.duration"]["memory", "process", "hotel"][0] > 0  # type: ignore[index]


async def test_everything_that_is_measured_is_in_the_table_with_its_labels() -> None:
    collected = Collected()
    await trips(collected, "well", "flaky", "stuck")
    data = collected.reader.get_metrics_data()
    assert data is not None
    table = {metric.name: metric for metric in METRICS}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        row = table[metric.name]
        assert metric.unit == row.unit
        assert metric.description == row.text
        for point in metric.data.data_points:
            optional = {"error.type"}
            assert set(row.labels) - optional <= set(point.attributes or ()) <= set(row.labels), metric.name


async def test_no_id_is_on_a_metric() -> None:
    collected, trip = Collected(), Trip()
    async with travelling(trip, collected.meter):
        handle = await trip.ask(TripAsked(), key="order-77")
        ended = await handle.outcome(timeout_seconds=30)
    assert ended.ending is Ending.COMPLETED
    text = str(collected.read())
    assert handle.saga_id not in text
    assert "order-77" not in text


class Heard:
    """Be a meter that remembers what it was told."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self.told: set[Metric] = set()
        self.held: list[int] = []

    def add(self, metric: Metric, labels: Labels, count: int) -> None:
        self.told.add(metric)
        assert (len(labels), count > 0) == (len(metric.labels), True)

    def record(self, metric: Metric, labels: Labels, values: Sequence[float]) -> None:
        self.told.add(metric)
        assert (len(labels), len(values) > 0) == (len(metric.labels), True)

    def hold(self, owner: object, readings: Sequence[Reading]) -> None:
        assert owner
        self.held.append(len(readings))


async def test_while_nobody_keeps_metrics_nothing_is_measured() -> None:
    trip, meter = Trip(), Heard(is_on=False)
    async with travelling(trip, meter) as (app, _):
        handle = await trip.ask(TripAsked(how="no seat"))
        await handle.outcome(timeout_seconds=30)
        await anyio.sleep(11)
        assert app.context("hotel").stopwatch is None
        assert meter.held == []
    assert meter.told == set()


async def test_a_provider_that_comes_later_is_found_while_the_app_runs() -> None:
    trip, meter = Trip(), Heard(is_on=False)
    async with travelling(trip, meter):
        await anyio.sleep(11)
        meter.is_on = True
        await anyio.sleep(11)
        assert meter.held[-1] > 0
        handle = await trip.ask(TripAsked())
        await handle.outcome(timeout_seconds=30)
    assert {STEP_RUNS, STEP_DURATION} <= meter.told
