"""Embed sagas: one object that runs services, the coordinator, or both, in any asyncio program."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random, SystemRandom
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from outbox.relay import Relay
from outbox.urls import Engine
from saga._coordinator import Coordinator
from saga._core.declare import Service
from saga._core.keeping import Publishing, Retention, RowCaps
from saga._core.plan import Plan
from saga._core.resolve import resolve_all
from saga._core.start import Start
from saga._core.topics import BREAKERS, MANIFESTS, PLANS
from saga._crew import Crew, Post
from saga._keeping import Keeping
from saga._opening import enter_coordination, enter_store, enter_topics, enter_transport, manifests_of, own_plans
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.coordinator import CoordinatorTuning
from saga._runtime.drift import Announcer, DriftTuning, DriftWatch
from saga._runtime.fleet import Fleet
from saga._runtime.outgrown import MissingSteps, check_outgrown
from saga._runtime.planbook import PlanBook, follow_plans, publish_plans, wait_for_plans
from saga._runtime.sealing import ClaimCheck, Sealing
from saga._runtime.starter import SagaHandle
from saga._runtime.stations import topic_specs
from saga._runtime.supervise import bare, supervised
from saga._runtime.tracing import NullTracer, TracedPublisher
from saga._serving import serve
from saga.desk import SagaDesk
from saga.errors import NotRunning, SettingsError
from saga.ports import CoordinationStore, Publisher, Store, Tracer, Transport
from saga.ports.sealing import PayloadCodec
from saga.telemetry import open_tracer

log = logging.getLogger("saga")

__all__ = [
    "App",
    "Coordinator",
    "CoordinatorTuning",
    "DriftTuning",
    "MissingSteps",
    "Publishing",
    "Retention",
    "RowCaps",
    "SagaHandle",
    "Tuning",
]


class App:
    """Run services and, if asked, a coordinator: `async with app:` inside a program, or `await app.run()`.

    `store` and `transport` are URLs (`sqlite:///file.db`, `postgresql://…`; `memory://`,
    `kafka://host:port`) or open adapters, which the app then uses but does not close. `store` may also be an
    `AsyncEngine` of SQLAlchemy's for postgresql+asyncpg, which stays its owner's too: then handlers have
    `run.session`. A database or a Kafka that is away is waited for: `store_timeout_seconds`,
    `transport_timeout_seconds`. `slot` is this replica's number: it makes group membership static, so it must differ
    between the live replicas of a service and stay the same over restarts. `migrate` brings saga's tables and the
    services' own SQL files up to date when the app comes up. `missing_steps` says what to do when sagas are open that
    need steps which the code of a service no longer has. `retention` says how long rows are kept, `row_caps` how many
    open ones there may be before starts are refused, and `publishing` who publishes: the relay here, or a connector
    that reads PostgreSQL's log. With a `codec` no payload lies or travels in clear; with `claim_check` large ones lie
    beside the messages.
    """

    def __init__(
        self,
        services: Sequence[Service] = (),
        *,
        store: str | Engine | Store | None = None,
        transport: str | Transport,
        coordinator: Coordinator | None = None,
        slot: str = "0",
        plans_timeout_seconds: float = 30.0,
        store_timeout_seconds: float = 30.0,
        transport_timeout_seconds: float = 30.0,
        drain_seconds: float = 10.0,
        partitions: int = 8,
        migrate: bool = True,
        tuning: Tuning | None = None,
        tracer: Tracer | None = None,
        missing_steps: MissingSteps = MissingSteps.REFUSE,
        retention: Retention | None = None,
        row_caps: RowCaps | None = None,
        publishing: Publishing = Publishing.RELAY,
        codec: PayloadCodec | None = None,
        claim_check: ClaimCheck | None = None,
    ) -> None:
        """Check the declarations; raises DeclarationError, SettingsError. Nothing is opened yet."""
        if services and store is None:
            msg = "App(store=None): services need a database; write store='sqlite:///file.db' or 'postgresql://…'"
            raise SettingsError(msg)
        if not services and coordinator is None:
            msg = "App() has nothing to run: give it services, a Coordinator(), or both"
            raise SettingsError(msg)
        self.services = tuple(services)
        self.definitions = resolve_all(self.services)
        self._store_at = store
        self._transport_at = transport
        self._coordinator = coordinator
        self._slot = slot
        self._plans_timeout_seconds = plans_timeout_seconds
        self._store_timeout_seconds = store_timeout_seconds
        self._transport_timeout_seconds = transport_timeout_seconds
        self._drain_seconds = drain_seconds
        self._partitions = partitions
        self._migrate = migrate
        self._tuning = tuning or Tuning()
        self._tracer = tracer
        self._missing_steps = missing_steps
        self._keeping = Keeping(
            retention=retention or Retention(), row_caps=row_caps or RowCaps(), publishing=publishing
        )
        self._sealing = Sealing(codec, claim_check) if codec is not None or claim_check is not None else None
        # Full jitter only: nothing here has to be unguessable, but two processes must not draw alike.
        self._rng = Random(SystemRandom().getrandbits(64))  # noqa: S311 - jitter is no secret
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{self._rng.getrandbits(32):08x}"
        self._names = ", ".join(definition.name for definition in self.definitions) or "coordinator"
        self._stack: AsyncExitStack | None = None
        self._book: PlanBook | None = None
        self._crew: Crew | None = None
        self.drift: DriftWatch | None = None

    # --- life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the adapters, wait for the plans, start the tasks.

        Raises SettingsError, PlanError with what is missing after `plans_timeout_seconds`,
        StoreUnavailable and TransportUnavailable after their timeouts, TransportRefused. An error that ends
        the app later is raised out of the `async with` block.
        """
        if self._stack is not None:
            msg = "this App is running already; make a second App for a second replica"
            raise NotRunning(msg)
        with bare():
            async with AsyncExitStack() as stack:
                await self._come_up(stack)
                self._stack = stack.pop_all()
        log.info("saga is running: %s", self._names)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop intake, finish what is in hand within the budget, publish what is committed, close everything."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        # The caller's own exception goes on as it is; it is not wrapped into our tasks' group.
        theirs = isinstance(exc[1], Exception)
        with bare():
            await stack.__aexit__(*((None, None, None) if theirs else exc))  # type: ignore[arg-type]
        log.info("saga has stopped: %s", self._names)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully; for processes that do nothing else."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with self:
                async for _ in signals:
                    break

    def serve(self) -> None:
        """Run until SIGTERM or SIGINT, on uvloop where it is installed; blocks, for processes that do nothing else.

        Python's collector looks at every 50,000 new objects instead of every 700. Raises as `run`.
        """
        serve(self.run)

    async def _come_up(self, stack: AsyncExitStack) -> None:
        transport = await enter_transport(stack, self._transport_at)
        tracer = self._tracer or open_tracer()
        book = self._book = PlanBook(self.definitions)
        store = await self._enter_store(stack)
        coordination = await self._enter_coordination(stack)
        self._keeping.arrange(store, coordination)
        plans = await self._own_plans(coordination)
        for plan in plans:
            book.learn(plan)
        specs = topic_specs(self.definitions, plans, self._partitions)
        await enter_topics(transport, specs, self._transport_timeout_seconds)
        publisher: Publisher = await stack.enter_async_context(transport.publisher())
        if not isinstance(tracer, NullTracer):
            publisher = TracedPublisher(publisher, tracer)
        if plans:
            await publish_plans(publisher, plans)
        announcer = Announcer(publisher, manifests_of(self.definitions), self._slot)
        stack.push_async_callback(announcer.take_back)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.push_async_callback(self._stop, tasks)
        tasks.start_soon(supervised, f"follow {PLANS}", lambda: follow_plans(transport, book), self._rng)
        await wait_for_plans(book, self._plans_timeout_seconds)
        await check_outgrown(store, book, self.definitions, self._missing_steps)
        crew = self._crew = Crew(
            post=Post(
                transport=transport,
                book=book,
                tracer=tracer,
                rng=self._rng,
                owner=self._owner,
                slot=self._slot,
                fleet=Fleet(self._slot),
                keeping=self._keeping,
                caps=self._keeping.watch(),
                sealing=self._sealing,
            )
        )
        relay = Relay(store, publisher, owner=self._owner, keyed=store) if store is not None else None
        if store is not None and relay is not None:
            crew.man_services(self.services, self.definitions, store, relay, self._tuning)
            crew.relays.append(relay)
        if coordination is not None and self._coordinator is not None:
            coordinator_relay = Relay(coordination, publisher, owner=self._owner)
            crew.man_coordinator(coordination, coordinator_relay, self._coordinator.tuning)
            crew.relays.append(coordinator_relay)
        crew.start(tasks, store)
        await self._keeping.start(tasks, self._rng, store, coordination, crew.post.caps)
        if self._sealing is not None and self._sealing.ages:
            tasks.start_soon(supervised, "blobs", self._sealing.prune, self._rng)
        self._watch(tasks, crew, publisher, announcer)

    def _watch(self, tasks: TaskGroup, crew: Crew, publisher: Publisher, announcer: Announcer) -> None:
        """Start what the processes of a fleet tell each other beside their sagas."""
        post, rng = crew.post, self._rng
        tasks.start_soon(supervised, f"announce on {MANIFESTS}", announcer.run, rng)
        if crew.shell is not None and self._coordinator is not None:
            shell = crew.shell
            tasks.start_soon(supervised, f"tell paces on {PLANS}", lambda: shell.tell_paces(publisher), rng)
            watch = self.drift = DriftWatch(post.transport, post.book.plans, self._coordinator.drift)
            tasks.start_soon(supervised, f"watch {MANIFESTS}", watch.run, rng)
        if post.fleet.is_needed:
            tasks.start_soon(supervised, f"follow {BREAKERS}", lambda: post.fleet.follow(post.transport), rng)
            tasks.start_soon(supervised, f"speak on {BREAKERS}", lambda: post.fleet.speak(publisher), rng)

    async def _enter_store(self, stack: AsyncExitStack) -> Store | None:
        if self._store_at is None or not self.definitions:
            return None
        return await enter_store(
            stack,
            self._store_at,
            self.definitions,
            migrate=self._migrate,
            timeout_seconds=self._store_timeout_seconds,
        )

    async def _enter_coordination(self, stack: AsyncExitStack) -> CoordinationStore | None:
        if self._coordinator is None:
            return None
        return await enter_coordination(
            stack,
            self._coordinator.store,
            self._store_at,
            migrate=self._migrate,
            timeout_seconds=self._store_timeout_seconds,
        )

    async def _own_plans(self, coordination: CoordinationStore | None) -> tuple[Plan, ...]:
        if self._coordinator is None or coordination is None:
            return ()
        return await own_plans(self._coordinator.plans, self.definitions, coordination)

    async def _stop(self, tasks: TaskGroup) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            await crew.stop(self._drain_seconds)
        tasks.cancel_scope.cancel()

    # --- use ---------------------------------------------------------------------------------------------

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Return the plans this app knows; empty before it has come up."""
        return self._book.plans() if self._book is not None else ()

    def context(self, service: str) -> ServiceContext:
        """Return what a running service's tasks share (counters, waiters); for tests and tools. Raises KeyError."""
        return (self._crew.contexts if self._crew is not None else {})[service]

    def desk(self) -> SagaDesk:
        """Return a desk of this app's coordinator, to be used as `async with app.desk() as desk:`.

        What it sends goes out at once. Raises NotRunning without a running coordinator here.
        """
        if self._crew is None or self._crew.desk is None:
            raise NotRunning("no coordinator runs in this app: open SagaDesk(...) with the URL of its database")
        return self._crew.desk()

    def handle(self, start: Start[Any], saga_id: str) -> SagaHandle:
        """Return the handle of a saga that `start` has started earlier; raises NotRunning."""
        for bound, starter in self._crew.bound if self._crew is not None else ():
            if bound is start:
                return starter.handle(saga_id)
        msg = f"{start.name} is not served by this app, or the app is not running"
        raise NotRunning(msg)
