"""Run fan-outs, joins, events from outside and child sagas through what a second reader has thought of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

import anyio
import pytest
from trio.testing import MockClock

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.urls import open_coordination_store, open_store
from saga import (
    NOTHING,
    Cause,
    Dependency,
    Ended,
    Ending,
    Event,
    Priority,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
    SettingsError,
)
from saga._core.emit import About
from saga._core.ids import child_id_of, saga_id_of
from saga._core.manifest import manifest_of
from saga._core.plan import topology_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve
from saga._core.words import RunKey, StepKind
from saga._runtime.children import cancel_child
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from saga.desk import SagaDesk
from saga.errors import VerbRefused
from saga.ports import Claim
from tests.runtime.world import Running, VirtualClock, World, running
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

TUNING = Tuning(fetch_timeout_seconds=5, waiting_poll_seconds=5, pending_poll_seconds=5, commit_every_seconds=0)
QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Made(Event, name="made", version=1):
    """Start."""

    number: int = 2


class Part(Event, name="part", version=1):
    """Be an element."""

    number: int


class Left(Event, name="left", version=1):
    """Be one way."""


class Right(Event, name="right", version=1):
    """Be the other."""


class Signed(Event, name="signed", version=1):
    """Come from outside."""

    by: str = "ada"


class Met(Event, name="met", version=1):
    """Be what a join makes."""


class Over(Event, name="over", version=1):
    """Be the end."""


class Asked(Event, name="asked", version=1):
    """Start a child."""

    what: str = "ok"


class No(Refusal, name="no", version=1):
    """Refuse."""


@dataclass
class Small:
    """Be a world of a few declarations; `seen` is what the handlers did."""

    services: list[Service] = field(default_factory=list[Service])
    seen: list[str] = field(default_factory=list[str])
    runs: list[Run] = field(default_factory=list[Run])

    def saw(self, what: str, run: Run) -> None:
        self.seen.append(f"{what}/{run.branch}" if run.branch else what)
        self.runs.append(run)


def up(world: Small, tuning: Tuning = TUNING) -> AbstractAsyncContextManager[Running]:
    return running(cast("World", world), tuning=tuning, coordinating=CoordinatorTuning(tick_seconds=1.0))


# --- events from outside -------------------------------------------------------------------------------------------


def signed_world(world: Small, **options: Any) -> tuple[Any, Any]:
    """Declare start -> left; left + signed -> met -> over, the event from outside at a service of its own."""
    saga = Saga("contract", version=1, **options)
    shop, office = Service("shop"), Service("office")
    world.services += [shop, office]
    place, sign = shop.starts(saga, Made), office.receives(saga, Signed)

    @shop.step(saga, compensation=NOTHING)
    async def left(made: Made, run: Run) -> Left:
        world.saw("left", run)
        return Left()

    @office.join(saga, compensation=NOTHING)
    async def meet(left: Left, signed: Signed, run: Run) -> Met:
        world.saw("meet", run)
        return Met()

    @shop.step(saga, compensation=NOTHING)
    async def over(met: Met, run: Run) -> None:
        world.saw("over", run)

    return place, sign


async def test_an_event_that_came_long_before_does_not_shorten_its_saga() -> None:
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5), forward_window=timedelta(minutes=5))
    async with up(world):
        await sign(Signed(), key="k")
        await anyio.sleep(9 * 60)
        handle = await place(Made(), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert ended.ending is Ending.COMPLETED
        await anyio.sleep(60)
        assert world.seen == ["left", "meet", "over"]
        # The deadline is the saga's, not the one that the event has guessed.
        assert world.runs[1].deadline == world.runs[0].deadline


async def test_an_event_that_came_before_its_own_guess_of_the_expiry() -> None:
    """The guessed expiry has passed when the saga starts."""
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5), forward_window=timedelta(minutes=5))
    async with up(world):
        await sign(Signed(), key="k")
        await anyio.sleep(20 * 60)
        handle = await place(Made(), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert ended.ending is Ending.COMPLETED
        assert world.seen == ["left", "meet", "over"]


async def test_a_join_belongs_to_the_tenant_and_the_lane_of_its_saga() -> None:
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5))
    async with up(world) as run:
        handle = await place(Made(), key="k", tenant="acme", priority=Priority.URGENT)
        await sign(Signed(), saga_id=handle.saga_id)
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        rows = await run.rows("select step, tenant, lane from saga_run where step <> 'office.receive_signed'")
        assert {(row["tenant"], row["lane"]) for row in rows} == {("acme", "urgent")}
        assert {each.tenant for each in world.runs} == {"acme"}


async def test_an_early_event_does_not_say_whose_saga_it_is() -> None:
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5))
    async with up(world) as run:
        await sign(Signed(), saga_id=saga_id_of("contract", "acme", "k"))
        await anyio.sleep(1)
        handle = await place(Made(), key="k", tenant="acme", priority=Priority.URGENT)
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        rows = await run.rows("select step, tenant, lane from saga_run where step <> 'office.receive_signed'")
        assert {(row["tenant"], row["lane"]) for row in rows} == {("acme", "urgent")}
        assert {each.tenant for each in world.runs} == {"acme"}
        assert [row["tenant"] for row in await run.rows("select tenant from saga_instance")] == ["acme"]


async def test_an_event_for_another_saga_is_refused() -> None:
    """Both sagas are started here, so it is known whose ID that is."""
    world = Small()
    saga, other = (
        Saga("contract", version=1, timeout=timedelta(minutes=5)),
        Saga("errand", version=1, timeout=timedelta(minutes=5)),
    )
    shop = Service("shop")
    world.services.append(shop)
    place, run_errand, sign = shop.starts(saga, Made), shop.starts(other, Asked), shop.receives(saga, Signed)

    @shop.join(saga, compensation=NOTHING)
    async def meet(made: Made, signed: Signed, run: Run) -> None:
        world.saw("meet", run)

    @shop.step(other, compensation=NOTHING)
    async def errand(asked: Asked, run: Run) -> None:
        world.saw("errand", run)

    async with up(world) as run:
        handle = await run_errand(Asked(), key="k")
        with pytest.raises(SettingsError, match=r"is of errand\.v1, which does not receive"):
            await sign(Signed(), saga_id=handle.saga_id)
        await anyio.sleep(60)
        assert await run.rows("select * from saga_delivery where reason = 'dead'") == []
        assert await run.rows("select * from saga_run where step = 'shop.receive_signed'") == []
        del place


async def test_an_event_after_the_end_changes_nothing() -> None:
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5))
    async with up(world) as run:
        handle = await place(Made(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPENSATED
        await sign(Signed(), key="k")
        await anyio.sleep(600)
        assert "meet" not in world.seen
        assert [row["phase"] for row in await run.rows("select phase from saga_instance")] == ["compensated"]
        assert await run.rows("select * from saga_delivery") == []


async def test_an_event_of_a_transaction_that_is_rolled_back_was_never_there() -> None:
    world = Small()
    place, sign = signed_world(world, timeout=timedelta(minutes=5))
    async with up(world) as run:
        with suppress(ZeroDivisionError):
            async with run.store.unit(Claim(service="office", sagas=())) as unit:
                await sign(Signed(by="bob"), key="k", connection=unit.connection)
                raise ZeroDivisionError
        handle = await place(Made(), key="k")
        await sign(Signed(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        assert world.seen == ["left", "meet", "over"]


# --- fan-outs --------------------------------------------------------------------------------------------------------


def fan_world(world: Small, **options: Any) -> tuple[Any, Any]:
    """Declare a fan-out whose service gathers nothing, two gathers elsewhere, one of which waits for a signature."""
    saga = Saga("parts", version=1, timeout=timedelta(minutes=5))
    shop, split, press, hall, office = map(Service, ("shop", "split", "press", "hall", "office"))
    world.services += [shop, split, press, hall, office]
    place, sign = shop.starts(saga, Made), office.receives(saga, Signed)

    @split.step(saga)
    async def cut(made: Made, run: Run) -> list[Part]:
        world.saw("cut", run)
        return [Part(number=number) for number in range(made.number)]

    @cut.compensation
    async def uncut(parts: list[Part], run: Run) -> None:
        world.saw("uncut", run)

    @press.step(saga)
    async def stamp(part: Part, run: Run) -> Left | No:
        world.saw("stamp", run)
        return Left()

    @stamp.compensation
    async def unstamp(left: Left, run: Run) -> None:
        world.saw("unstamp", run)

    @hall.join(saga, compensation=NOTHING)
    async def hang(lefts: list[Left], run: Run) -> Right | No:
        world.saw(f"hang {len(lefts)}", run)
        return No() if options.get("refuse") else Right()

    @hall.join(saga, compensation=NOTHING)
    async def count(parts: list[Part], lefts: list[Left], made: Made, signed: Signed, run: Run) -> None:
        world.saw(f"count {len(parts)} {len(lefts)} {[part.number for part in parts]}", run)

    return place, sign


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_several_gathers_of_one_fan_out(number: int) -> None:
    world = Small()
    place, sign = fan_world(world)
    async with up(world):
        handle = await place(Made(number=number), key="k")
        await sign(Signed(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        assert world.seen.count(f"hang {number}") == 1
        assert world.seen.count(f"count {number} {number} {list(range(number))}") == 1


async def test_every_branch_of_a_wide_fan_out_is_undone() -> None:
    world = Small()
    place, _ = fan_world(world, refuse=True)
    async with up(world) as run:
        handle = await place(Made(number=200), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)
        assert sum(each.startswith("unstamp") for each in world.seen) == 200
        assert world.seen[-1] == "uncut"
        assert len({each.idempotency_key for each in world.runs if each.step == "press.stamp"}) >= 200
        assert await run.rows("select * from saga_delivery") == []


# --- child sagas -----------------------------------------------------------------------------------------------------


@dataclass
class Family(Small):
    """Be parents, children and a grandchild for each element: start -> part* -> child(-> grandchild) -> gathered."""

    refuse_at_the_end: bool = False
    child_timeout: timedelta = timedelta(minutes=20)
    child_window: timedelta = timedelta(hours=8)
    timeout: timedelta = timedelta(hours=6)
    completed: Callable[[Run], None] = lambda _run: None
    place: Any = None
    start_child: Any = None
    after: timedelta = timedelta(seconds=1)
    slow_child: timedelta | None = None

    def __post_init__(self) -> None:  # noqa: C901 - one function for each step
        """Declare the family."""
        parent = Saga("parent", version=1, timeout=self.timeout)
        child = Saga("child", version=1, timeout=self.child_timeout, forward_window=self.child_window)
        grandchild = Saga("grandchild", version=1, timeout=self.child_timeout, forward_window=self.child_window)
        shop, yard, den = map(Service, ("shop", "yard", "den"))
        self.services += [shop, yard, den]
        self.place = shop.starts(parent, Made)
        self.start_child = yard.starts(child, Asked)
        start_grandchild = den.starts(grandchild, Asked)

        @shop.step(parent, compensation=NOTHING)
        async def cut(made: Made, run: Run) -> list[Part]:
            return [Part(number=number) for number in range(made.number)]

        @yard.child(parent, self.start_child)
        async def adopt(part: Part, run: Run) -> Asked:
            self.saw("adopt", run)
            return Asked(what="no" if part.number == 7 else "ok")

        @adopt.completed
        async def adopted(end: Ended, run: Run) -> Left:
            self.completed(run)
            self.saw("adopted", run)
            return Left()

        @den.child(child, start_grandchild)
        async def nest(asked: Asked, run: Run) -> Asked:
            self.saw("nest", run)
            return asked

        @nest.completed
        async def nested(end: Ended, run: Run) -> Right:
            return Right()

        @yard.step(child, delay=self.slow_child)
        async def work(right: Right, run: Run) -> None:
            self.saw("work", run)

        @work.compensation
        async def unwork(run: Run) -> None:
            self.saw("unwork", run)

        @den.step(grandchild)
        async def toil(asked: Asked, run: Run) -> Over | No:
            self.saw("toil", run)
            return No() if asked.what == "no" else Over()

        @toil.compensation
        async def untoil(over: Over, run: Run) -> None:
            self.saw("untoil", run)

        @shop.join(parent, compensation=NOTHING)
        async def gather(lefts: list[Left], run: Run) -> Met:
            self.saw("gather", run)
            return Met()

        @shop.step(parent, compensation=NOTHING, delay=self.after)
        async def finish(met: Met, run: Run) -> No | None:
            self.saw("finish", run)
            return No() if self.refuse_at_the_end else None


async def phases(run: Running) -> set[tuple[str, str]]:
    return {(row["saga"], row["phase"]) for row in await run.rows("select saga, phase from saga_instance")}


def all_are(phase: str) -> set[tuple[str, str]]:
    return {(name, phase) for name in ("parent", "child", "grandchild")}


async def test_children_of_children_in_branches_complete_and_are_settled() -> None:
    world = Family()
    async with up(world) as run:
        handle = await world.place(Made(number=3), key="k", tenant="acme", priority=Priority.URGENT)
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        await anyio.sleep(10)
        assert await phases(run) == all_are("completed")
        assert [row["due_at"] for row in await run.rows("select due_at from saga_instance")] == [None] * 7
        assert {(each.tenant) for each in world.runs} == {"acme"}
        assert world.seen.count("gather") == 1


async def test_children_of_children_in_branches_are_undone() -> None:
    world = Family(refuse_at_the_end=True)
    async with up(world) as run:
        handle = await world.place(Made(number=3), key="k", tenant="acme")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPENSATED
        assert await phases(run) == all_are("compensated")
        assert [world.seen.count(each) for each in ("unwork", "untoil")] == [3, 3]


async def test_a_refusal_two_generations_down_undoes_the_parent() -> None:
    world = Family()
    async with up(world) as run:
        handle = await world.place(Made(number=8), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert ended.refused_with(No) is not None
        assert await phases(run) == all_are("compensated")
        assert [world.seen.count(each) for each in ("unwork", "untoil")] == [7, 7]


async def test_a_completed_that_raises_for_ever_does_not_keep_the_parent_from_its_deadline() -> None:
    def breaks(run: Run) -> None:
        msg = f"no way on from {run.step}"
        raise RuntimeError(msg)

    world = Family(completed=breaks, timeout=timedelta(minutes=20))
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        ended = await handle.outcome(timeout_seconds=3600)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.DEADLINE)
        assert await phases(run) == all_are("compensated")
        await anyio.sleep(120)
        assert await run.rows("select * from saga_delivery") == []


async def test_a_child_can_be_undone_for_as_long_as_its_parent_can() -> None:
    """The parent refuses when the child's own times are over."""
    minute = timedelta(minutes=1)
    world = Family(
        refuse_at_the_end=True, after=8 * minute, timeout=12 * minute, child_timeout=3 * minute, child_window=minute
    )
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert ended.ending is Ending.COMPENSATED
        assert await phases(run) == all_are("compensated")


