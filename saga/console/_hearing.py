"""Hear on the broker who runs and how dependencies are treated; a broker that is away is a problem to show."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
import orjson

from saga._core.announcing import divided, unplanned
from saga._core.breaker import Phase
from saga._core.brokers import GroupState
from saga._core.envelope import Delivery
from saga._core.fleet import LONGEST_WORD_SECONDS, CallReport, FleetVerdict, read_breaker_message
from saga._core.limits import DEFAULT_LIMITS
from saga._core.plan import Plan
from saga._core.queues import Problem
from saga._core.running import BreakerState, GroupLag, ReplicaState
from saga._core.topics import BREAKERS, MANIFESTS
from saga._runtime.drift import Announced, DriftTuning
from saga.errors import PlanError, SettingsError, TransportRefused, TransportUnavailable, Undecodable
from saga.ports import Clock, Transport
from transports.urls import check_transport, open_broker, open_transport

log = logging.getLogger("saga")

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 5.0
ANSWER_SECONDS = 5.0
KEPT_SECONDS = 600.0
"""How long a report on a dependency is kept: its process speaks again as long as calls fail, or it is gone."""
BROKER = "broker"


class Ear:
    """Follow `saga.manifests` and `saga.breakers`, outside of any group; nobody notices."""

    def __init__(self, transport: str | Transport, clock: Clock, tuning: DriftTuning | None = None) -> None:
        """Check a URL without connecting; raises SettingsError. An open transport stays its owner's."""
        self._url = transport if isinstance(transport, str) else ""
        self._given = None if isinstance(transport, str) else transport
        if self._url:
            check_transport(self._url)
        self._clock = clock
        self._tuning = tuning or DriftTuning()
        self._announced = Announced()
        self._caught_up_at: float | None = None
        self._verdicts: dict[str, FleetVerdict] = {}
        self._reports: dict[tuple[str, str, str], CallReport] = {}
        self._news = 0
        self.problem: Problem | None = None

    @property
    def mark(self) -> tuple[str, str]:
        """Return texts that are others once something was heard of breakers, and of replicas."""
        phases = [f"{one.dependency}:{one.phase}:{one.share}:{one.failures}" for one in self.breakers(())]
        running = [f"{one.service}/{one.slot}:{one.code}" for one in self.replicas()]
        return ";".join(phases), f"{';'.join(running)}!{self.problem is not None}"

    # --- listening -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen until cancelled; whatever goes wrong is told as a problem, and tried again."""
        while True:
            try:
                async with self._transport() as transport:
                    await self._follow(transport)
            except (TransportUnavailable, TransportRefused, SettingsError) as error:
                self._trouble(error)
            except BaseExceptionGroup as group:
                known, others = group.split((TransportUnavailable, TransportRefused, SettingsError))
                if others is not None or known is None:
                    raise
                self._trouble(known.exceptions[0])
            await anyio.sleep(AGAIN_SECONDS)

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Transport]:
        if self._given is not None:
            yield self._given
            return
        async with open_transport(self._url) as transport:
            yield transport

    def _trouble(self, error: BaseException) -> None:
        if self.problem is None:
            log.warning("what runs cannot be heard of: %s", error)
        self.problem = Problem(where=BROKER, sentence=str(error))

    async def _follow(self, transport: Transport) -> None:
        self._announced, self._caught_up_at = Announced(), None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear_breakers, transport)
            async with transport.table(MANIFESTS) as table:
                while True:
                    for delivery in await table.changes(LOOK_SECONDS):
                        self._announce(delivery)
                    self.problem = None
                    if self._caught_up_at is None and await table.caught_up():
                        self._caught_up_at = anyio.current_time()

    async def _hear_breakers(self, transport: Transport) -> None:
        async with transport.table(BREAKERS) as table:
            while True:
                for delivery in await table.changes(LOOK_SECONDS):
                    self._hear(delivery)

    def _announce(self, delivery: Delivery) -> None:
        try:
            self._announced.take(delivery, anyio.current_time())
        except PlanError as error:
            log.info("an announcement on %s cannot be read and is ignored: %s", MANIFESTS, error)

    def _hear(self, delivery: Delivery) -> None:
        if delivery.value is None:
            return
        try:
            said = read_breaker_message(delivery, DEFAULT_LIMITS)
        except Undecodable as error:
            log.info("a message on %s cannot be read and is ignored: %s", BREAKERS, error)
            return
        self._forget(self._clock.now())
        if isinstance(said, FleetVerdict):
            self._verdicts[said.dependency] = said
        else:
            self._reports[said.dependency, said.service, said.slot] = said

    def _forget(self, now: datetime) -> None:
        """Drop what was said long ago, or by a clock that is far ahead."""
        self._reports = {
            key: one for key, one in self._reports.items() if abs((now - one.at).total_seconds()) < KEPT_SECONDS
        }
        self._verdicts = {name: one for name, one in self._verdicts.items() if one.valid_until > now}

    # --- what was heard --------------------------------------------------------------------------------------

    def replicas(self) -> tuple[ReplicaState, ...]:
        """Return the replicas that have not been silent for three minutes."""
        now, wall = anyio.current_time(), self._clock.now()
        self._announced.forget_silent(now - self._tuning.silent_seconds)
        heard = self._announced.heard_at

        def at(moment: float) -> datetime | None:
            # What lay in the topic already may be from long ago.
            if self._caught_up_at is None or moment <= self._caught_up_at:
                return None
            return wall - timedelta(seconds=now - moment)

        return tuple(
            ReplicaState(service=name.service, slot=name.slot, code=live.hash, heard_at=at(heard[name]))
            for name, live in sorted(self._announced.live.items())
        )

    def drift(self, plans: Sequence[Plan]) -> tuple[str, ...]:
        """Return sentences about replicas that fit no plan, or not each other."""
        found = list(divided(self._announced.live.values()).values())
        for replica, live in sorted(self._announced.live.items()):
            manifest = self._announced.manifests.get(live.hash)
            if manifest is not None:
                found += [f"{replica} {sentence}" for sentence in unplanned(manifest, plans)]
        return tuple(found)

    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the schema of every event that running replicas emit, by wire type."""
        return {
            event.type: orjson.loads(event.schema)
            for manifest in self._announced.manifests.values()
            for part in manifest.sagas
            for event in part.emits
        }

    def breakers(self, dependencies: Sequence[str]) -> tuple[BreakerState, ...]:
        """Return how each dependency is treated: those named here, and all heard of in the last ten minutes."""
        now = self._clock.now()
        self._forget(now)
        names = {*dependencies, *self._verdicts, *(dependency for dependency, _, _ in self._reports)}
        return tuple(self._breaker(name, now) for name in sorted(names))

    def _breaker(self, name: str, now: datetime) -> BreakerState:
        verdict = self._verdicts.get(name)
        reports = [one for (dependency, _, _), one in self._reports.items() if dependency == name]
        fresh = [one for one in reports if (now - one.at).total_seconds() < LONGEST_WORD_SECONDS]
        return BreakerState(
            dependency=name,
            phase=Phase.CLOSED if verdict is None else verdict.phase,
            share=100 if verdict is None else verdict.share,
            valid_until=None if verdict is None else verdict.valid_until,
            calls=sum(one.calls for one in fresh),
            failures=sum(one.failures for one in fresh),
            services=tuple(sorted({one.service for one in reports})),
            reported_at=max((one.at for one in reports), default=None),
        )

    # --- groups ----------------------------------------------------------------------------------------------

    async def groups(self, services: Sequence[str]) -> tuple[tuple[GroupLag, ...], Problem | None]:
        """Return how far the services' groups are behind, where the transport is a broker on other machines."""
        if not self._url or self._url.startswith("memory:") or not services:
            return (), None
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                async with open_broker(self._url) as broker:
                    return tuple(map(_lag, await broker.groups(services))), None
        except TimeoutError:
            return (), Problem(where=BROKER, sentence=f"no word of its groups within {ANSWER_SECONDS:g} s")
        except (TransportUnavailable, TransportRefused, SettingsError) as error:
            return (), Problem(where=BROKER, sentence=str(error))


def _lag(state: GroupState) -> GroupLag:
    return GroupLag(group=state.name, members=len(state.members), messages=state.lag)
