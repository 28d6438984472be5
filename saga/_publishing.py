"""Run a relay on its own: what is in the outbox of a database goes to a transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio

from outbox.relay import Relay, RelayTuning
from outbox.urls import open_store
from saga._core.plan import Plan
from saga._identity import drawn
from saga._opening import broker_of, enter_store, enter_topics, enter_transport, patiently
from saga._runtime.gauging import Gauges
from saga._runtime.metering import MeasuredPublisher, NullMeter
from saga._runtime.supervise import supervised
from saga._runtime.tracing import NullTracer, TracedPublisher
from saga._serving import until_told
from saga.errors import SettingsError
from saga.ports import Publisher, Store, TopicSpec, Tracer, Transport
from saga.ports.metering import Meter
from saga.telemetry import open_meter, open_tracer

STORE_TIMEOUT_SECONDS = 30.0
TRANSPORT_TIMEOUT_SECONDS = 30.0
DRAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """Say what a relay works on; `topics` are made, and the store is opened only with `opens_store`."""

    store: Store
    transport: str | Transport
    opens_store: bool
    migrate: bool
    tracer: Tracer
    meter: Meter = field(default_factory=open_meter)
    topics: Sequence[TopicSpec] = ()
    tuning: RelayTuning | None = None
    store_timeout_seconds: float = STORE_TIMEOUT_SECONDS
    transport_timeout_seconds: float = TRANSPORT_TIMEOUT_SECONDS
    drain_seconds: float = DRAIN_SECONDS


@asynccontextmanager
async def publishing(what: Publishing) -> AsyncGenerator[Relay]:
    """Publish for as long as the context lasts, then what is committed within the budget.

    Raises SettingsError, SchemaMismatch, StoreUnavailable and TransportUnavailable after their timeouts,
    TransportRefused.
    """
    rng = drawn()
    async with AsyncExitStack() as stack:
        store = what.store
        if what.opens_store:
            await patiently(lambda: stack.enter_async_context(store), what.store_timeout_seconds)
        await enter_store(stack, store, (), migrate=what.migrate, timeout_seconds=what.store_timeout_seconds)
        transport = await enter_transport(stack, what.transport)
        await enter_topics(transport, what.topics, what.transport_timeout_seconds)
        publisher: Publisher = await stack.enter_async_context(transport.publisher())
        if not isinstance(what.tracer, NullTracer):
            publisher = TracedPublisher(publisher, what.tracer)
        publisher = MeasuredPublisher(publisher, what.meter, broker_of(transport))
        relay = Relay(store, publisher, tuning=what.tuning, keyed=store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervised, "relay", relay.run, rng)
            if not isinstance(what.meter, NullMeter):
                gauges = Gauges(what.meter, contexts=(), readers={}, stores=[store], plans=list[Plan])
                tasks.start_soon(supervised, "metrics", gauges.run, rng)
            try:
                yield relay
            finally:
                with anyio.move_on_after(what.drain_seconds, shield=True):
                    await relay.drain(what.drain_seconds)
                tasks.cancel_scope.cancel()


async def relay_until_told(
    store: str, transport: str, *, migrate: bool = False, began: Callable[[], None] = lambda: None
) -> None:
    """Publish what others write into a database until SIGTERM or SIGINT; makes no topics, and tables with `migrate`.

    Calls `began` once it publishes. Raises SettingsError, SchemaMismatch, StoreUnavailable, TransportUnavailable,
    TransportRefused.
    """
    if transport.startswith("memory:"):
        raise SettingsError("--transport memory:// ends with this process: use kafka://host:port")
    what = Publishing(
        store=open_store(store), transport=transport, opens_store=True, migrate=migrate, tracer=open_tracer()
    )
    await until_told(publishing(what), began)
