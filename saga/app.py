"""Embed sagas: one object that runs services, the coordinator, or both, in any asyncio program."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, Unpack

import anyio
from anyio.abc import TaskGroup

from outbox.urls import Engine
from saga._arranging import AppOptions, arranged, check_runs, settings_here
from saga._coordinator import Coordinator
from saga._core.declare import Service
from saga._core.keeping import Publishing, Retention, RowCaps
from saga._core.plan import Plan
from saga._core.readiness import Readiness, Stage
from saga._core.resolve import resolve_all
from saga._core.start import Start
from saga._core.topics import PLANS
from saga._crew import Crew, Post
from saga._identity import drawn, owner_of
from saga._keeping import Keeping
from saga._opening import Databases, enter_publisher, enter_topics, enter_transport, manifests_of
from saga._probing import Probes, readiness_at
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.coordinator_tuning import CoordinatorTuning
from saga._runtime.drift import Announcer, DriftTuning, DriftWatch
from saga._runtime.fleet import Fleet
from saga._runtime.outgrown import MissingSteps, check_outgrown
from saga._runtime.planbook import PlanBook, follow_plans, publish_plans, wait_for_plans
from saga._runtime.processor import Processor
from saga._runtime.sealing import ClaimCheck, Sealing
from saga._runtime.starter import SagaHandle
from saga._runtime.stations import topic_specs
from saga._runtime.supervise import bare, supervised
from saga._serving import serve, until_told
from saga.desk import SagaDesk
from saga.errors import NotRunning
from saga.ports import Store, Tracer, Transport
from saga.ports.metering import Meter
from saga.ports.sealing import PayloadCodec
from saga.settings import Settings
from saga.telemetry import open_meter, open_tracer

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
    "until_told",
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

    drift: DriftWatch | None = None
    _stack: AsyncExitStack | None = None
    _stage: Stage = Stage.DOWN
    _probes: Probes | None = None
    _book: PlanBook | None = None
    _crew: Crew | None = None

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
        meter: Meter | None = None,
        missing_steps: MissingSteps = MissingSteps.REFUSE,
        retention: Retention | None = None,
        row_caps: RowCaps | None = None,
        publishing: Publishing = Publishing.RELAY,
        codec: PayloadCodec | None = None,
        claim_check: ClaimCheck | None = None,
    ) -> None:
        """Check the declarations; raises DeclarationError, SettingsError. Nothing is opened yet."""
        check_runs(services, store, coordinator)
        self.services = tuple(services)
        self.definitions = resolve_all(self.services)
        self._transport_at = transport
        self._coordinator = coordinator
        self._slot = slot
        self._plans_timeout_seconds = plans_timeout_seconds
        self._transport_timeout_seconds = transport_timeout_seconds
        self._drain_seconds = drain_seconds
        self._partitions = partitions
        self._databases = Databases(
            store=store, coordinator=coordinator, migrate=migrate, timeout_seconds=store_timeout_seconds
        )
        self._tuning = tuning or Tuning()
        self._tracer = tracer
        self._meter = meter
        self._missing_steps = missing_steps
        self._keeping = Keeping(
            retention=retention or Retention(), row_caps=row_caps or RowCaps(), publishing=publishing
        )
        self._sealing = Sealing(codec, claim_check) if codec is not None or claim_check is not None else None
        self._rng = drawn()
        self._processor = Processor()
        self._owner = owner_of(self._rng)
        self._names = ", ".join(definition.name for definition in self.definitions) or "coordinator"

    @classmethod
    def from_env(
        cls,
        services: Sequence[Service] = (),
        *,
        coordinator: Coordinator | None = None,
        settings: Settings | None = None,
        **options: Unpack[AppOptions],
    ) -> Self:
        """Make an app from `SAGA_STORE`, `SAGA_TRANSPORT` and the other variables, or from `settings` read before.

        With a `Coordinator()` it runs one too, on SAGA_PLANS and SAGA_COORDINATOR_STORE; without plans, on those of
        the services here. Raises SettingsError naming the variable that is missing or wrong, DeclarationError.
        """
        found = settings_here() if settings is None else settings
        return cls(services, **arranged(found, services, coordinator, options))

    # --- life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the adapters, wait for the plans, start the tasks.

        Raises SettingsError, PlanError with what is missing after `plans_timeout_seconds`,
        StoreUnavailable and TransportUnavailable after their timeouts, TransportRefused. An error that ends
        the app later is raised out of the `async with` block.
        """
        if self._stack is not None:
            raise NotRunning("this App is running already; make a second App for a second replica")
        self._stage = Stage.STARTING
        try:
            with bare():
                async with AsyncExitStack() as stack:
                    await self._come_up(stack)
                    self._stack = stack.pop_all()
        except BaseException:
            self._stage, self._probes = Stage.DOWN, None
            raise
        self._stage = Stage.RUNNING
        log.info("saga is running: %s", self._names)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop intake, finish what is in hand within the budget, publish what is committed, close everything."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        # The caller's own exception goes on as it is; it is not wrapped into our tasks' group.
        theirs = isinstance(exc[1], Exception)
        self._stage = Stage.STOPPING
        try:
            with bare():
                await stack.__aexit__(*((None, None, None) if theirs else exc))  # type: ignore[arg-type]
        finally:
            self._stage, self._probes = Stage.DOWN, None
        log.info("saga has stopped: %s", self._names)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully; for processes that do nothing else.

        A signal that comes while a database, a broker or plans are still waited for ends that at once.
        """
        await until_told(self)

    def serve(self) -> None:
        """Run until SIGTERM or SIGINT, on uvloop where it is installed; blocks, for processes that do nothing else.

        Python's collector looks at every 50,000 new objects instead of every 700. Raises as `run`.
        """
        serve(self.run)

    async def _come_up(self, stack: AsyncExitStack) -> None:
        transport = await enter_transport(stack, self._transport_at)
        tracer = self._tracer or open_tracer()
        book = self._book = PlanBook(self.definitions)
        probes = self._probes = Probes(book=book, transport=transport)
        databases, coordinator = self._databases, self._coordinator
        probes.awaits = "its database"
        store = probes.store = await databases.open_store(stack, self.definitions)
        coordination = probes.coordination = await databases.open_coordination(stack)
        self._keeping.arrange(store, coordination)
        plans = await databases.plans(self.definitions, coordination)
        for plan in plans:
            book.learn(plan)
        specs = topic_specs(self.definitions, plans, self._partitions)
        probes.awaits = "its transport"
        await enter_topics(transport, specs, self._transport_timeout_seconds)
        publisher = await enter_publisher(stack, transport, tracer)
        if plans:
            await publish_plans(publisher, plans)
        announcer = Announcer(publisher, manifests_of(self.definitions), self._slot)
        stack.push_async_callback(announcer.take_back)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.push_async_callback(self._stop, tasks)
        tasks.start_soon(supervised, f"follow {PLANS}", lambda: follow_plans(transport, book), self._rng)
        probes.awaits = "its plans"
        await wait_for_plans(book, self._plans_timeout_seconds)
        await check_outgrown(store, book, self.definitions, self._missing_steps)
        crew = self._crew = probes.crew = Crew(
            post=Post(
                transport=transport,
                book=book,
                tracer=tracer,
                rng=self._rng,
                processor=self._processor,
                owner=self._owner,
                slot=self._slot,
                fleet=Fleet(self._slot),
                keeping=self._keeping,
                caps=self._keeping.watch(),
                sealing=self._sealing,
                meter=self._meter or open_meter(),
            )
        )
        if store is not None:
            crew.man_services(self.services, self.definitions, store, publisher, self._tuning)
        if coordination is not None and coordinator is not None:
            crew.man_coordinator(coordination, publisher, coordinator.tuning)
        crew.start(tasks, store, coordination)
        await self._keeping.start(tasks, self._rng, store, coordination, crew.post.caps)
        self.drift = crew.confer(tasks, publisher, announcer, coordinator.drift if coordinator is not None else None)

    async def _stop(self, tasks: TaskGroup) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            await crew.stop(self._drain_seconds)
        tasks.cancel_scope.cancel()

    async def readiness(self) -> Readiness:
        """Ask everything the app needs whether it is well: its databases, its transport, its plans, its groups.

        Each is asked for at most two seconds, and an answer counts for one. What is not there yet, while the app comes
        up, is not asked. Never raises for what is not well.
        """
        return await readiness_at(self._stage, self._probes)

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
        starter = self._crew.starter_of(start) if self._crew is not None else None
        if starter is None:
            raise NotRunning(f"{start.name} is not served by this app, or the app is not running")
        return starter.handle(saga_id)