async def test_nobody_undoes_a_child_that_has_completed_but_its_parent() -> None:
    world = Family(after=timedelta(minutes=10))
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        await anyio.sleep(60)
        child_id = child_id_of("child.v1", "", handle.saga_id, RunKey(step="yard.adopt", branch="1of1"))
        with pytest.raises(VerbRefused, match=f"is a part of saga {handle.saga_id}; cancel that one"):
            await run.app.handle(world.start_child, child_id).cancel("I do not like it")
        assert (await handle.outcome(timeout_seconds=3600)).ending is Ending.COMPLETED
        await anyio.sleep(60)
        assert await phases(run) == all_are("completed")


async def test_a_child_is_cancelled_by_code_that_has_lost_its_step() -> None:
    class Forgetful:
        service = "yard"

        def step(self, *_name: object) -> None:
            raise KeyError

    world = Family(slow_child=timedelta(seconds=60))
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        await anyio.sleep(10)
        plan = build_plan("parent", 1, [manifest_of(resolve(service)) for service in world.services])
        (row,) = await run.rows("select * from saga_run where step = 'shop.start'")
        assert row["plan"] == plan.hash
        now = VirtualClock().now()
        about = About(saga_id=handle.saga_id, plan=plan.hash, tenant="", expires_at=now, now=now, traceparent="")
        key = RunKey(step="yard.adopt", branch="1of1")
        async with run.store.unit(Claim(service="yard", sagas=())) as unit:
            (cancel,) = await cancel_child(cast("Any", Forgetful()), unit, topology_of(plan), key, about)
        assert cancel.aggregateid == child_id_of("child.v1", "", handle.saga_id, key)


