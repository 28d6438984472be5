"""Use the outbox alone: events written in a transaction of your own, and published once it has committed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self, cast, overload
from uuid import uuid4

from outbox.joining import Manner, door_to
from outbox.joining.kinds import AwaitedConnection, BlockingConnection
from outbox.relay import Relay, RelayTuning
from outbox.urls import AnyEngine, Engine, is_engine, open_store, url_of
from saga._core.driving import driven
from saga._core.events import Event, check_name
from saga._core.limits import DEFAULT_LIMITS
from saga._core.plain import check_topic, plain_row
from saga._core.rows import Changes, OutboxRow
from saga._core.topics import events_topic
from saga._publishing import (
    DRAIN_SECONDS,
    STORE_TIMEOUT_SECONDS,
    TRANSPORT_TIMEOUT_SECONDS,
    Publishing,
    publishing,
)
from saga._runtime.sealing import ClaimCheck, Sealing
from saga._runtime.supervise import bare
from saga._serving import until_told
from saga.errors import NotRunning, SettingsError
from saga.ports import OpenRows, SpanKind, Store, TopicSpec, Tracer, Transport
from saga.ports.sealing import PayloadCodec
from saga.telemetry import open_tracer
from transports.urls import check_transport

log = logging.getLogger("saga")

__all__ = ["Joined", "JoinedSync", "Outbox", "RelayTuning"]


class Outbox:
    """Write events into your own transactions, and publish them: `async with outbox:` inside an asyncio program.

    `service` is the name that events come from; they go to the topic `<service>.events`, or to one of `topics`.
    `store` is the URL of the database with your own tables (`postgresql://…`, `sqlite:///file.db`), an engine of
    SQLAlchemy's, or an open store; `transport` a URL (`kafka://host:port`, `memory://`) or an open transport, and
    None in a program that only writes. `migrate` makes the outbox's tables when it comes up; `partitions` is for
    topics that do not exist yet. A database or a Kafka that is away is then waited for. With a `codec` payloads are
    sealed, with `claim_check` large ones lie in blobs. Of an engine that is not for postgresql+asyncpg only the URL
    is taken.

    Outside of `async with` events can be written all the same: another process with the same database publishes
    them, an `Outbox`, an `App` or `saga relay`.
    """

    def __init__(
        self,
        service: str,
        *,
        store: str | AnyEngine | Store,
        transport: str | Transport | None = None,
        topics: Sequence[str] = (),
        migrate: bool = True,
        partitions: int = 8,
        store_timeout_seconds: float = STORE_TIMEOUT_SECONDS,
        transport_timeout_seconds: float = TRANSPORT_TIMEOUT_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
        tuning: RelayTuning | None = None,
        tracer: Tracer | None = None,
        codec: PayloadCodec | None = None,
        claim_check: ClaimCheck | None = None,
    ) -> None:
        """Check the settings; raises DeclarationError, SettingsError. Nothing is opened yet."""
        check_name(service, "Outbox", example="orders")
        self.service = service
        self.topic = events_topic(service)
        self.topics = frozenset({self.topic, *(check_topic(topic) for topic in topics)})
        self._opens_store = isinstance(store, str) or is_engine(store)
        self._store = _opened(cast("str | AnyEngine", store)) if self._opens_store else cast("Store", store)
        if isinstance(transport, str):
            check_transport(transport)
        self._transport_at = transport
        self._migrate = migrate
        self._partitions = partitions
        self._store_timeout_seconds = store_timeout_seconds
        self._transport_timeout_seconds = transport_timeout_seconds
        self._drain_seconds = drain_seconds
        self._tuning = tuning
        self._tracer = tracer or open_tracer()
        self._sealing = Sealing(codec, claim_check) if codec is not None or claim_check is not None else None
        self._stack: AsyncExitStack | None = None
        self._relay: Relay | None = None
        self._is_warned = transport is None

    # --- write -------------------------------------------------------------------------------------------

    @overload
    def join(self, connection: AwaitedConnection) -> Joined: ...
    @overload
    def join(self, connection: BlockingConnection) -> JoinedSync: ...
    def join(self, connection: AwaitedConnection | BlockingConnection) -> Joined | JoinedSync:
        """Return what publishes in the transaction that is open on `connection`; nothing is sent yet.

        Takes a connection of asyncpg (also a pool's), psycopg 3 or sqlite3, and a session or connection of
        SQLAlchemy 2 over one of them. `publish` has to be awaited exactly where the connection's own calls do.
        It never commits and never rolls back. Raises SettingsError for anything else.
        """
        if door_to(connection).manner is Manner.AWAITED:
            return Joined(outbox=self, connection=connection)
        return JoinedSync(outbox=self, connection=connection)

    async def write(self, connection: Any, rows: Sequence[OutboxRow]) -> None:
        """Store rows in the open transaction of a connection; published once it has committed. See `Joined.publish`."""
        if not self._is_warned and self._stack is None:
            self._is_warned = True
            log.warning(
                "Outbox(%r) does not run, so nothing publishes here: write `async with outbox:` around, or run "
                "`saga relay`, and leave transport= out of a program that only writes",
                self.service,
            )
        if self._sealing is not None:
            rows = [await self._sealing.close_outbox(row) for row in rows]
        async with self._store.adopt(connection, self.service) as unit:
            seqs = await unit.write(Changes(outbox=tuple(rows)))
            relay = self._relay
            if relay is not None:
                stored = [replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)]
                relay.expect(OpenRows(stored, unit.watch))

    def row(
        self, event: Event, *, key: str | None, topic: str, tenant: str, correlation_id: str, causation_id: str
    ) -> OutboxRow:
        """Return the row of an event, checked; see `Joined.publish`."""
        to = topic or self.topic
        if to not in self.topics:
            msg = f"{self.service}: topic {to!r} is not declared: write Outbox({self.service!r}, …, topics=[{to!r}])"
            raise SettingsError(msg)
        name = getattr(event, "wire_type", "") or "event"
        with self._tracer.span(f"create {name}", SpanKind.PRODUCER, "", {}) as span:
            return plain_row(
                event,
                message_id=str(uuid4()),
                source_service=self.service,
                topic=to,
                key=key,
                tenant=tenant,
                now=datetime.now(UTC),
                traceparent=span.traceparent,
                correlation_id=correlation_id,
                causation_id=causation_id,
                limits=DEFAULT_LIMITS if self._sealing is None else self._sealing.limits,
            )

    # --- publish -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the database and the transport, make tables and topics, and start to publish.

        Raises SettingsError, StoreUnavailable after `store_timeout_seconds`, TransportUnavailable after
        `transport_timeout_seconds`, TransportRefused at once. An error that ends the publishing later is raised out
        of the `async with` block.
        """
        if self._stack is not None:
            msg = f"Outbox({self.service!r}) is running already; make a second one for a second replica"
            raise NotRunning(msg)
        if self._transport_at is None:
            msg = f"Outbox({self.service!r}, transport=None) only writes: give it a transport such as kafka://host:port"
            raise SettingsError(msg)
        self._is_warned = True
        what = Publishing(
            store=self._store,
            transport=self._transport_at,
            opens_store=self._opens_store,
            migrate=self._migrate,
            tracer=self._tracer,
            topics=[TopicSpec(name=topic, partitions=self._partitions) for topic in sorted(self.topics)],
            tuning=self._tuning,
            store_timeout_seconds=self._store_timeout_seconds,
            transport_timeout_seconds=self._transport_timeout_seconds,
            drain_seconds=self._drain_seconds,
        )
        with bare():
            async with AsyncExitStack() as stack:
                self._relay = await stack.enter_async_context(publishing(what))
                self._stack = stack.pop_all()
        log.info("saga is publishing events of %s", self.service)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Publish what is committed, within `drain_seconds`, and close what was opened here."""
        stack, self._stack, self._relay = self._stack, None, None
        if stack is None:
            return
        # The caller's own exception goes on as it is; it is not wrapped into our tasks' group.
        theirs = isinstance(exc[1], Exception)
        with bare():
            await stack.__aexit__(*((None, None, None) if theirs else exc))  # type: ignore[arg-type]
        log.info("saga has stopped publishing events of %s", self.service)

    async def run(self) -> None:
        """Publish until SIGTERM or SIGINT, then stop gracefully; for processes that do nothing else."""
        await until_told(self)


def _opened(at: str | AnyEngine) -> Store:
    """Return the store on a URL or an engine; of another engine than asyncpg's the URL is taken, and no connection."""
    if isinstance(at, str):
        return open_store(at)
    if (at.dialect.name, at.dialect.driver) == ("postgresql", "asyncpg"):
        return open_store(cast("Engine", at))
    return open_store(url_of(at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Publish in the open transaction of a connection whose calls are awaited."""

    outbox: Outbox
    connection: Any

    async def publish(
        self,
        event: Event,
        *,
        key: str | None = None,
        topic: str = "",
        tenant: str = "",
        correlation_id: str = "",
        causation_id: str = "",
    ) -> str:
        """Write an event into the transaction, to be published once that has committed; return its message ID.

        Events with the same `key`, the ID of what they are about, are published in the order in which they were
        written; without a key there is no order. All checks come before the first statement, and leave the
        transaction as it was: raises DeclarationError for what is no declared event, Undecodable for one that does
        not fit its own schema, TooLarge, and SettingsError for the key, the topic or the connection. One round trip;
        the first one over a connection takes two.
        """
        row = self.outbox.row(
            event, key=key, topic=topic, tenant=tenant, correlation_id=correlation_id, causation_id=causation_id
        )
        await self.outbox.write(self.connection, [row])
        return row.id


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedSync:
    """Publish in the open transaction of a connection whose calls block."""

    outbox: Outbox
    connection: Any

    def publish(
        self,
        event: Event,
        *,
        key: str | None = None,
        topic: str = "",
        tenant: str = "",
        correlation_id: str = "",
        causation_id: str = "",
    ) -> str:
        """Write an event into the transaction, in the calling thread; see `Joined.publish`."""
        row = self.outbox.row(
            event, key=key, topic=topic, tenant=tenant, correlation_id=correlation_id, causation_id=causation_id
        )
        driven(self.outbox.write(self.connection, [row]))
        return row.id
