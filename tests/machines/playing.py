"""Play a recorded sequence of steps against a running app, and hold what can be seen against a model of it.

The steps are drawn before anything runs. A rule that awaits something while the machine thinks cannot be had here:
time is virtual, it passes whenever no task can run, and so it would run away between two rules.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, cast
from unittest.mock import patch
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from outbox.urls import open_coordination_store, open_store
from saga import Ended, Ending, KeyConflict, Run, VerbRefused
from saga._core.ids import saga_id_of
from saga._runtime.tracing import NullTracer
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from saga.desk import SagaDesk
from saga.errors import OutcomePending
from saga.ports import Claim, Clock, CoordinationStore, Store, Transport
from tests.machines.steps import (
    Approve,
    ApproveKey,
    Cancel,
    Crash,
    Hold,
    Hurry,
    Kind,
    Order,
    Place,
    Release,
    Restart,
    Step,
    Trouble,
    Wait,
)
from tests.runtime.shapes import Approved, Ordered, ShapeWorld
from tests.runtime.world import Placed, World, make_tables
from transports import MemoryTransport, open_transport

WHO, WHY = "ann", "the machine says so"
HEAVY = "2of3"
APPROVED_IN_TIME_SECONDS = 60.0
# Alarms ring on time; these polls only find what a dead life has left behind. Positions are committed late, so that
# a life that dies leaves much to be delivered again.
TUNING = Tuning(
    fetch_timeout_seconds=20,
    waiting_poll_seconds=20,
    pending_poll_seconds=20,
    beat_seconds=15,
    commit_every_seconds=3,
)
COORDINATOR_TUNING = CoordinatorTuning(tick_seconds=5)


class SteadyApp(App):
    """Draw the same jitter every time."""

    def __init__(self, *args: Any, seed: int, **options: Any) -> None:
        super().__init__(*args, tracer=NullTracer(), **options)
        self._rng = Random(seed)

    def die(self) -> None:
        """Who is killed drains nothing."""
        self._drain_seconds = 0.0


@dataclass
class Known:
    """Be what the model knows of one saga."""

    saga_id: str
    order: Order
    placed_at: float
    approved: str = ""
    approved_at: float | None = None
    disturbed: bool = False
    held: bool = False
    ended: Ending | None = None
    when_still: set[str] | None = None

    def endings(self) -> set[Ending]:
        """Return how it may end."""
        if self.order.is_lost:
            return {Ending.COMPENSATED}
        if self.order.kind is Kind.SHAPE and self.approved_at is None:
            return {Ending.COMPENSATED}
        in_time = self.approved_at is None or self.approved_at <= self.placed_at + APPROVED_IN_TIME_SECONDS
        if self.disturbed or not in_time:
            return {Ending.COMPLETED, Ending.COMPENSATED}
        return {Ending.COMPLETED}

    def effects(self) -> set[str]:
        """Return the rows that a completed saga leaves under its own ID."""
        if self.order.kind is Kind.SIMPLE:
            return {"reserve", "ship"}
        return {
            "leave",
            "load",
            "pack",
            *(f"weigh/{n}of{self.order.parcels}" for n in range(1, self.order.parcels + 1)),
        }


Opened = Callable[[], AbstractAsyncContextManager[tuple[Store, CoordinationStore, Transport]]]
"""Open what one life of the app works on; what is stored outlives it."""


@dataclass(kw_only=True)
class Life:
    """Be one life of the app: up until it is stopped or dies."""

    app: SteadyApp
    opened: Opened
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    stopping: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    store: Store | None = None


@dataclass(kw_only=True)
class Play:
    """Be one example: a world, the app that runs it, and what is known of its sagas."""

    opened: Opened
    tasks: TaskGroup
    tuning: Tuning
    coordinator_tuning: CoordinatorTuning
    patience_seconds: float
    longest_wait_seconds: float = 10_000.0
    partitions: int = 2
    salt: str = ""
    """What this example puts before every key, where examples share a database."""
    world: World = field(default_factory=World)
    shapes: ShapeWorld = field(default_factory=lambda: ShapeWorld(heavy=HEAVY))
    with_shapes: bool = True
    sagas: list[Known] = field(default_factory=list[Known])
    keys: dict[tuple[Kind, str], Known] = field(default_factory=dict[tuple[Kind, str], Known])
    early: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    troubled: bool = False
    lives: int = 0
    life: Life | None = None

    # --- lives ----------------------------------------------------------------------------------------------------

    async def come_up(self) -> None:
        up = anyio.Event()
        self.tasks.start_soon(self._live, up)
        await up.wait()

    async def _live(self, up: anyio.Event) -> None:
        self.lives += 1
        async with self.opened() as (store, coordination, transport):
            services = [*self.world.services, *(self.shapes.services if self.with_shapes else ())]
            app = SteadyApp(
                services,
                coordinator=Coordinator(store=coordination, tuning=self.coordinator_tuning),
                store=store,
                transport=transport,
                tuning=self.tuning,
                partitions=self.partitions,
                seed=self.lives,
            )
            life = self.life = Life(app=app, opened=self.opened, store=store)
            with life.scope:
                async with app:
                    up.set()
                    await life.stopping.wait()
        life.over.set()

    async def stop(self) -> None:
        life = self._life
        life.stopping.set()
        await life.over.wait()

    async def crash(self) -> None:
        life = self._life
        life.app.die()
        life.scope.cancel()
        await life.over.wait()

    @property
    def _life(self) -> Life:
        assert self.life is not None
        return self.life

    async def rows(self, sql: str, *args: object) -> list[Any]:
        store = self._life.store
        assert store is not None
        async with store.unit(Claim(service="reader", sagas=())) as unit:
            return list(await unit.db.fetch(sql, *args))

    # --- steps ----------------------------------------------------------------------------------------------------

    async def step(self, step: Step) -> None:  # noqa: C901, PLR0912 - one case for each kind
        match step:
            case Place():
                await self._place(step)
            case Approve(by=by):
                saga = self._picked(step.pick, Kind.SHAPE)
                if saga is not None:
                    await self._approve(by, saga.saga_id)
            case ApproveKey(by=by, key=key):
                if self.with_shapes:
                    await self._approve(by, saga_id_of("delivery", "", f"{self.salt}{key}"))
            case Cancel():
                saga = self._picked(step.pick)
                if saga is not None:
                    saga.disturbed = True
                    await self._handle(saga).cancel("changed my mind")
            case Wait(seconds=seconds):
                await anyio.sleep(min(seconds, self.longest_wait_seconds))
            case Crash() | Restart():
                for saga in self.sagas:
                    saga.disturbed = True
                await (self.crash() if isinstance(step, Crash) else self.stop())
                await self.come_up()
            case Trouble():
                self.troubled = True
                for saga in self.sagas:
                    saga.disturbed = True
                self.world.behaviour[step.step] = _troubled(step)
            case Hold() | Release() | Hurry():
                saga = self._picked(step.pick)
                if saga is not None:
                    await self._act(step, saga)

    def _picked(self, pick: int, kind: Kind | None = None) -> Known | None:
        sagas = [saga for saga in self.sagas if kind is None or saga.order.kind is kind]
        return sagas[pick % len(sagas)] if sagas else None

    def _handle(self, saga: Known) -> Any:
        start: Any = self.world.place if saga.order.kind is Kind.SIMPLE else self.shapes.place
        return self._life.app.handle(start, saga.saga_id)

    async def _place(self, step: Place) -> None:
        order, key = step.order, step.key
        if order.kind is Kind.SHAPE and not self.with_shapes:
            return
        known = self.keys.get((order.kind, key)) if key else None
        try:
            handle = await self._start(order, f"{self.salt}{key}" if key else None)
        except KeyConflict:
            assert known is not None, "a fresh key was refused"
            assert known.order != order
            return
        if known is not None:
            assert (handle.saga_id, order) == (known.saga_id, known.order)
            return
        assert all(saga.saga_id != handle.saga_id for saga in self.sagas), "two sagas with one ID"
        saga = Known(saga_id=handle.saga_id, order=order, placed_at=anyio.current_time(), disturbed=self.troubled)
        if saga.saga_id in self.early:
            saga.approved, saga.approved_at = self.early[saga.saga_id]
        self.sagas.append(saga)
        if key:
            self.keys[order.kind, key] = saga

    async def _start(self, order: Order, key: str | None) -> Any:
        if order.kind is Kind.SIMPLE:
            payload = Placed(order="1", reserve=order.reserve, capture=order.capture, ship=order.ship)
            return await self.world.place(payload, key=key)
        return await self.shapes.place(Ordered(parcels=order.parcels, hotel=order.hotel), key=key)

    async def _approve(self, by: str, saga_id: str) -> None:
        """The first event counts; the same one again changes nothing, another one is refused."""
        first = self.early.get(saga_id, ("", 0.0))[0]
        try:
            await self.shapes.approve(Approved(by=by), saga_id=saga_id)
        except KeyConflict:
            assert first not in ("", by), "a first event was refused"
            return
        assert first in ("", by), "two events of one saga"
        if not first:
            self.early[saga_id] = (by, anyio.current_time())
        for saga in self.sagas:
            if saga.saga_id == saga_id and not saga.approved:
                saga.approved, saga.approved_at = self.early[saga_id]

    async def _act(self, step: Hold | Release | Hurry, saga: Known) -> None:
        saga.disturbed = True
        try:
            async with self._desk() as desk:
                match step:
                    case Hold():
                        await desk.hold(saga.saga_id, who=WHO, why=WHY)
                        saga.held = True
                    case Release():
                        saga.held, saga.when_still = False, None
                        await desk.release(saga.saga_id, who=WHO, why=WHY)
                    case Hurry():
                        await desk.retry(saga.saga_id, who=WHO, why=WHY)
        except VerbRefused as refused:
            told = str(refused)
            # The coordinator hears of a saga a moment after it was placed.
            assert isinstance(step, Hurry) or "has ended" in told or "knows no saga" in told, told

    @asynccontextmanager
    async def _desk(self) -> AsyncGenerator[SagaDesk]:
        async with self._life.app.desk() as desk:
            yield desk

    # --- what holds -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Check what holds at any moment."""
        effects = await self._effects()
        for saga in self.sagas:
            ended = await self._outcome(saga)
            if saga.ended in (Ending.COMPLETED, Ending.COMPENSATED):
                assert ended is not None
                assert ended.ending is saga.ended, f"{saga} ended twice"
            if ended is None:
                continue
            saga.ended = ended.ending
            if ended.ending is not Ending.STUCK:
                effects = await self._effects()
                self._check_ending(saga, effects.get(saga.saga_id, set()))
        self._check_held(await self._effects())

    def _check_ending(self, saga: Known, effects: set[str]) -> None:
        assert saga.ended in saga.endings(), f"{saga} must end as {saga.endings()}"
        wanted = saga.effects() if saga.ended is Ending.COMPLETED else set[str]()
        assert effects == wanted, f"{saga} has left {effects}, not {wanted}"

    def _check_held(self, effects: dict[str, set[str]]) -> None:
        for saga in self.sagas:
            if saga.when_still is not None:
                assert effects.get(saga.saga_id, set()) == saga.when_still, f"{saga} is held and went on"

    async def mark_still(self) -> None:
        """Remember what the held sagas have done so far: nothing is to follow."""
        effects = await self._effects()
        for saga in self.sagas:
            if saga.held and saga.when_still is None:
                saga.when_still = effects.get(saga.saga_id, set())

    async def _effects(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in await self.rows("select run, name from effect"):
            found.setdefault(row["run"], set()).add(row["name"])
        return found

    async def _outcome(self, saga: Known) -> Ended | None:
        try:
            return cast("Ended", await self._handle(saga).outcome(0.05))
        except OutcomePending:
            return None

    async def settle(self) -> None:
        """Let everything come to its end and check what is left behind."""
        for saga in self.sagas:
            if saga.held:
                await self._act(Release(pick=0), saga)
        with anyio.move_on_after(self.patience_seconds):
            for saga in self.sagas:
                while await self._outcome(saga) is None:
                    await self._moment()
            # The last acknowledgements are still on their way when the starter has heard of an ending.
            while await self._left():
                await self._moment()
        await self.look()
        for saga in self.sagas:
            assert saga.ended in (Ending.COMPLETED, Ending.COMPENSATED), f"{saga} has not ended"
        await self._check_left_behind()

    async def _moment(self) -> None:
        await anyio.sleep(min(5.0, self.patience_seconds / 100))

    async def _left(self) -> dict[str, list[Any]]:
        ids = {saga.saga_id for saga in self.sagas}
        runs = await self.rows("select * from saga_run where pending_at is not null")
        due = await self.rows("select saga_id, phase from saga_instance where due_at is not null")
        left = {
            "outbox": await self.rows("select * from saga_outbox"),
            "deliveries": await self.rows("select saga_id, reason, error from saga_delivery"),
            "runs": [(row["saga_id"], row["step"], row["status"], row["undo"]) for row in runs],
            "due": [dict(row) for row in due if row["saga_id"] in ids],
        }
        return {
            name: [dict(row) if hasattr(row, "keys") else row for row in rows] for name, rows in left.items() if rows
        }

    async def _check_left_behind(self) -> None:
        assert not await self._left()
        told = [(row["run"], row["ending"]) for row in await self.rows("select run, ending from ended")]
        for saga in self.sagas:
            if saga.order.kind is Kind.SIMPLE:
                assert saga.ended is not None
                final = [ending for saga_id, ending in told if saga_id == saga.saga_id and ending != "stuck"]
                assert final == [saga.ended.value], f"{saga} was told {final}"
        if not self.with_shapes:
            return
        effects = await self._effects()
        own = {saga.saga_id for saga in self.sagas}
        children = [names for saga_id, names in effects.items() if saga_id not in own]
        completed = [s for s in self.sagas if s.order.kind is Kind.SHAPE and s.ended is Ending.COMPLETED]
        assert children == [{"hotel"}] * len(completed)


def _troubled(step: Trouble) -> Callable[[Run], Any]:
    left = count(1)

    def behave(run: Run) -> Any:
        if next(left) > step.times:
            return None
        if step.hangs:
            return anyio.sleep_forever()
        raise RuntimeError(f"{step.step} fails for now")

    return behave


@asynccontextmanager
async def on_sqlite(address: str, clock: Clock) -> AsyncGenerator[Opened]:
    """Keep a database for all lives of an example; every life has a broker of its own, that remembers nothing."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[tuple[Store, CoordinationStore, Transport]]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(address, clock=clock))
            coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
            transport = await stack.enter_async_context(MemoryTransport())
            yield store, coordination, transport

    async with open_store(address, clock=clock) as store:
        await store.migrate()
        await make_tables(store)
        yield opened


@contextmanager
def quiet() -> Generator[None]:
    """Every handler that is made to fail is logged with its traceback, which takes longer than all the rest."""
    log = logging.getLogger("saga")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@asynccontextmanager
async def on_servers(database: str, bootstrap: str) -> AsyncGenerator[Opened]:
    """Keep a database and the topics of one prefix for all lives of all examples."""
    url = f"kafka://{bootstrap}?prefix={uuid4().hex[:8]}."

    @asynccontextmanager
    async def opened() -> AsyncGenerator[tuple[Store, CoordinationStore, Transport]]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(database))
            coordination = await stack.enter_async_context(open_coordination_store(database))
            transport = await stack.enter_async_context(open_transport(url))
            yield store, coordination, transport

    async with open_store(database) as store:
        await store.migrate()
        await make_tables(store)
    yield opened


async def play(steps: list[Step], opened: Opened, **how: Any) -> None:
    """Play the steps, settle everything, and check; raises AssertionError."""
    numbers = count(1)
    with patch("saga._runtime.starter.uuid4", lambda: f"{how.get('salt', '')}saga-{next(numbers)}"), quiet(), alone():
        async with anyio.create_task_group() as tasks:
            game = Play(opened=opened, tasks=tasks, **how)
            await game.come_up()
            for step in steps:
                await game.step(step)
                if isinstance(step, Wait):
                    if step.seconds >= 10:
                        await game.mark_still()
                    await game.look()
            await game.settle()
            await game.stop()


@contextmanager
def alone() -> Generator[None]:
    """Let the one error out of the group that it has ended."""
    try:
        yield
    except ExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


__all__ = ["COORDINATOR_TUNING", "TUNING", "on_servers", "on_sqlite", "play"]