# --- joins -----------------------------------------------------------------------------------------------------------


@dataclass
class Meeting(Small):
    """Be start -> left, right; left + right -> met (as `kind`, perhaps outside) -> over."""

    options: dict[str, Any] = field(default_factory=dict[str, Any])
    behave: Callable[[Run], None] = lambda _run: None
    refuse: bool = False
    slow: timedelta = timedelta(seconds=30)
    window: timedelta = timedelta(days=7)
    place: Any = None

    def __post_init__(self) -> None:
        """Declare it."""
        saga = Saga("meeting", version=1, timeout=timedelta(minutes=10), forward_window=self.window)
        shop, one, two, hall = map(Service, ("shop", "one", "two", "hall"))
        self.services += [shop, one, two, hall]
        self.place = shop.starts(saga, Made)

        @one.step(saga, compensation=NOTHING)
        async def left(made: Made, run: Run) -> Left:
            return Left()

        @two.step(saga, compensation=NOTHING, delay=self.slow)
        async def right(made: Made, run: Run) -> Right:
            self.saw("right", run)
            return Right()

        @hall.join(saga, retry=QUICK, **self.options)
        async def meet(left: Left, right: Right, run: Run) -> Met:
            self.saw("meet", run)
            self.behave(run)
            return Met()

        if "compensation" not in self.options and self.options.get("kind") is not StepKind.RETRIABLE:

            @meet.compensation
            async def unmeet(left: Left, met: Met, run: Run) -> None:
                self.saw("unmeet", run)

        @shop.step(saga, compensation=NOTHING)
        async def over(met: Met, run: Run) -> No | None:
            self.saw("over", run)
            return No() if self.refuse else None


