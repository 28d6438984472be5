"""Open what an app works with: the transport, the databases, and the plans its coordinator stands for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import anyio

from outbox.schema import SchemaStore
from outbox.urls import Engine, is_engine, open_coordination_store, open_store
from saga._coordinator import Coordinator
from saga._core.definition import ServiceDefinition
from saga._core.manifest import Manifest, manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_from_json, plan_to_json
from saga._core.rows import PlanRow
from saga._runtime.stations import check_user_migrations, run_user_migrations
from saga._runtime.tracing import NullTracer, TracedPublisher
from saga.errors import (
    DeclarationError,
    GrantMissing,
    PlanError,
    SettingsError,
    StoreUnavailable,
    TransportUnavailable,
)
from saga.ports import CoordinationStore, Publisher, Store, TopicSpec, Tracer, Transport
from transports.memory import MemoryTransport
from transports.urls import open_transport

log = logging.getLogger("saga")

T = TypeVar("T")

PAUSE_SECONDS = 0.25
PAUSE_CAP_SECONDS = 4.0


async def enter_transport(stack: AsyncExitStack, at: str | Transport) -> Transport:
    """Open the transport of a URL until `stack` ends; an open adapter stays its owner's."""
    if not isinstance(at, str):
        return at
    transport = open_transport(at)
    await stack.enter_async_context(transport)
    return transport


def broker_of(transport: Transport) -> str:
    """Return the name that OpenTelemetry has, or would have, for what carries the messages."""
    return "memory" if isinstance(transport, MemoryTransport) else "kafka"


async def enter_publisher(stack: AsyncExitStack, transport: Transport, tracer: Tracer) -> Publisher:
    """Open a publisher until `stack` ends; what it sends is traced where there is something to trace with."""
    publisher: Publisher = await stack.enter_async_context(transport.publisher())
    return publisher if isinstance(tracer, NullTracer) else TracedPublisher(publisher, tracer)


async def enter_topics(transport: Transport, topics: Sequence[TopicSpec], timeout_seconds: float) -> None:
    """Make and check topics; without any this only sees that the transport is there.

    A transport that is away is waited for; raises TransportUnavailable after `timeout_seconds`, TransportRefused.
    """
    await _while_away(
        lambda: transport.ensure_topics(topics), timeout_seconds, TransportUnavailable, "transport_timeout_seconds"
    )


async def enter_store(
    stack: AsyncExitStack,
    at: str | Engine | Store,
    definitions: Sequence[ServiceDefinition],
    *,
    migrate: bool,
    timeout_seconds: float = 0.0,
) -> Store:
    """Open the services' database and, if asked, bring its tables and their own SQL files up to date.

    A database that is away is waited for; raises StoreUnavailable after `timeout_seconds`.
    """
    if isinstance(at, str) or is_engine(at):
        address = at
        store: Store = await patiently(lambda: stack.enter_async_context(open_store(address)), timeout_seconds)
    else:
        store = cast("Store", at)
    if migrate:
        await patiently(store.migrate, timeout_seconds)
        for definition in definitions:
            await run_user_migrations(store, definition)
    else:
        if isinstance(store, SchemaStore):
            await store.check_schema()
        await check_user_migrations(store, definitions)
    return store


async def enter_coordination(
    stack: AsyncExitStack,
    own: str | Engine | CoordinationStore | None,
    shared: str | Engine | Store | None,
    *,
    migrate: bool,
    timeout_seconds: float = 0.0,
) -> CoordinationStore:
    """Open the coordinator's database: its `own`, or the one `shared` with the app's services.

    A database that is away is waited for; raises StoreUnavailable after `timeout_seconds`.
    """
    at = own if own is not None else shared
    if isinstance(at, str) or is_engine(at):
        address = at
        store: CoordinationStore = await patiently(
            lambda: stack.enter_async_context(open_coordination_store(address)), timeout_seconds
        )
    elif own is not None:
        store = cast("CoordinationStore", own)
    else:
        what = "without an App store" if at is None else "with an App whose store is an open adapter"
        msg = f"Coordinator(store=None) {what}: write Coordinator(store='postgresql://…')"
        raise SettingsError(msg)
    if migrate:
        await patiently(store.migrate, timeout_seconds)
    elif isinstance(store, SchemaStore):
        await store.check_schema()
    return store


