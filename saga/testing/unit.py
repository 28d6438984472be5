"""Call one handler as a plain function, with a real database behind its run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from outbox.sqlite import SqliteStore
from outbox.sqlite.unit import SqliteUnit
from saga._core.declare import Service
from saga._core.events import Event
from saga._core.ids import idempotency_key
from saga._core.inbox import published_id
from saga._core.plain import plain_row
from saga._core.resolve import resolve_all
from saga._core.run import Run
from saga._core.step import Step
from saga._core.topics import events_topic
from saga._core.words import Purpose
from saga._runtime.locking import Locking
from saga._runtime.stations import run_user_migrations
from saga.ports import Claim

SAGA_ID = "saga-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Be one plain event that a handler has published, and where it would have gone."""

    event: Event
    key: str | None
    topic: str


class _Outgoing:
    """Take events as a running app does, and keep them."""

    def __init__(self, service: str, tenant: str) -> None:
        self._service = service
        self._tenant = tenant
        self.found: list[Published] = []

    def add(self, event: Event, key: str | None, topic: str | None) -> str:
        """Take an event and return its ID; raises what `Run.publish` does."""
        topic = events_topic(self._service) if topic is None else topic
        row = plain_row(
            event,
            message_id=published_id(SAGA_ID, f"{self._service}.unit", "", "unit", len(self.found)),
            source_service=self._service,
            topic=topic,
            key=key,
            tenant=self._tenant,
            now=datetime.now(UTC),
            traceparent="",
        )
        self.found.append(Published(event=event, key=key, topic=topic))
        return row.id


def published(run: Run) -> tuple[Published, ...]:
    """Return what handlers have published so far with a run of `unit`; call it before its context ends."""
    return tuple(run.outgoing.found) if isinstance(run.outgoing, _Outgoing) else ()


@asynccontextmanager
async def unit(service: Service, *, saga_id: str = SAGA_ID, tenant: str = "") -> AsyncGenerator[Run]:
    """Open one transaction on an empty database in memory with the service's own tables, and yield its run.

    `result = await reserve_stock(OrderPlaced(...), run)`; `run.db` prepares the rows and reads them
    afterwards, and `published(run)` returns what was published. `run_for` makes the run of one step out of it. The
    transaction is committed when the context ends, so that deferred constraints count, and the database is gone.
    Raises DeclarationError, SettingsError.
    """
    (definition,) = resolve_all([service])
    async with SqliteStore(":memory:") as store:
        await store.migrate()
        await run_user_migrations(store, definition)
        async with store.unit(Claim(service=service.name, sagas=(saga_id,))) as door:
            # What waits in a running app raises LockHeld here.
            locks = Locking(
                door,
                saga_id=saga_id,
                step=f"{service.name}.unit",
                message_id="",
                expires_at=datetime.max.replace(tzinfo=UTC),
                poll_seconds=lambda: 0.0,
            )
            outgoing = _Outgoing(service.name, tenant)
            name = f"{service.name}.unit"
            run = Run(saga_id=saga_id, step=name, tenant=tenant, door=door, locks=locks, outgoing=outgoing)
            try:
                yield run
                if isinstance(door, SqliteUnit):
                    await door.flush_sessions()
            finally:
                run.end_turn()
                if isinstance(door, SqliteUnit):
                    await door.close_sessions()


def run_for(
    step: Step[..., Any],
    of: Run | None = None,
    *,
    saga_id: str = "",
    branch: str = "",
    attempt: int = 1,
    purpose: Purpose = Purpose.ACT,
) -> Run:
    """Return what the runtime would hand to `step`: its name, its attempt, its idempotency key.

    It is part of the saga of `of`, and has its open transaction unless the step is declared with
    `calls=`: such a handler has none. Without `of` there is no transaction at all.
    """
    base = of if of is not None else Run(saga_id=SAGA_ID, step=step.name)
    saga_id = saga_id or base.saga_id
    return replace(
        base,
        saga_id=saga_id,
        step=step.name,
        branch=branch,
        attempt=attempt,
        purpose=purpose,
        idempotency_key=idempotency_key(saga_id, step.name, branch),
        door=None if step.declaration.calls is not None else base.door,
        locks=None if step.declaration.calls is not None else base.locks,
        outgoing=None if step.declaration.calls is not None else base.outgoing,
    )