def fails_twice(run: Run) -> None:
    if run.attempt < 3:
        msg = f"{run.step} fails on attempt {run.attempt}"
        raise RuntimeError(msg)


@pytest.mark.parametrize("calls", [None, Dependency("hall")], ids=["local", "external"])
async def test_a_join_that_fails_is_tried_again_with_all_it_has_gathered(calls: Dependency | None) -> None:
    world = Meeting(options={"calls": calls}, behave=fails_twice)
    async with up(world) as run:
        handle = await world.place(Made(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        assert [each.attempt for each in world.runs if each.step == "hall.meet"] == [1, 2, 3]
        assert await run.rows("select * from saga_delivery") == []


@pytest.mark.parametrize("calls", [None, Dependency("hall")], ids=["local", "external"])
async def test_a_join_is_undone_with_its_inputs(calls: Dependency | None) -> None:
    world = Meeting(options={"calls": calls}, refuse=True)
    async with up(world):
        handle = await world.place(Made(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPENSATED
        assert world.seen == ["right", "meet", "over", "unmeet"]


async def test_a_join_that_is_given_up_fails_once() -> None:
    def breaks(run: Run) -> None:
        raise RuntimeError(run.step)

    world = Meeting(behave=breaks)
    async with up(world) as run:
        handle = await world.place(Made(), key="k")
        ended = await handle.outcome(timeout_seconds=1200)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.FAILED)
        assert world.seen == ["right", "meet", "meet", "meet"]
        rows = await run.rows("select status, attempt from saga_run where step = 'hall.meet'")
        assert [(row["status"], row["attempt"]) for row in rows] == [("failed", 3)]


@dataclass
class Rows:
    """Be a database and a transport that outlive the app on them."""

    store: Any
    coordination: Any
    transport: Any


@asynccontextmanager
async def kept_rows(name: str) -> AsyncGenerator[Rows]:
    url, clock = f"sqlite:///:memory:?name={name}", VirtualClock()
    async with (
        open_store(url, clock=clock) as store,
        open_coordination_store(url, clock=clock) as coordination,
        MemoryTransport() as transport,
    ):
        await store.migrate()
        yield Rows(store=store, coordination=coordination, transport=transport)


def app_on(world: Small, rows: Rows) -> App:
    coordinator = Coordinator(store=rows.coordination, tuning=CoordinatorTuning(tick_seconds=1.0))
    return App(world.services, coordinator=coordinator, store=rows.store, transport=rows.transport, tuning=TUNING)


async def test_a_delay_and_a_half_gathered_join_outlive_their_process() -> None:
    world = Meeting(slow=timedelta(minutes=5))
    async with kept_rows("review_restart") as rows:
        async with app_on(world, rows):
            handle = await world.place(Made(), key="k")
            await anyio.sleep(60)
        assert world.seen == []
        await anyio.sleep(120)
        async with app_on(world, rows) as app:
            await anyio.sleep(60)
            assert world.seen == []
            ended = await app.handle(world.place, handle.saga_id).outcome(timeout_seconds=600)
            assert ended.ending is Ending.COMPLETED
            assert world.seen == ["right", "meet", "over"]


@dataclass
class Later(Small):
    """Be start -> paid (pivot); then paid + signed -> met, which must succeed in the end."""

    behave: Callable[[Run], None] = lambda _run: None
    place: Any = None
    sign: Any = None

    def __post_init__(self) -> None:
        """Declare it."""
        saga = Saga("later", version=1, timeout=timedelta(minutes=10))
        shop, till, hall = map(Service, ("shop", "till", "hall"))
        self.services += [shop, till, hall]
        self.place, self.sign = shop.starts(saga, Made), hall.receives(saga, Signed)

        @till.pivot(saga)
        async def pay(made: Made, run: Run) -> list[Part]:
            return [Part(number=number) for number in range(made.number)]

        @shop.retriable(saga)
        async def send(part: Part, run: Run) -> Left:
            self.saw("send", run)
            return Left()

        @hall.join(saga, kind=StepKind.RETRIABLE, retry=QUICK, within=timedelta(minutes=1))
        async def meet(signed: Signed, lefts: list[Left], run: Run) -> None:
            self.saw("meet", run)
            self.behave(run)


@pytest.mark.parametrize("number", [0, 2])
async def test_after_the_pivot_a_join_waits_and_is_tried_until_it_succeeds(number: int) -> None:
    def fails_nine_times(run: Run) -> None:
        if run.attempt < 10:
            raise RuntimeError(run.step)

    world = Later(behave=fails_nine_times)
    async with up(world):
        handle = await world.place(Made(number=number), key="k")
        await anyio.sleep(3600)
        await world.sign(Signed(), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPLETED
        assert world.seen.count("meet") == 10


async def test_an_external_fan_out_is_undone_with_its_branches() -> None:
    world = Small()
    saga = Saga("outside", version=1, timeout=timedelta(minutes=5))
    shop, till, hall = map(Service, ("shop", "till", "hall"))
    world.services += [shop, till, hall]
    place = shop.starts(saga, Made)
    gateway = Dependency("gateway")
    recorded: list[int] = []

    @till.step(saga, calls=gateway, retry=QUICK)
    async def book(made: Made, run: Run) -> list[Part]:
        world.saw("book", run)
        fails_twice(run)
        return [Part(number=number) for number in range(made.number)]

    @book.recorded
    async def write_down(parts: list[Part], run: Run) -> None:
        recorded.append(len(parts))

    @book.compensation(calls=gateway)
    async def unbook(parts: list[Part], run: Run) -> None:
        world.saw(f"unbook {len(parts)}", run)

    @hall.step(saga, calls=gateway)
    async def seat(part: Part, run: Run) -> Left:
        world.saw("seat", run)
        return Left()

    @seat.compensation(calls=gateway)
    async def unseat(left: Left, part: Part, run: Run) -> None:
        world.saw(f"unseat {part.number}", run)

    @shop.join(saga, compensation=NOTHING)
    async def meet(lefts: list[Left], parts: list[Part], run: Run) -> No | None:
        return No()

    async with up(world):
        handle = await place(Made(number=3), key="k")
        assert (await handle.outcome(timeout_seconds=1200)).ending is Ending.COMPENSATED
        keys = {each.idempotency_key for each in world.runs if each.step == "hall.seat"}
        assert len(keys) == 6  # three calls, three compensations
        assert sorted(world.seen[-4:-1]) == [f"unseat {n}/{n + 1}of3" for n in range(3)]
        assert world.seen[-1] == "unbook 3"
        assert recorded == [3]


# --- held ------------------------------------------------------------------------------------------------------------


async def test_what_arrives_for_a_held_join_goes_on_when_it_is_released() -> None:
    """Held for longer than the saga lasts: one input is there, the other is delayed until then."""
    world = Meeting(window=timedelta(minutes=10))
    async with kept_rows("review_held") as rows, app_on(world, rows) as app, SagaDesk(rows.coordination) as desk:
        handle = await world.place(Made(), key="k")
        await anyio.sleep(10)
        await desk.hold(handle.saga_id, who="ann", why="a look")
        await anyio.sleep(3600)
        assert world.seen == []
        await desk.release(handle.saga_id, who="ann", why="a look")
        ended = await app.handle(world.place, handle.saga_id).outcome(timeout_seconds=600)
        assert ended.ending is Ending.COMPLETED
        assert world.seen == ["right", "meet", "over"]


async def test_the_child_of_a_held_parent_ends_and_the_parent_goes_on_later() -> None:
    world = Family(slow_child=timedelta(seconds=60))
    async with kept_rows("review_held_parent") as rows, app_on(world, rows), SagaDesk(rows.coordination) as desk:
        handle = await world.place(Made(number=2), key="k")
        await anyio.sleep(10)
        await desk.hold(handle.saga_id, who="ann", why="a look")
        await anyio.sleep(300)
        assert world.seen.count("work") == 2
        assert "gather" not in world.seen
        await desk.release(handle.saga_id, who="ann", why="a look")
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPLETED
        assert world.seen.count("gather") == 1


async def test_a_parent_cancelled_while_its_children_run_is_undone_with_them() -> None:
    world = Family(slow_child=timedelta(seconds=60))
    async with up(world) as run:
        handle = await world.place(Made(number=2), key="k")
        await anyio.sleep(10)
        await handle.cancel("never mind")
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPENSATED
        assert await phases(run) == all_are("compensated")
        await anyio.sleep(300)
        assert "work" not in world.seen
        assert world.seen.count("untoil") == 2


@pytest.mark.parametrize("skipped", ["hall.meet", "hall.alone"])
async def test_a_skipped_step_is_undone_by_its_result(skipped: str) -> None:
    """The run has a result, which its compensation takes, and never had all of its input."""
    world = Small()
    saga = Saga("skipped", version=1, timeout=timedelta(minutes=50))
    shop, hall = map(Service, ("shop", "hall"))
    world.services += [shop, hall]
    place, sign = shop.starts(saga, Made), shop.receives(saga, Signed)

    @hall.step(saga, retry=Retry(attempts=1000, base_seconds=5, cap_seconds=5))
    async def alone(made: Made, run: Run) -> Left:
        if run.step == skipped:
            raise RuntimeError(run.step)
        return Left()

    @alone.compensation
    async def unalone(left: Left, run: Run) -> None:
        world.saw("unalone", run)

    @hall.join(saga)
    async def meet(left: Left, signed: Signed, run: Run) -> Met:
        return Met()

    @meet.compensation
    async def unmeet(met: Met, run: Run) -> None:
        world.saw("unmeet", run)

    @shop.step(saga, compensation=NOTHING)
    async def over(met: Met, run: Run) -> No | None:
        return No()

    async with (
        kept_rows(f"review_skip_{skipped}") as rows,
        app_on(world, rows),
        SagaDesk(rows.coordination) as desk,
    ):
        handle = await place(Made(), key="k")
        await anyio.sleep(20)
        result = Met() if skipped == "hall.meet" else Left()
        await desk.skip(handle.saga_id, skipped, result=result, who="ann", why="done by hand")
        if skipped == "hall.alone":
            await sign(Signed(), key="k")
        assert (await handle.outcome(timeout_seconds=3600)).ending is Ending.COMPENSATED
        assert world.seen == ["unmeet", "unalone"]


# --- alternatives, times and versions --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [-1, 0, 3, 9])
async def test_a_list_is_one_of_several_alternatives(number: int) -> None:
    world = Small()
    saga = Saga("either", version=1, timeout=timedelta(minutes=5))
    shop, hall = map(Service, ("shop", "hall"))
    world.services += [shop, hall]
    place = shop.starts(saga, Made)

    @shop.step(saga)
    async def cut(made: Made, run: Run) -> list[Part] | Right | None:
        if made.number < 0:
            return None
        return [Part(number=n) for n in range(made.number)] if made.number < 5 else Right()

    @cut.compensation
    async def uncut(parts: list[Part] | Right | None, run: Run) -> None: ...

    @hall.join(saga, compensation=NOTHING)
    async def gather(parts: list[Part], run: Run) -> Met:
        world.saw(f"gather {len(parts)}", run)
        return Met()

    @hall.step(saga, compensation=NOTHING)
    async def other(right: Right, run: Run) -> Met:
        world.saw("other", run)
        return Met()

    @shop.step(saga, compensation=NOTHING)
    async def over(met: Met, run: Run) -> None:
        world.saw("over", run)

    async with up(world) as run:
        handle = await place(Made(number=number), key="k")
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPLETED
        first = {-1: [], 0: ["gather 0"], 3: ["gather 3"], 9: ["other"]}[number]
        assert world.seen == first + ["over"] * bool(first)
        assert await run.rows("select * from saga_delivery") == []


async def test_a_branch_that_is_late_closes_the_saga() -> None:
    world = Small()
    saga = Saga("late", version=1, timeout=timedelta(hours=5))
    shop, hall = map(Service, ("shop", "hall"))
    world.services += [shop, hall]
    place = shop.starts(saga, Made)

    @shop.step(saga, compensation=NOTHING)
    async def cut(made: Made, run: Run) -> list[Part]:
        return [Part(number=n) for n in range(made.number)]

    @hall.step(
        saga,
        within=timedelta(minutes=2),
        compensation=NOTHING,
        retry=Retry(attempts=10_000, base_seconds=10, cap_seconds=10),
    )
    async def stamp(part: Part, run: Run) -> Left:
        if part.number == 1:
            raise RuntimeError(run.step)
        return Left()

    async with up(world):
        began = anyio.current_time()
        handle = await place(Made(number=3), key="k")
        ended = await handle.outcome(timeout_seconds=3600)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.DEADLINE)
        assert "hall.stamp/2of3" in ended.detail
        assert anyio.current_time() - began < 150


class NewLeft(Event, name="left", version=2):
    """Say more than before."""

    side: str


async def test_a_join_reads_what_an_older_sender_sends() -> None:
    world = Small()
    saga = Saga("versions", version=1, timeout=timedelta(minutes=5))
    shop, one, hall = map(Service, ("shop", "one", "hall"))
    world.services += [shop, one, hall]
    place = shop.starts(saga, Made)

    @one.step(saga, compensation=NOTHING)
    async def cut(made: Made, run: Run) -> list[Part]:
        return [Part(number=n) for n in range(made.number)]

    @one.step(saga, compensation=NOTHING)
    async def left(part: Part, run: Run) -> Left:
        return Left()

    @hall.upcaster
    def grown(old: Left) -> NewLeft:
        return NewLeft(side="sinister")

    @hall.join(saga)
    async def meet(lefts: list[NewLeft], made: Made, run: Run) -> Met:
        world.saw(" ".join(each.side for each in lefts), run)
        return Met()

    @meet.compensation
    async def unmeet(lefts: list[NewLeft], made: Made, run: Run) -> None:
        world.saw(f"un{' '.join(each.side for each in lefts)}", run)

    @shop.step(saga, compensation=NOTHING)
    async def over(met: Met, run: Run) -> No | None:
        return No()

    async with up(world):
        handle = await place(Made(number=2), key="k")
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPENSATED
        assert world.seen == ["sinister sinister", "unsinister sinister"]


# --- two replicas on PostgreSQL --------------------------------------------------------------------------------------

SAGAS = 12


@dataclass
class Crowd(Small):
    """Be a join of a fan-out, two more ways and an event from outside, each from a topic of its own."""

    place: Any = None
    sign: Any = None

    def __post_init__(self) -> None:
        """Declare it; every run writes a row that can be written once."""
        saga = Saga("crowd", version=1, timeout=timedelta(minutes=5))
        shop, one, two, hall = map(Service, ("shop", "one", "two", "hall"))
        self.services += [shop, one, two, hall]
        self.place, self.sign = shop.starts(saga, Made), shop.receives(saga, Signed)

        async def once(run: Run) -> None:
            await run.db.execute("insert into once (run, name) values ($1, $2)", run.saga_id, run.step + run.branch)

        @one.step(saga, compensation=NOTHING)
        async def cut(made: Made, run: Run) -> list[Part]:
            await once(run)
            return [Part(number=number) for number in range(made.number)]

        @two.step(saga, compensation=NOTHING)
        async def right(made: Made, run: Run) -> Right:
            await once(run)
            return Right()

        @two.step(saga, compensation=NOTHING)
        async def stamp(part: Part, run: Run) -> Left:
            await once(run)
            return Left()

        @hall.join(saga, compensation=NOTHING)
        async def meet(lefts: list[Left], parts: list[Part], right: Right, signed: Signed, run: Run) -> Met:
            await once(run)
            self.seen.append(f"{len(lefts)} {[part.number for part in parts]} {signed.by}")
            return Met()

        @shop.step(saga, compensation=NOTHING)
        async def over(met: Met, run: Run) -> None:
            await once(run)


@pytest.mark.postgres
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_replicas_gather_into_one_row(database: str) -> None:
    world, small = Crowd(), PostgresSettings(pool_size=4)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(MemoryTransport())
        stores = [await stack.enter_async_context(PostgresStore(database, settings=small)) for _ in range(2)]
        coordination = await stack.enter_async_context(PostgresCoordinationStore(database, settings=small))
        await stores[0].migrate()
        async with stores[0].unit(Claim(service="hall", sagas=())) as unit:
            await unit.db.execute("create table once (run text, name text, primary key (run, name))")
        for slot, store in enumerate(stores):
            coordinator = Coordinator(store=coordination) if slot == 0 else None
            app = App(world.services, coordinator=coordinator, store=store, transport=transport, slot=str(slot))
            await stack.enter_async_context(app)
        handles: list[Any] = []
        async with anyio.create_task_group() as tasks:
            for number in range(SAGAS):
                tasks.start_soon(partial(world.sign, Signed(by=str(number)), key=str(number)))
                handles.append(await world.place(Made(number=number * 2), key=str(number)))
        with anyio.fail_after(60):
            assert {(await handle.outcome(60)).ending for handle in handles} == {Ending.COMPLETED}
        wanted = [f"{2 * n} {list(range(2 * n))} {n}" for n in range(SAGAS)]
        assert sorted(set(world.seen)) == sorted(wanted)
        async with stores[0].unit(Claim(service="hall", sagas=())) as unit:
            assert await unit.db.fetch("select step, attempt, error from saga_run where attempt > 1") == []
            assert await unit.db.fetch("select * from saga_run where status <> 'done'") == []
