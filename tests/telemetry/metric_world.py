"""Give metric tests a trip that can be refused, fail and wait, and what an OpenTelemetry reader has read of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Annotated, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from outbox.urls import open_coordination_store, open_store
from saga import PII, Breaker, Dependency, Ended, Event, Refusal, Retry, Run, Saga, Secret, Service, Start
from saga.app import App, Coordinator, Tuning
from saga.ports import Store
from saga.ports.metering import Meter
from saga.telemetry.metrics import OtelMeter
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

_NUMBERS = count(1)
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)
ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, base_seconds=0.01, cap_seconds=0.01)
CANARY = "canary-7f3a"


class TripAsked(Event, name="trip.asked", version=1):
    how: str = "well"
    name: Annotated[str, PII] = "nobody"
    card: Annotated[str, Secret] = "0000"


class RoomBooked(Event, name="room.booked", version=1):
    how: str
    card: Annotated[str, Secret] = "0000"


class SeatBooked(Event, name="seat.booked", version=1):
    how: str
    card: Annotated[str, Secret] = "0000"


class NoRoom(Refusal, name="hotel.full", version=1):
    name: Annotated[str, PII] = "nobody"


class NoSeat(Refusal, name="flight.full", version=1):
    pass


@dataclass
class Trip:
    """Hold the declarations: desk -> hotel (local) -> flights (outside)."""

    heard: list[Ended] = field(default_factory=list[Ended])
    services: tuple[Service, ...] = field(init=False)
    ask: Start[TripAsked] = field(init=False)

    def __post_init__(self) -> None:
        trip = Saga("trip", version=1, timeout=timedelta(minutes=1))
        desk, hotel, flights = map(Service, ("desk", "hotel", "flights"))
        self.services, self.ask = (desk, hotel, flights), desk.starts(trip, TripAsked)

        @hotel.step(trip, retry=TWICE)
        async def book_room(asked: TripAsked, run: Run) -> RoomBooked | NoRoom:
            if asked.how == "no room":
                return NoRoom(name=asked.name)
            if asked.how == "flaky" and run.attempt == 1:
                raise ConnectionError(f"no answer about {asked.name}, card {asked.card}")
            return RoomBooked(how=asked.how, card=asked.card)

        @book_room.compensation(retry=ONCE)
        async def cancel_room(booked: RoomBooked, run: Run) -> None:
            if booked.how == "stuck":
                raise ValueError(f"cannot cancel for {booked.card}")

        @flights.step(trip, calls=Dependency("airline", breaker=Breaker()), retry=ONCE)
        async def book_seat(booked: RoomBooked, run: Run) -> SeatBooked | NoSeat:
            if booked.how in ("no seat", "stuck"):
                return NoSeat()
            return SeatBooked(how=booked.how, card=booked.card)

        @book_seat.compensation
        async def cancel_seat(booked: SeatBooked, run: Run) -> None:
            pass

        @desk.on_end(trip)
        async def settle(end: Ended, run: Run) -> None:
            self.heard.append(end)


class Collected:
    """Read metrics as an exporter would, by name and label values."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.meter = OtelMeter(self.provider)

    def read(self) -> dict[str, dict[tuple[str, ...], Any]]:
        """Return a number for each counter and gauge, and (count, sum) for each histogram."""
        found: dict[str, dict[tuple[str, ...], Any]] = {}
        data = self.reader.get_metrics_data()
        for scope in data.resource_metrics[0].scope_metrics if data is not None else ():
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    labels: Mapping[str, Any] = point.attributes or {}
                    if isinstance(point, NumberDataPoint):
                        value: Any = point.value
                    else:
                        value = (point.count, point.sum)
                    found.setdefault(metric.name, {})[tuple(str(each) for each in labels.values())] = value
        return found


@asynccontextmanager
async def travelling(trip: Trip, meter: Meter | None) -> AsyncGenerator[tuple[App, Store]]:
    """Run a trip's services and a coordinator on SQLite in memory."""
    address = f"sqlite:///:memory:?name=metrics{next(_NUMBERS)}"
    clock = VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        app = App(
            trip.services,
            store=store,
            transport=transport,
            coordinator=Coordinator(store=coordination),
            tuning=TUNING,
            meter=meter,
        )
        yield await stack.enter_async_context(app), store
