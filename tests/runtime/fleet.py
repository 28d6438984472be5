"""Give the tests of a changing fleet its code of yesterday and of today, and replicas that come and go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio

from saga import Ended, Event, Retry, Run, Saga, Service
from saga._core.manifest import manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga._core.start import Start
from saga.app import App, Coordinator, DriftTuning, Tuning
from saga.ports import Claim, CoordinationStore, Store, Transport

SECONDS = timedelta(seconds=5)
QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)


class Placed(Event, name="order.placed", version=1):
    """Be an order."""

    order: str


class Ordered(Event, name="order.placed", version=2):
    """Be an order as a later version of the code places it."""

    order: str


class Reserved(Event, name="stock.reserved", version=1):
    """Be a reservation."""

    order: str


class SetAside(Event, name="stock.set_aside", version=1):
    """Be a reservation under another name."""

    order: str


class Backordered(Event, name="stock.backordered", version=1):
    """Be what only yesterday's code knows."""

    order: str


class Packed(Event, name="parcel.packed", version=1):
    """Be a parcel, which only today's code knows."""

    order: str


class Shipped(Event, name="parcel.shipped", version=1):
    """Be a parcel on its way."""

    order: str


@dataclass
class Code:
    """Be one version of the code: which plan it makes, and what its handlers have seen.

    Yesterday orders -> inventory -> shipping; today there is packing between the last two. `version` is
    that of the saga; `older` is code whose steps this one keeps besides its own.
    """

    today: bool
    version: int = 1
    starts_with: type[Placed | Ordered] = Placed
    older: Code | None = None
    timeout: timedelta = timedelta(minutes=2)
    reserved_as: str = "stock.reserved"
    behaviour: dict[str, Callable[[Run], Awaitable[None]]] = field(
        default_factory=dict[str, Callable[[Run], Awaitable[None]]]
    )
    seen: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    place: Start[Any] = field(init=False)
    services: dict[str, Service] = field(init=False)

    @property
    def _reserved(self) -> type[Reserved | SetAside]:
        return Reserved if self.reserved_as == "stock.reserved" else SetAside

    def __post_init__(self) -> None:
        """Declare the steps."""
        names = ("orders", "inventory", "packing", "shipping")
        self.services = self.older.services if self.older is not None else {name: Service(name) for name in names}
        saga = Saga("checkout", version=self.version, timeout=self.timeout, forward_window=timedelta(days=7))
        self.place = self.services["orders"].starts(saga, self.starts_with)
        self._declare_ends(saga)
        self._declare_stock(saga)
        self._declare_parcels(saga)

    def _declare_ends(self, saga: Saga) -> None:
        @self.services["orders"].on_end(saga)
        async def settle(end: Ended, run: Run) -> None:
            await run.db.execute("insert into ended (run, ending) values ($1, $2)", run.saga_id, end.ending.value)

    def _declare_stock(self, saga: Saga) -> None:
        async def reserve(order: Any, run: Run) -> Any:
            await self._done("reserve", run)
            return self._reserved(order=order.order)

        # Yesterday's code may say that it is out of stock for now: the plan of today knows no such event.
        emits = self._reserved if self.today else self._reserved | Backordered
        reserve.__annotations__ = {"order": self.starts_with, "run": Run, "return": emits}
        step = self.services["inventory"].step(saga, timeout=SECONDS, retry=QUICK)(reserve)

        async def release(order: Any, run: Run) -> None:
            await run.db.execute("delete from effect where run = $1 and name = 'reserve'", run.saga_id)

        release.__annotations__ = {"order": self.starts_with, "run": Run, "return": None}
        step.compensation(release)

    def _declare_parcels(self, saga: Saga) -> None:
        shipping, packing = self.services["shipping"], self.services["packing"]
        if not self.today:

            @shipping.pivot(saga, timeout=SECONDS, retry=QUICK)
            async def ship(reserved: Reserved, run: Run) -> Shipped:
                await self._done("ship", run)
                return Shipped(order=reserved.order)

            return

        async def pack(reserved: Any, run: Run) -> Packed:
            await self._done("pack", run)
            return Packed(order=reserved.order)

        pack.__annotations__ = {"reserved": self._reserved, "run": Run, "return": Packed}
        step = packing.step(saga, timeout=SECONDS, retry=QUICK)(pack)

        @step.compensation
        async def unpack(packed: Packed, run: Run) -> None:
            await run.db.execute("delete from effect where run = $1 and name = 'pack'", run.saga_id)

        self._declare_shipping(saga, shipping)

    def _declare_shipping(self, saga: Saga, shipping: Service) -> None:
        @shipping.pivot(saga, timeout=SECONDS, retry=QUICK)
        async def ship(packed: Packed, run: Run) -> Shipped:
            await self._done("ship", run)
            return Shipped(order=packed.order)

    async def _done(self, step: str, run: Run) -> None:
        self.seen.append((step, run.saga_id))
        if step in self.behaviour:
            await self.behaviour[step](run)
        await run.db.execute("insert into effect (run, name) values ($1, $2)", run.saga_id, step)

    def plan(self, revision: int = 1) -> Plan:
        """Return the plan of this code's saga version."""
        manifests = [manifest_of(definition) for definition in resolve_all(list(self.services.values()))]
        return build_plan("checkout", self.version, manifests, revision)


