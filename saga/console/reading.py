"""Read everything that a console shows: `async with Reader("postgresql://…/coordinator") as reader:` in any program."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

import anyio
import orjson

from outbox.clock import SystemClock
from saga._core.events import Event, Refusal
from saga._core.inspecting import UntoldEnd
from saga._core.letters import LetterFilter
from saga._core.overview import Census, Changes, Overview
from saga._core.plan import Plan
from saga._core.queues import (
    AuditFilter,
    AuditPage,
    LetterCount,
    LetterLine,
    LetterPage,
    OutboxState,
    PlacedAudit,
    PlacedGroup,
    Problem,
)
from saga._core.running import BreakerState, Consumers, PlanState, ServiceMap
from saga._core.sagas import (
    COUNT_CAP,
    ENDED_PHASES,
    OPEN_PHASES,
    PHASES,
    SagaFilter,
    SagaLine,
    SagaPage,
    is_narrow,
    line_place,
    read_place,
    write_place,
)
from saga._core.schemas import schema_of
from saga._core.whole import Payloads, PayloadView, RunPayloads, SagaWhole
from saga.console import _running, _whole
from saga.console._asking import Asked, untold_ends
from saga.console._hearing import Ear
from saga.console._maps import plan_states
from saga.console._merging import merge, read_ends
from saga.console._minutes import Minutes
from saga.console._places import Places
from saga.ports import Clock, Transport
from saga.ports.overseeing import OverseeingStore

PAGE_MOST = 1000
EXPORT_PAGE = 500
STUCK_MOST = 10


class Reader:
    """Read a coordinator's database and those of its services, as a console does; an async context manager.

    Nothing is written. What it returns is frozen and has no payload in it, but for `payloads` and `letter`, which ask
    for permission. A service's database or a broker that is away is told in `missing` of the answer; all methods
    raise StoreUnavailable while the coordinator's database is, and SettingsError for a place that is none.
    """

    def __init__(
        self,
        coordinator: str | OverseeingStore,
        *,
        services: Iterable[str | OverseeingStore] = (),
        transport: str | Transport = "",
        events: Iterable[type[Event | Refusal]] = (),
        clock: Clock | None = None,
    ) -> None:
        """Check the URLs without connecting; raises SettingsError. Open stores and transports stay their owners'.

        Without a transport nothing is known of replicas and breakers. `events` are classes whose marks (`PII`,
        `Secret`) count for payloads; those of running services are known from the transport.
        """
        self._places = Places(coordinator, services)
        self._ear = Ear(transport, clock or SystemClock()) if transport else None
        self._schemas: dict[str, Mapping[str, Any]] = {
            each.wire_type: orjson.loads(schema_of(each).schema)  # type: ignore[arg-type]
            for each in events
        }
        self._minutes = Minutes()
        self._asked = Asked(self._places)
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises SettingsError when the first database is no coordinator's, StoreUnavailable."""
        # Kept from the beginning: a database that is away now is opened once it is back.
        self._stack = await AsyncExitStack().__aenter__()
        try:
            await self._places.open(self._stack)
        except BaseException:
            await self.__aexit__()
            raise
        if self._ear is not None:
            tasks = await self._stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._ear.run)
            self._stack.callback(tasks.cancel_scope.cancel)
        return self

    async def __aexit__(self, *exc: object) -> None:
        stack, self._stack = self._stack, None
        self._places.close()
        if stack is not None:
            await stack.aclose()

    @property
    def databases(self) -> tuple[str, ...]:
        """Return the names of the databases, the coordinator's first: what `database` says everywhere."""
        return self._places.names

    async def database(self, name: str) -> OverseeingStore:
        """Return one of them, which is an OperatingStore too; raises SettingsError for an unknown name."""
        return await self._places.get(name)

    async def now(self) -> datetime:
        """Read the clock of the coordinator's database."""
        return await (await self._places.coordinator()).now()

    # --- everything at once ----------------------------------------------------------------------------------

    async def overview(self) -> Overview:
        """Read the first page."""
        store = await self._places.coordinator()
        now = await store.now()
        census = await store.census()
        stuck = await self.sagas(SagaFilter(phases=("stuck",)), limit=STUCK_MOST)
        dead, missing = await self._places.each(lambda each: each.count_dead(cap=COUNT_CAP))
        outboxes, silent = await self._outboxes()
        return Overview(
            now=now,
            census=replace(census, stuck=stuck.lines),
            minutes=await self._minutes.read(store, now),
            letters=tuple(
                LetterCount(database=name, letters=letters, oldest_seconds=oldest)
                for name, (letters, oldest) in dead.items()
            ),
            outboxes=outboxes,
            breakers=await self.breakers(),
            consumers=await self.consumers(),
            missing=tuple(dict.fromkeys((*missing, *silent))),
        )

    async def changes(self) -> Changes:
        """Read what moves once there is something new to show on a card; a few look-ups, however much there is."""
        return await _running.changes(self._places, self._ear)

    # --- sagas -----------------------------------------------------------------------------------------------

    async def sagas(self, wanted: SagaFilter, *, after: str = "", limit: int = 50) -> SagaPage:
        """Read a page of sagas, newest first, behind the place `after`; at most 1,000 at once."""
        limit = max(1, min(limit, PAGE_MOST))
        store = await self._places.coordinator()
        place = read_place(after) if after else None
        lines = await store.lines(await self._asked.query(wanted), after=place, limit=limit + 1)
        more = len(lines) > limit
        shown = tuple(lines[:limit])
        return SagaPage(lines=shown, after=write_place(line_place(shown[-1])) if more else "")

    async def count(self, wanted: SagaFilter) -> int:
        """Count the sagas of a filter, up to `COUNT_CAP`, which means that there are more."""
        found = await (await self._places.coordinator()).count(await self._asked.query(wanted), cap=COUNT_CAP)
        return min(COUNT_CAP, sum(found.values()))

    async def phase_counts(self, wanted: SagaFilter) -> Mapping[str, int]:
        """Count the sagas of a filter in each phase, whatever phases it names itself, each up to `COUNT_CAP`."""
        store = await self._places.coordinator()
        asked = await self._asked.query(wanted)
        found: dict[str, int] = {}
        # What is rare among all of them would not be among the first few.
        for phases in [PHASES] if is_narrow(wanted) else [OPEN_PHASES, *((phase,) for phase in ENDED_PHASES)]:
            query = replace(asked, wanted=replace(wanted, phases=() if phases is PHASES else phases))
            found |= await store.count(query, cap=COUNT_CAP * len(phases))
        return {phase: min(COUNT_CAP, found.get(phase, 0)) for phase in PHASES}

    async def export(self, wanted: SagaFilter, *, limit: int | None = None) -> AsyncGenerator[SagaLine]:
        """Yield the sagas of a filter, newest first, page by page; what begins meanwhile is left out."""
        after = ""
        left = limit
        while left is None or left > 0:
            page = await self.sagas(wanted, after=after, limit=EXPORT_PAGE if left is None else min(EXPORT_PAGE, left))
            for line in page.lines:
                yield line
            left = None if left is None else left - len(page.lines)
            after = page.after
            if not after:
                return

    async def untold_ends(self, saga_ids: Sequence[str] = ()) -> Mapping[str, UntoldEnd]:
        """Read whose handler of the end keeps failing, of these sagas or of all; of the databases that answer."""
        return await untold_ends(self._places, saga_ids)

    async def saga(self, saga_id: str) -> SagaWhole | None:
        """Read everything that all databases keep of one saga, None when the coordinator does not know it."""
        return await _whole.read(self._places, self._asked, saga_id)

    async def revision(self, saga_id: str) -> str:
        """Return a text that is another one whenever something of a saga has changed, "" when nobody knows it."""
        return await _whole.revision(self._places, saga_id)

    async def by_trace(self, trace_id: str) -> str:
        """Return the ID of the saga recorded under a trace, "" when it is none of the newest 20,000."""
        if not trace_id.isalnum():
            return ""
        return await (await self._places.coordinator()).saga_of_trace(trace_id.lower())

    async def payloads(self, saga_id: str, *, payloads: Payloads) -> Sequence[RunPayloads]:
        """Read what the runs of a saga have taken and given, as far as `payloads` allows.

        What is sealed, or in a blob, stays so. Fields marked `PII` or `Secret` are replaced by the mark; a payload of
        which nobody here knows the marks is not shown.
        """
        return await _whole.payloads(self._places, saga_id, self._known(), payloads)

    # --- dead letters ----------------------------------------------------------------------------------------

    async def letters(
        self, wanted: LetterFilter, *, after: str = "", limit: int = 50, database: str = ""
    ) -> LetterPage:
        """Read a page of the dead letters of all databases, or of one, the newest first."""
        ends, limit = read_ends(after), max(1, min(limit, PAGE_MOST))
        found, missing = await self._places.each_named(
            lambda name, store: store.dead_lines(wanted, before_id=ends.get(name, 0), limit=limit),
            [database] if database else None,
        )
        shown, token = merge(found, ends, limit, at=lambda line: line.died_at, id_of=lambda line: line.id)
        return LetterPage(
            lines=tuple(replace(line, database=name) for name, line in shown), after=token, missing=missing
        )

    async def letter_groups(self) -> Sequence[PlacedGroup]:
        """Count the dead letters by database, service, step and beginning of the error; most first."""
        found, _ = await self._places.each(lambda store: store.group_dead())
        groups = [PlacedGroup(database=name, group=group) for name, groups in found.items() for group in groups]
        return sorted(groups, key=lambda one: -one.group.letters)

    async def letter(
        self, database: str, letter_id: int, *, payloads: Payloads
    ) -> tuple[LetterLine, PayloadView] | None:
        """Read one dead letter with its message as far as `payloads` allows, None when it is not dead any more."""
        store = await self._places.get(database)
        return await _whole.letter(store, database, letter_id, self._known(), payloads)

    # --- what waits, who runs --------------------------------------------------------------------------------

    async def outboxes(self) -> Sequence[OutboxState]:
        """Read the outbox of every database that answers."""
        return (await self._outboxes())[0]

    async def _outboxes(self) -> tuple[tuple[OutboxState, ...], tuple[Problem, ...]]:
        found, missing = await self._places.each(lambda store: store.backlog())
        return tuple(OutboxState(database=name, backlog=backlog) for name, backlog in found.items()), missing

    async def breakers(self) -> tuple[BreakerState, ...]:
        """Return how each dependency is treated, as far as it is heard of."""
        return await _running.breakers(self._ear, self._asked)

    @property
    def hears(self) -> bool:
        """Return whether a transport was named: without one nobody is heard of."""
        return self._ear is not None

    async def consumers(self) -> Consumers:
        """Return who runs, and how far everybody is."""
        return await _running.consumers(self._places, self._ear, self._asked)

    async def topology(self) -> ServiceMap:
        """Return who hears whom, by the newest plan of every saga version."""
        return await _running.topology(self._ear, self._asked)

    async def plans(self) -> Sequence[PlanState]:
        """Read all stored plans, and how many sagas are open under each."""
        store = await self._places.coordinator()
        census: Census = await store.census(oldest=1)
        return plan_states(await store.stored_plans(), census.plans)

    async def plan(self, plan_hash: str) -> Plan | None:
        """Return the plan of a hash, None when it is not stored, or cannot be read here."""
        return await self._asked.plan(plan_hash)

    async def audits(self, wanted: AuditFilter | None = None, *, after: str = "", limit: int = 50) -> AuditPage:
        """Read a page of what people did, in all databases, newest first."""
        ends, limit = read_ends(after), max(1, min(limit, PAGE_MOST))
        found, missing = await self._places.each_named(
            lambda name, store: store.acts(wanted or AuditFilter(), before_id=ends.get(name, 0), limit=limit)
        )
        shown, token = merge(found, ends, limit, at=lambda act: act.at, id_of=lambda act: act.id)
        acts = tuple(PlacedAudit(database=name, audit=act) for name, act in shown)
        return AuditPage(lines=acts, after=token, missing=missing)

    def _known(self) -> Mapping[str, Mapping[str, Any]]:
        return {**self._ear.schemas(), **self._schemas} if self._ear is not None else self._schemas