async def patiently(once: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Return what `once` returns, called again while its database is away, for about that many seconds.

    Raises StoreUnavailable when the time is over; what waiting does not mend at once.
    """
    return await _while_away(once, seconds, StoreUnavailable, "store_timeout_seconds")


async def _while_away(
    once: Callable[[], Awaitable[T]],
    seconds: float,
    away: type[StoreUnavailable | TransportUnavailable],
    setting: str,
) -> T:
    what = "the database" if away is StoreUnavailable else "the transport"
    until = anyio.current_time() + seconds
    pause = PAUSE_SECONDS
    while True:
        try:
            return await once()
        except GrantMissing:
            raise  # a person has to do something
        except away as error:
            left = until - anyio.current_time()
            if left <= 0:
                # The sentence says it all: what it was raised from is a library's inside.
                raise away(f"{error} (waited {seconds:g} s: {setting}=…)") from None
            log.warning("%s is away, trying again for another %.0f s: %s", what, left, error)
        await anyio.sleep(min(pause, left))
        pause = min(PAUSE_CAP_SECONDS, pause * 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Say which databases an app works on, and how it opens them."""

    store: str | Engine | Store | None
    coordinator: Coordinator | None
    migrate: bool
    timeout_seconds: float

    async def open_store(self, stack: AsyncExitStack, definitions: Sequence[ServiceDefinition]) -> Store | None:
        """Open the services' database as `enter_store` does; None without services."""
        if self.store is None or not definitions:
            return None
        timeout = self.timeout_seconds
        return await enter_store(stack, self.store, definitions, migrate=self.migrate, timeout_seconds=timeout)

    async def open_coordination(self, stack: AsyncExitStack) -> CoordinationStore | None:
        """Open the coordinator's database as `enter_coordination` does; None without a coordinator."""
        if self.coordinator is None:
            return None
        own, timeout = self.coordinator.store, self.timeout_seconds
        return await enter_coordination(stack, own, self.store, migrate=self.migrate, timeout_seconds=timeout)

    async def plans(
        self, definitions: Sequence[ServiceDefinition], coordination: CoordinationStore | None
    ) -> tuple[Plan, ...]:
        """Return the plans that the coordinator here stands for; none without one."""
        if self.coordinator is None or coordination is None:
            return ()
        return await own_plans(self.coordinator.plans, definitions, coordination)


# --- plans ------------------------------------------------------------------------------------------------


async def own_plans(
    folder: str | Path | None, definitions: Sequence[ServiceDefinition], coordination: CoordinationStore
) -> tuple[Plan, ...]:
    """Return the plans the coordinator stands for: those of its folder or its services, and all stored before."""
    plans = _plans_in_memory(definitions) if folder is None else load_plans(Path(folder))
    rows = [
        PlanRow(saga=p.saga, version=p.version, revision=p.revision, hash=p.hash, body=plan_to_json(p)) for p in plans
    ]
    if folder is None:
        # Nobody counts revisions of a plan made in memory: the newest code is the newest plan.
        known = [plan_from_json(row.body) for row in await coordination.put_plans(())]
        rows = [_next_revision(row, plan, known) for row, plan in zip(rows, plans, strict=True)]
    return tuple(plan_from_json(row.body) for row in await coordination.put_plans(rows))


def _plans_in_memory(definitions: Sequence[ServiceDefinition]) -> tuple[Plan, ...]:
    manifests = [manifest_of(definition) for definition in definitions]
    sagas = {(s.saga, s.version) for m in manifests for s in m.sagas}
    return tuple(build_plan(name, version, manifests) for name, version in sorted(sagas))


def _next_revision(row: PlanRow, plan: Plan, known: Sequence[Plan]) -> PlanRow:
    versions = [k for k in known if (k.saga, k.version) == (plan.saga, plan.version)]
    same = next((k for k in versions if k.hash == plan.hash), None)
    newest = max((k.revision for k in versions), default=0)
    revision = same.revision if same is not None and same.revision == newest else newest + 1
    body = plan_to_json(replace(plan, revision=revision))
    return PlanRow(saga=row.saga, version=row.version, revision=revision, hash=row.hash, body=body)


def manifests_of(definitions: Sequence[ServiceDefinition]) -> tuple[Manifest, ...]:
    """Return what the services can announce; one whose events have no JSON schema is left out, with a warning."""
    found: list[Manifest] = []
    for definition in definitions:
        try:
            found.append(manifest_of(definition))
        except DeclarationError as error:
            log.warning("%s is not announced: %s", definition.name, error)
    return tuple(found)


def load_plans(folder: Path) -> tuple[Plan, ...]:
    """Read all plan files of a folder; raises PlanError naming the file that cannot be used."""
    files = sorted(folder.glob("*.plan.json")) if folder.is_dir() else []
    if not files:
        msg = f"no *.plan.json in {folder}: write the plans with `saga plan` and commit them"
        raise PlanError([msg])
    plans: list[Plan] = []
    for file in files:
        try:
            plans.append(plan_from_json(file.read_bytes()))
        except PlanError as error:
            raise PlanError([f"{file}: {problem}" for problem in error.problems]) from error
    return tuple(plans)