def write_plan(folder: Path, plan: Plan) -> Path:
    """Put a plan's file where a coordinator looks for it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{plan.saga}.v{plan.version}.plan.json").write_bytes(plan_to_json(plan))
    return folder


@dataclass
class Replica:
    """Be a running app that ends when it is told to."""

    app: App
    stop: anyio.Event = field(default_factory=anyio.Event)
    gone: anyio.Event = field(default_factory=anyio.Event)

    async def leave(self) -> None:
        """Stop as on SIGTERM, and return once the replica is gone."""
        self.stop.set()
        await self.gone.wait()


@dataclass
class Fleet:
    """Be several replicas on one database and one transport."""

    store: Store
    coordination: CoordinationStore
    transport: Transport
    tasks: Any
    tuning: Tuning
    plans_timeout_seconds: float = 5.0
    drift: DriftTuning | None = None
    replicas: list[Replica] = field(default_factory=list[Replica])
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    async def up(self, services: Sequence[Service], slot: str) -> Replica:
        """Bring a replica of services up; raises what the app raises."""
        return await self._run(
            App(
                services,
                store=self.store,
                transport=self.transport,
                slot=slot,
                tuning=self.tuning,
                plans_timeout_seconds=self.plans_timeout_seconds,
                **self.options,
            )
        )

    async def coordinate(self, plans: Path, slot: str) -> Replica:
        """Bring a coordinator with a folder of plans up."""
        coordinator = Coordinator(plans=plans, store=self.coordination, drift=self.drift)
        return await self._run(App(transport=self.transport, slot=slot, coordinator=coordinator))

    async def _run(self, app: App) -> Replica:
        replica = Replica(app=app)

        async def serve(*, task_status: Any) -> None:
            try:
                async with app:
                    task_status.started()
                    await replica.stop.wait()
            finally:
                replica.gone.set()

        await self.tasks.start(serve)
        self.replicas.append(replica)
        return replica

    async def rows(self, sql: str, *args: object) -> list[Any]:
        """Read rows of any table."""
        async with self.store.unit(Claim(service="orders", sagas=())) as unit:
            return list(await unit.db.fetch(sql, *args))

    async def ended(self, count: int, at_most_seconds: float = 600.0) -> dict[str, str]:
        """Return how each saga ended, by ID, once `count` have."""
        with anyio.fail_after(at_most_seconds):
            while len(rows := await self.rows("select run, ending from ended")) < count:  # noqa: ASYNC110 - a database
                await anyio.sleep(0.25)
        return {row["run"]: row["ending"] for row in rows}

    async def effects(self) -> dict[str, int]:
        """Return how often each effect stands in the database."""
        rows = await self.rows("select name, count(*) as n from effect group by name")
        return {row["name"]: row["n"] for row in rows}


@asynccontextmanager
async def fleet(
    store: Store, coordination: CoordinationStore, transport: Transport, tuning: Tuning
) -> AsyncGenerator[Fleet]:
    """Give a fleet without replicas; what is still running in the end leaves."""
    await store.migrate()
    await coordination.migrate()
    async with store.unit(Claim(service="orders", sagas=())) as unit:
        await unit.db.execute("create table effect (run text, name text, primary key (run, name))")
        await unit.db.execute("create table ended (run text, ending text, primary key (run))")
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        made = Fleet(store=store, coordination=coordination, transport=transport, tasks=tasks, tuning=tuning)
        yield made
        for replica in made.replicas:
            await replica.leave()
