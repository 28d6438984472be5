"""Hold entities for the life of a saga: wait, queue or refuse, and let go whatever happens in between."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from saga import (
    NOTHING,
    Cause,
    DeclarationError,
    Dependency,
    Ended,
    Ending,
    EntityLock,
    Event,
    LockHeld,
    NotRunning,
    Otherwise,
    Permanent,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
    Start,
)
from saga._runtime.starter import SagaHandle
from saga.ports import Claim, UnitOfWork
from saga.testing import Scenario, scenario, simulate, unit
from saga.testing.faults import Crash, Duplicate, Moment
from tests.contracts.loading import loaded

pytestmark = pytest.mark.anyio

QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)
PAY_AFTER = timedelta(minutes=1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Placed(Event, name="order.placed", version=1):
    """Be an order; `pay` and `undo` tell the handlers how to behave."""

    order: str
    skus: tuple[str, ...] = ("lamp",)
    pay: str = "ok"
    undo: str = "ok"


class Reserved(Event, name="stock.reserved", version=1):
    order: str
    skus: tuple[str, ...]
    pay: str
    undo: str


class Paid(Event, name="order.paid", version=1):
    order: str
    skus: tuple[str, ...]


class Packed(Event, name="order.packed", version=1):
    order: str


class Busy(Refusal, name="stock.busy", version=1):
    by: str


class Declined(Refusal, name="card.declined", version=1):
    order: str


@dataclass
class Shop:
    """Declare orders -> inventory.reserve -> payment.pay, a minute later -> inventory.pack, in three processes."""

    lasts: timedelta = timedelta(hours=1)
    pays_after: timedelta = PAY_AFTER
    otherwise: Otherwise = Otherwise.WAIT
    timeout: timedelta | None = None
    writes_first: bool = False
    retry: Retry = QUICK
    fails_at: dict[str, float] = field(default_factory=dict[str, float])
    tried: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    services: Sequence[Service] = field(init=False)
    orders: Service = field(init=False)
    inventory: Service = field(init=False)
    sku: EntityLock = field(init=False)
    place: Start[Placed] = field(init=False)

    def __post_init__(self) -> None:
        saga = Saga("checkout", version=1, timeout=self.lasts)
        orders, inventory, payment = map(Service, ("orders", "inventory", "payment"))
        self.services = (orders, inventory, payment)
        self.orders, self.inventory = orders, inventory
        self.sku = inventory.lock("sku")
        self.place = orders.starts(saga, Placed)

        @inventory.step(saga, retry=self.retry)
        async def reserve(order: Placed, run: Run) -> Reserved | Busy:
            return await self.reserve(order, run)

        @reserve.compensation
        async def release(order: Placed, run: Run) -> None:
            if order.undo == "fail":
                msg = "the goods are broken"
                raise Permanent(msg)
            await run.db.execute("delete from reserved where saga = $1", run.saga_id)

        @payment.step(saga, delay=self.pays_after, compensation=NOTHING)
        async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
            if reserved.pay == "decline":
                return Declined(order=reserved.order)
            return Paid(order=reserved.order, skus=reserved.skus)

        @inventory.step(saga, compensation=NOTHING)
        async def pack(paid: Paid, run: Run) -> Packed:
            for sku in paid.skus:
                await run.lock(self.sku, sku)
            return Packed(order=paid.order)

        @orders.on_end(saga)
        async def settle(ended: Ended, run: Run) -> None: ...

    async def reserve(self, order: Placed, run: Run) -> Reserved | Busy:
        """Take what the order asks for, and try to make a refusal of a wait."""
        self.tried.append((order.order, run.attempt))
        if anyio.current_time() >= self.fails_at.get(order.order, 1e9):
            del self.fails_at[order.order]
            msg = "no electricity"
            raise RuntimeError(msg)
        if self.writes_first:
            await run.db.execute("insert into reserved (saga, name) values ($1, 'before')", run.saga_id)
        try:
            for sku in [*order.skus, *order.skus]:
                await run.lock(self.sku, sku, otherwise=self.otherwise, timeout=self.timeout)
        except LockHeld as held:
            return Busy(by=held.held_by)
        await run.db.execute("insert into reserved (saga, name) values ($1, $2)", run.saga_id, order.order)
        return Reserved(order=order.order, skus=order.skus, pay=order.pay, undo=order.undo)

    async def open(self, s: Scenario) -> None:
        """Create the table that the handlers write."""
        await s.given(self.inventory, "create table reserved (saga text, name text, primary key (saga, name))")


@asynccontextmanager
async def up(shop: Shop) -> AsyncGenerator[Scenario]:
    async with scenario(*shop.services) as s:
        await shop.open(s)
        yield s


async def place(s: Scenario, shop: Shop, order: str, **options: Any) -> Any:
    """Place an order and let it get as far as it gets in a second."""
    handle = await s.when(shop.place(Placed(order=order, **options), key=order))
    await s.pass_time(seconds=1)
    return handle


async def holders(s: Scenario, shop: Shop) -> dict[str, str]:
    rows = await s.rows(shop.inventory, "select entity, saga_id from saga_lock where saga_id <> ''")
    return {row["entity"]: row["saga_id"] for row in rows}


async def reserved(s: Scenario) -> list[str]:
    """Return who has reserved, in the order of the commits."""
    return [saga_id for saga_id, step, _ in s.stage.history.done if step == "inventory.reserve"]


async def check_isolation(s: Scenario) -> None:
    """Raise AssertionError if a saga got an entity before another one that had it has ended."""
    coordination = s.processes["coordinator"].coordination
    assert coordination is not None
    store = s.processes["inventory"].store
    assert store is not None
    got: list[tuple[Any, str]] = []
    for saga_id in dict.fromkeys(await reserved(s)):
        run = await loaded(store, (saga_id, "inventory.reserve", ""))
        assert run is not None
        got.append((run.done_at, saga_id))
    got.sort()
    instances = await coordination.load([saga_id for _, saga_id in got])
    for (_, first), (at, second) in pairwise(got):
        ended_at = instances[first].ended_at
        assert ended_at is not None, f"{second} got what {first} still has"
        assert ended_at <= at, f"{second} got at {at} what {first} had until {ended_at}"


# --- refuse, wait, queue -----------------------------------------------------------------------------------------


async def test_a_step_may_refuse_what_another_saga_holds() -> None:
    shop = Shop(otherwise=Otherwise.REFUSE)
    async with up(shop) as s:
        one = await place(s, shop, "one")
        two = await place(s, shop, "two")
        other = await place(s, shop, "other", skus=("chair",))
        assert await holders(s, shop) == {"lamp": one.saga_id, "chair": other.saga_id}
        ended = await two.outcome(60)
        assert (ended.ending, ended.refused_with(Busy)) == (Ending.COMPENSATED, Busy(by=one.saga_id))
        assert (await one.outcome(600)).ending is Ending.COMPLETED
        assert (await other.outcome(600)).ending is Ending.COMPLETED
        await s.pass_time(seconds=1)
        assert await holders(s, shop) == {}


async def test_a_refusal_holds_nothing_of_what_its_step_has_taken() -> None:
    shop = Shop(otherwise=Otherwise.REFUSE)
    async with up(shop) as s, s.away("coordinator"):
        one = await place(s, shop, "one")
        await place(s, shop, "two", skus=("chair", "lamp"))
        assert await holders(s, shop) == {"lamp": one.saga_id}


@pytest.mark.parametrize("writes_first", [False, True])
@pytest.mark.parametrize("pay", ["ok", "decline"])
async def test_a_step_waits_until_the_saga_before_has_ended(
    pay: str, writes_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(writes_first=writes_first)
    async with up(shop) as s:
        one = await place(s, shop, "one", pay=pay)
        two = await place(s, shop, "two")
        assert await holders(s, shop) == {"lamp": one.saga_id}
        (row,) = await s.rows(shop.inventory, "select reason, attempt, step, error from saga_delivery")
        assert (row["reason"], row["attempt"], row["step"]) == ("locked", 0, "inventory.reserve")
        assert row["error"] == f"waits for sku lamp, held by saga {one.saga_id}"
        with caplog.at_level(logging.WARNING, "saga"):
            assert (await one.outcome(600)).ending is (Ending.COMPLETED if pay == "ok" else Ending.COMPENSATED)
            began = anyio.current_time()
            await s.pass_time(seconds=0.2)
            assert await holders(s, shop) == {"lamp": two.saga_id}
            assert (await two.outcome(600)).ending is Ending.COMPLETED
            assert anyio.current_time() - began < PAY_AFTER.total_seconds() + 10
        assert not caplog.records
        assert set(shop.tried) == {("one", 1), ("two", 1)}
        names = sorted(row["name"] for row in await s.rows(shop.inventory, "select name from reserved"))
        kept = ["two"] if pay == "decline" else ["one", "two"]
        assert names == sorted(kept + ["before"] * len(kept) * writes_first)
        await check_isolation(s)
        await s.pass_time(seconds=1)
        assert await holders(s, shop) == {}
        assert await s.rows(shop.inventory, "select 1 from saga_lock_queue") == []


async def test_a_step_waits_no_longer_than_it_wants_to() -> None:
    shop = Shop(timeout=timedelta(seconds=25))
    async with up(shop) as s:
        one = await place(s, shop, "one")
        began = anyio.current_time()
        two = await place(s, shop, "two")
        ended = await two.outcome(60)
        assert ended.refused_with(Busy) == Busy(by=one.saga_id)
        assert 25 <= anyio.current_time() - began < 30


async def test_who_is_in_the_queue_comes_in_order_and_before_who_comes_later() -> None:
    shop = Shop(otherwise=Otherwise.QUEUE)
    async with up(shop) as s:
        handles = [await place(s, shop, str(number)) for number in range(4)]
        shop.otherwise = Otherwise.WAIT
        async with s.away(shop.inventory):
            # The end of the first and the last order wait for it together.
            await s.pass_time(minutes=2)
            handles.append(await shop.place(Placed(order="4"), key="4"))
            await s.pass_time(seconds=1)
        for handle in handles:
            assert (await handle.outcome(900)).ending is Ending.COMPLETED
        assert await reserved(s) == [handle.saga_id for handle in handles]
        await check_isolation(s)


async def test_who_is_first_keeps_its_place_while_its_step_fails() -> None:
    shop = Shop(otherwise=Otherwise.QUEUE, retry=Retry(attempts=3, base_seconds=20, cap_seconds=20))
    async with up(shop) as s:
        shop.fails_at["two"] = anyio.current_time() + PAY_AFTER.total_seconds()
        one, two = [await place(s, shop, name) for name in ("one", "two")]
        assert (await one.outcome(600)).ending is Ending.COMPLETED
        await s.pass_time(seconds=0.2)
        shop.otherwise = Otherwise.WAIT
        three = await s.when(shop.place(Placed(order="three"), key="three"))
        await s.pass_time(seconds=0.2)
        # It is free and promised.
        assert await holders(s, shop) == {}
        assert shop.tried[-1] == ("three", 1)
        for handle in (two, three):
            assert (await handle.outcome(900)).ending is Ending.COMPLETED
        assert await reserved(s) == [one.saga_id, two.saga_id, three.saga_id]


async def test_who_looks_again_unasked_keeps_its_row() -> None:
    shop = Shop()
    async with up(shop) as s:
        await place(s, shop, "one")
        await place(s, shop, "two")
        before = await s.rows(shop.inventory, "select id, attempt, reason from saga_delivery")
        tried = len(shop.tried)
        await s.pass_time(seconds=30)
        assert 2 <= len(shop.tried) - tried <= 4
        assert await s.rows(shop.inventory, "select id, attempt, reason from saga_delivery") == before


async def test_a_saga_that_ends_while_it_waits_leaves_the_queue() -> None:
    shop = Shop(otherwise=Otherwise.QUEUE)
    async with up(shop) as s:
        one, two, three = [await place(s, shop, name) for name in ("one", "two", "three")]
        await two.cancel("changed my mind")
        assert (await two.outcome(30)).ending is Ending.COMPENSATED
        assert (await one.outcome(600)).ending is Ending.COMPLETED
        began = anyio.current_time()
        assert (await three.outcome(600)).ending is Ending.COMPLETED
        assert anyio.current_time() - began < PAY_AFTER.total_seconds() + 5


async def test_an_entity_that_became_free_in_between_is_not_waited_for() -> None:
    shop = Shop(writes_first=True)
    async with up(shop) as s:
        one = await place(s, shop, "one")
        store = s.processes["inventory"].store
        assert store is not None
        taken = store.unit
        opened: list[bool] = []

        @asynccontextmanager
        async def unit(claim: Claim) -> AsyncGenerator[UnitOfWork]:
            if len(shop.tried) > 1 and not opened:
                # The second order has seen the entity held, and is rolled back: now another replica is told of the end.
                opened.append(True)
                async with taken(Claim(service="inventory", sagas=())) as other:
                    assert await other.release_locks(one.saga_id) == 1
            async with taken(claim) as mine:
                yield mine

        store.unit = unit  # type: ignore[method-assign]
        two = await s.when(shop.place(Placed(order="two"), key="two"))
        await s.pass_time(seconds=0.2)
        assert opened
        assert await holders(s, shop) == {"lamp": two.saga_id}


# --- letting go --------------------------------------------------------------------------------------------------


async def test_services_that_share_a_database_hear_of_an_end_each_by_itself() -> None:
    shop = Shop()
    settled: list[str] = []

    async def settle(ended: Ended, run: Run) -> None:
        settled.append(ended.saga_id)

    (on_end,) = shop.orders.declared.ends
    shop.orders.declared.ends[:] = []
    shop.orders.on_end(on_end[0])(settle)
    for first, second in ((shop.orders, shop.inventory), (shop.inventory, shop.orders)):
        settled.clear()
        async with scenario((first, second), shop.services[2]) as s:
            await shop.open(s)
            one = await place(s, shop, "one")
            assert (await one.outcome(600)).ending is Ending.COMPLETED
            await s.pass_time(seconds=1)
            assert await holders(s, shop) == {}
            assert settled == [one.saga_id]


async def test_a_stuck_saga_keeps_what_it_holds() -> None:
    shop = Shop(lasts=timedelta(minutes=5))
    async with up(shop) as s:
        one = await place(s, shop, "one", pay="decline", undo="fail")
        two = await place(s, shop, "two")
        assert (await one.outcome(600)).ending is Ending.STUCK
        ended = await two.outcome(7200)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.DEADLINE)
        assert await holders(s, shop) == {"lamp": one.saga_id}


async def test_an_outcome_that_comes_again_frees_nothing_of_another_saga() -> None:
    shop = Shop()
    async with up(shop) as s:
        s.arm(Duplicate(process="coordinator", number=1, seconds=10))
        one = await place(s, shop, "one")
        two = await place(s, shop, "two")
        assert (await one.outcome(600)).ending is Ending.COMPLETED
        await s.pass_time(seconds=20)
        assert [type(fault) for fault in s.stage.struck] == [Duplicate]
        assert await holders(s, shop) == {"lamp": two.saga_id}


async def test_it_is_let_go_whatever_keeps_the_starter_from_hearing_of_it() -> None:
    saga = Saga("checkout", version=1, timeout=timedelta(hours=1))
    desk = Service("desk")
    lock = desk.lock("customer")
    place = desk.starts(saga, Placed)

    @desk.step(saga, compensation=NOTHING)
    async def greet(order: Placed, run: Run) -> Packed:
        await run.lock(lock, "ada")
        return Packed(order=order.order)

    @desk.on_end(saga)
    async def settle(ended: Ended, run: Run) -> None: ...

    async with scenario(desk) as s:
        s.fail(settle, times=20)
        one = await s.when(place(Placed(order="one"), key="one"))
        await s.pass_time(seconds=10)
        assert 2 <= s.called(settle) < 20
        assert await s.rows(desk, "select 1 from saga_lock where saga_id <> ''") == []
        assert (await one.outcome(3600)).ending is Ending.COMPLETED


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_crash_changes_nothing(moment: Moment) -> None:
    shop = Shop(otherwise=Otherwise.QUEUE)
    async with up(shop) as s:
        for number in (2, 4, 6, 9):
            s.arm(Crash(process="inventory", moment=moment, number=number))
        handles = [await place(s, shop, name) for name in ("one", "two", "three")]
        for handle in handles:
            assert (await handle.outcome(900)).ending is Ending.COMPLETED
        assert len(s.stage.struck) >= 3
        await check_isolation(s)
        await s.pass_time(seconds=1)
        assert await holders(s, shop) == {}


def test_whatever_goes_wrong_no_two_open_sagas_hold_one_entity() -> None:
    for otherwise in (Otherwise.WAIT, Otherwise.QUEUE):
        shop = Shop(otherwise=otherwise, lasts=timedelta(minutes=5), pays_after=timedelta(seconds=5))

        async def start(s: Scenario, shop: Shop = shop) -> None:
            await shop.open(s)
            for order, pay in (("one", "ok"), ("two", "decline"), ("three", "ok")):
                await s.when(shop.place(Placed(order=order, pay=pay), key=order))

        async def holds(s: Scenario, shop: Shop = shop) -> None:
            await check_isolation(s)
            assert await holders(s, shop) == {}
            assert await s.rows(shop.inventory, "select 1 from saga_lock_queue") == []

        simulate(shop.services, start, invariant=holds, schedules=12, seed="locks")


# --- child sagas -------------------------------------------------------------------------------------------------


@dataclass
class Agency:
    """Declare trips: a child books the hotel and holds the room; the trip is paid for a minute later."""

    services: Sequence[Service] = field(init=False)
    hotel: Service = field(init=False)
    wish: Start[Placed] = field(init=False)

    def __post_init__(self) -> None:
        trip, stay = (Saga(name, version=1, timeout=timedelta(hours=1)) for name in ("trip", "stay"))
        agency, hotel = Service("agency"), Service("hotel")
        self.services, self.hotel = (agency, hotel), hotel
        room = hotel.lock("room")
        self.wish = agency.starts(trip, Placed)
        staying = agency.starts(stay, Reserved)

        @agency.child(trip, staying)
        async def sleep(order: Placed, run: Run) -> Reserved:
            return Reserved(order=order.order, skus=order.skus, pay=order.pay, undo=order.undo)

        @sleep.completed
        async def slept(ended: Ended, run: Run) -> Paid:
            start = ended.start
            assert isinstance(start, Reserved)
            return Paid(order=start.pay, skus=start.skus)

        @hotel.step(stay, compensation=NOTHING)
        async def book(reserved: Reserved, run: Run) -> Packed:
            await run.lock(room, "7")
            return Packed(order=reserved.order)

        @agency.step(trip, delay=PAY_AFTER, compensation=NOTHING)
        async def pay(paid: Paid, run: Run) -> Declined | None:
            return Declined(order=paid.order) if paid.order == "decline" else None


@pytest.mark.parametrize("pay", ["ok", "decline"])
async def test_a_child_saga_holds_until_its_parent_has_ended(pay: str) -> None:
    agency = Agency()
    async with scenario(*agency.services) as s:
        one = await s.when(agency.wish(Placed(order="one", pay=pay), key="one"))
        await s.pass_time(seconds=5)
        two = await s.when(agency.wish(Placed(order="two"), key="two"))
        await s.pass_time(seconds=40)
        # The stay of the first trip has completed; only its trip has not.
        assert sorted(s.stage.history.phases.values()) == ["ready", "running", "running", "running"]
        assert (await one.outcome(600)).ending is (Ending.COMPLETED if pay == "ok" else Ending.COMPENSATED)
        began = anyio.current_time()
        assert (await two.outcome(600)).ending is Ending.COMPLETED
        assert PAY_AFTER.total_seconds() <= anyio.current_time() - began < PAY_AFTER.total_seconds() + 5
        await s.pass_time(seconds=5)
        assert await s.rows(agency.hotel, "select 1 from saga_lock where saga_id <> ''") == []


# --- several entities ----------------------------------------------------------------------------------------------


async def test_what_one_step_takes_cannot_deadlock() -> None:
    shop = Shop()
    async with up(shop) as s:
        first = await place(s, shop, "first", skus=("lamp",))
        one = await place(s, shop, "one", skus=("chair", "lamp"))
        assert await holders(s, shop) == {"lamp": first.saga_id}
        two = await place(s, shop, "two", skus=("chair",))
        assert await holders(s, shop) == {"lamp": first.saga_id, "chair": two.saga_id}
        for handle in (first, one, two):
            assert (await handle.outcome(900)).ending is Ending.COMPLETED


@dataclass
class Bank:
    """Declare transfers: debit takes `skus`, and credit, after a while, the account named in `undo`."""

    after: timedelta = timedelta(seconds=5)
    services: Sequence[Service] = field(init=False)
    place: Start[Placed] = field(init=False)

    def __post_init__(self) -> None:
        saga = Saga("transfer", version=1, timeout=timedelta(minutes=10))
        bank = Service("bank")
        self.services = (bank,)
        account = bank.lock("account")
        self.place = bank.starts(saga, Placed)

        @bank.step(saga, compensation=NOTHING)
        async def debit(order: Placed, run: Run) -> Reserved:
            for name in order.skus:
                await run.lock(account, name, otherwise=Otherwise.QUEUE)
            return Reserved(order=order.order, skus=order.skus, pay="", undo=order.undo)

        @bank.step(saga, delay=self.after, compensation=NOTHING)
        async def credit(reserved: Reserved, run: Run) -> Packed:
            if reserved.undo != "ok":
                await run.lock(account, reserved.undo, otherwise=Otherwise.QUEUE)
            return Packed(order=reserved.order)

    async def transfer(self, s: Scenario, name: str, *first: str, then: str = "ok") -> SagaHandle:
        """Start one and let a second pass."""
        handle: SagaHandle = await s.when(self.place(Placed(order=name, skus=first, undo=then), key=name))
        await s.pass_time(seconds=1)
        return handle


async def test_a_deadlock_of_two_steps_ends_with_the_sagas_timeout() -> None:
    bank = Bank()
    async with scenario(*bank.services) as s:
        one = await bank.transfer(s, "one", "a", then="b")
        two = await bank.transfer(s, "two", "b", then="a")
        ended = await one.outcome(1200)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.DEADLINE)
        assert (await two.outcome(1200)).ending is Ending.COMPLETED


async def test_who_waits_for_one_entity_keeps_nobody_from_another() -> None:
    bank = Bank(after=timedelta(seconds=20))
    async with scenario(*bank.services) as s:
        one = await bank.transfer(s, "one", "a")
        await s.pass_time(seconds=9)
        # It is the first in the queue of a, and will have to wait for b.
        two = await bank.transfer(s, "two", "a", "b")
        three = await bank.transfer(s, "three", "b", then="a")
        began = anyio.current_time()
        for handle in (one, two, three):
            assert (await handle.outcome(1200)).ending is Ending.COMPLETED
        assert anyio.current_time() - began < 60


# --- where there is no lock to be had ------------------------------------------------------------------------------


async def test_only_a_step_with_a_transaction_takes_entities() -> None:
    saga = Saga("checkout", version=1)
    desk = Service("desk")
    lock = desk.lock("customer")
    place = desk.starts(saga, Placed)
    told: list[str] = []

    async def ask(run: Run) -> None:
        try:
            await run.lock(lock, "ada")
        except NotRunning as error:
            told.append(str(error))

    @desk.step(saga, calls=Dependency("post"), retry=QUICK)
    async def write(order: Placed, run: Run) -> Packed:
        await ask(run)
        return Packed(order=order.order)

    @write.recorded
    async def note(packed: Packed, run: Run) -> None:
        await ask(run)

    @write.compensation
    async def unwrite(packed: Packed, run: Run) -> None:
        await ask(run)

    @desk.step(saga, compensation=NOTHING)
    async def refuse(packed: Packed, run: Run) -> Busy | None:
        return Busy(by="")

    @desk.on_end(saga)
    async def settle(ended: Ended, run: Run) -> None:
        await ask(run)

    async with scenario(desk) as s:
        one = await s.when(place(Placed(order="one"), key="one"))
        assert (await one.outcome(60)).ending is Ending.COMPENSATED
        assert [text.split(":")[0] for text in told] == ["desk.write"] * 3 + ["desk.start"]
        assert all("take the lock in a step before it" in text for text in told)


async def test_what_cannot_be_locked_is_refused_with_a_sentence() -> None:
    shop = Shop()
    other = Service("other").lock("sku")
    entity: Any = 7
    async with unit(shop.inventory) as run:
        for lock, name, timeout, says in (
            (other, "lamp", None, "declare one at this one: `inventory.lock"),
            (shop.sku, "", None, "1 to 512 bytes"),
            (shop.sku, "ü" * 257, None, "1 to 512 bytes"),
            (shop.sku, "a\x00", None, "printable"),
            (shop.sku, entity, None, "str\\(7\\)"),
            (shop.sku, "lamp", timedelta(), "Otherwise.REFUSE"),
        ):
            with pytest.raises(DeclarationError, match=says):
                await run.lock(lock, name, timeout=timeout)
        await run.lock(shop.sku, "ü" * 256)
    with pytest.raises(DeclarationError, match="keep one"):
        shop.inventory.lock("sku")
    with pytest.raises(DeclarationError, match="usable name"):
        shop.inventory.lock("Sku")


async def test_a_handler_can_be_tried_with_an_entity_that_is_held() -> None:
    shop = Shop()
    async with unit(shop.inventory) as run:
        await run.db.execute("create table reserved (saga text, name text)")
        assert isinstance(await shop.reserve(Placed(order="one"), run), Reserved)
        await run.db.execute("update saga_lock set saga_id = 'another'")
        assert await shop.reserve(Placed(order="two"), run) == Busy(by="another")
