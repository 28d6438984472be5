"""Read the gauges: one look at everything every few seconds while somebody keeps metrics, and none for each scrape."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import anyio

from saga._core.breaker import Phase as BreakerPhase
from saga._core.emit import COORDINATOR
from saga._core.instance import ENDED, Phase
from saga._core.measuring import Behind, Count, Reading, StoreReading
from saga._core.metrics import (
    ACTIVE,
    BEHIND,
    BREAKER,
    CALLS,
    CONSUMER_BEHIND,
    CONSUMER_LAG,
    DEAD,
    DEAD_AGE,
    HEARTBEAT,
    LAG,
    OUTBOX_AGE,
    OUTBOX_PENDING,
    STUCK,
    WAITING,
    Labels,
    Metric,
)
from saga._core.plan import Plan
from saga._core.stored_instance import STUCK_PHASE
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga.errors import StoreError, TransportError
from saga.ports import TopicPartition
from saga.ports.metering import Measured, Meter

log = logging.getLogger("saga")

LOOK_EVERY_SECONDS = 10.0
_WAITING = tuple(reason.value for reason in Reason if reason is not Reason.DEAD)
_PHASES = (*(phase.value for phase in Phase if phase not in ENDED), STUCK_PHASE)

Offsets = Mapping[TopicPartition, int]


class Reader(Protocol):
    """Be somebody who reads a log."""

    async def offsets(self) -> tuple[Offsets, Offsets]:
        """Return where each partition it reads ends, and where it is; both empty while it reads none."""
        ...


class Gauges:
    """Look at the databases, the logs and the breakers of one app, and let the meter hold what was found."""

    def __init__(
        self,
        meter: Meter,
        *,
        contexts: Sequence[ServiceContext],
        readers: Mapping[str, Reader],
        stores: Iterable[object],
        plans: Callable[[], Sequence[Plan]],
        every_seconds: float = LOOK_EVERY_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Look at `stores` that can be measured; `readers` are by service, and the coordinator's by its name."""
        self._meter = meter
        self._contexts = contexts
        self._readers = readers
        self._behind = {name: Behind() for name in readers}
        self._stores = [store for store in stores if isinstance(store, Measured)]
        self._plans = plans
        self._every_seconds = every_seconds
        self._wall = wall

    async def run(self) -> None:
        """Look until cancelled; does nothing while nobody keeps metrics."""
        try:
            while True:
                if self._meter.is_on:
                    for context in self._contexts:
                        context.time_calls()
                    await self.look()
                await anyio.sleep(self._every_seconds)
        finally:
            self._meter.hold(self, ())

    async def look(self) -> None:
        """Look once; what is away now is left out."""
        found: dict[tuple[Metric, Labels], float] = dict(self._nothing())
        for store in self._stores:
            try:
                found.update(_counted(await store.measure()))
            except StoreError as error:
                log.info("metrics of a database are read later: %s", error)
        for name, reader in self._readers.items():
            try:
                ends, positions = await reader.offsets()
            except TransportError as error:
                log.info("metrics of what %s reads are read later: %s", name, error)
                continue
            found.update(self._lagging(name, ends, positions))
        for context in self._contexts:
            found.update(_breakers(context))
        for name in self._readers:
            found[HEARTBEAT, (name,)] = self._wall()
        self._meter.hold(self, [Reading(metric=m, labels=labels, value=v) for (m, labels), v in found.items()])

    def _lagging(self, name: str, ends: Offsets, positions: Offsets) -> Iterator[tuple[tuple[Metric, Labels], float]]:
        lag, seconds = self._behind[name].look(
            anyio.current_time(),
            {(place.topic, place.partition): end for place, end in ends.items()},
            {(place.topic, place.partition): position for place, position in positions.items()},
        )
        labels = () if name == COORDINATOR else (name,)
        yield (LAG if name == COORDINATOR else CONSUMER_LAG, labels), lag
        yield (BEHIND if name == COORDINATOR else CONSUMER_BEHIND, labels), seconds

    def _nothing(self) -> Iterator[tuple[tuple[Metric, Labels], float]]:
        """Yield the zeros of what is there without a row: an alert on what is missing would go off."""
        if not self._stores:
            return
        for name in self._readers:
            for metric in (OUTBOX_PENDING, OUTBOX_AGE, DEAD, DEAD_AGE):
                yield (metric, (name,)), 0.0
            if name == COORDINATOR:
                for saga in {plan.saga for plan in self._plans()}:
                    yield (STUCK, (saga,)), 0.0
                    yield from (((ACTIVE, (saga, phase)), 0.0) for phase in _PHASES)
            else:
                yield (CALLS, (name,)), 0.0
                yield from (((WAITING, (name, reason)), 0.0) for reason in _WAITING)


def _counted(reading: StoreReading) -> Iterator[tuple[tuple[Metric, Labels], float]]:
    """Yield what was counted in a database."""
    for counts, rows, age in ((reading.outbox, OUTBOX_PENDING, OUTBOX_AGE), (reading.dead, DEAD, DEAD_AGE)):
        for count in counts:
            yield (rows, (count.name,)), count.rows
            yield (age, (count.name,)), count.age_seconds
    yield from (((WAITING, (count.name, count.kind)), float(count.rows)) for count in reading.waiting)
    yield from (((CALLS, (count.name,)), float(count.rows)) for count in reading.calls)
    yield from (((ACTIVE, (count.name, count.kind)), float(count.rows)) for count in reading.active)
    yield from _stuck(reading.active)


def _stuck(active: Iterable[Count]) -> Iterator[tuple[tuple[Metric, Labels], float]]:
    for count in active:
        if count.kind == STUCK_PHASE:
            yield (STUCK, (count.name,)), count.rows


def _breakers(context: ServiceContext) -> Iterator[tuple[tuple[Metric, Labels], float]]:
    for name, throttle in context.throttles.items():
        if throttle.dependency.breaker is not None:
            now = throttle.phase
            for phase in BreakerPhase:
                yield (BREAKER, (context.service, name, phase.value)), float(phase is now)
