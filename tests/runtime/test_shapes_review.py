"""Run fan-outs, joins, events from outside and child sagas through what a second reader has thought of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest
from trio.testing import MockClock

from saga import NOTHING, Cause, Dependency, Ended, Ending, Event, Priority, Refusal, Retry, Run, Saga, Service, SettingsError
from saga._core.words import StepKind
from saga.app import CoordinatorTuning, Tuning
from tests.runtime.world import Running, World, running

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
        from saga._core.ids import saga_id_of

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
    saga, other = Saga("contract", version=1, timeout=timedelta(minutes=5)), Saga("errand", version=1, timeout=timedelta(minutes=5))
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
        with pytest.raises(SettingsError, match="is of errand.v1, which does not receive"):
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
        from saga.ports import Claim

        with pytest.raises(ZeroDivisionError):
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
    child_window: timedelta = timedelta(hours=8)
    timeout: timedelta = timedelta(hours=6)
    completed: Callable[[Run], None] = lambda run: None
    place: Any = None
    start_child: Any = None
    after: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        """Declare the family."""
        parent = Saga("parent", version=1, timeout=self.timeout)
        child = Saga("child", version=1, timeout=timedelta(minutes=20), forward_window=self.child_window)
        grandchild = Saga("grandchild", version=1, timeout=timedelta(minutes=10), forward_window=self.child_window)
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

        @yard.step(child)
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
    """The parent refuses an hour later; the child's own times have been over for half of it."""
    world = Family(
        refuse_at_the_end=True, after=timedelta(hours=1), timeout=timedelta(hours=2), child_window=timedelta(minutes=10)
    )
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        ended = await handle.outcome(timeout_seconds=2 * 3600)
        assert ended.ending is Ending.COMPENSATED
        assert await phases(run) == all_are("compensated")


async def test_nobody_undoes_a_child_that_has_completed_but_its_parent() -> None:
    world = Family(after=timedelta(minutes=10))
    async with up(world) as run:
        handle = await world.place(Made(number=1), key="k")
        await anyio.sleep(60)
        (row,) = await run.rows("select saga_id from saga_instance where saga = 'child'")
        from saga._core.ids import child_id_of
        from saga._core.words import RunKey

        child_id = child_id_of("child.v1", "", handle.saga_id, RunKey(step="yard.adopt", branch="1of1"))
        assert row["saga_id"] == child_id
        service = run.app
        del service
        await world.start_child._starters[-1].cancel(child_id, "I do not like it")
        ended = await handle.outcome(timeout_seconds=3600)
        await anyio.sleep(60)
        found = await phases(run)
        assert found in (all_are("completed"), all_are("compensated")), (ended.ending, found)
