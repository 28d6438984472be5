from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from saga import Cause, Ending, PlanError, SettingsError
from saga.ports import Claim
from saga.testing import COORDINATOR, EPOCH, Cut, Moment, When, run, scenario
from saga.testing.settling import settle
from tests.testing.shop import OrderPlaced, OutOfStock, Shop

pytestmark = pytest.mark.anyio

STOCK = "select free from stock"


def order(number: int = 1, sku: str = "book") -> OrderPlaced:
    return OrderPlaced(order=f"o-{number}", sku=sku)


# --- given, when, expect -------------------------------------------------------------------------------------


async def test_plays_the_real_handlers_to_the_end(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        await s.given(shop.inventory, "insert into stock (sku, free) values ($1, $2)", "lamp", 1)
        handle = await s.when(shop.place(order(sku="lamp"), key="o-1"))
        ended = await s.expect(handle).completed()
        assert (ended.ending, ended.saga_id) == (Ending.COMPLETED, handle.saga_id)
        await s.expect_rows(shop.inventory, f"{STOCK} where sku = $1", [{"free": 0}], "lamp")
        assert await s.rows(shop.shipping, "select order_id from parcel") == [{"order_id": "o-1"}]
        s.ran(shop.reserve_stock, "payment.capture", shop.ship)
        s.undone()
    assert shop.bank.charges == ["o-1"]


async def test_a_service_has_a_database_of_its_own(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        with pytest.raises(sqlite3.OperationalError, match="no such table: stock"):
            await s.rows(shop.orders, STOCK)


async def test_services_may_share_a_process_and_a_database(shop: Shop) -> None:
    async with scenario((shop.orders, shop.inventory), shop.payment, shop.shipping) as s:
        handle = await s.when(shop.place(order()))
        await s.expect(handle).completed()
        assert await s.rows(shop.orders, STOCK) == [{"free": 2}]


async def test_a_refusal_undoes_the_saga(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        handle = await s.when(shop.place(order(sku="unicorn")))
        ended = await s.expect(handle).compensated(refusal=OutOfStock(sku="unicorn"), cause=Cause.REFUSED)
        assert ended.refused_with(OutOfStock) == OutOfStock(sku="unicorn")


async def test_the_sagas_of_a_scenario_are_told_apart(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        good = await s.when(shop.place(order(1)))
        bad = await s.when(shop.place(order(2, sku="unicorn")))
        await s.expect(good).completed()
        await s.expect(bad).compensated()
        s.ran(shop.reserve_stock, shop.ship, of=good)
        with pytest.raises(AssertionError, match=r"expected shipping\.ship to be done, but shipping\.ship is not"):
            s.ran(shop.ship, of=bad)


async def test_files_can_be_looked_into_afterwards(shop: Shop, tmp_path: Path) -> None:
    async with scenario(*shop.services, folder=tmp_path) as s:
        await s.expect(await s.when(shop.place(order()))).completed()
    with closing(sqlite3.connect(tmp_path / "inventory.db")) as connection:
        assert connection.execute(STOCK).fetchall() == [(2,)]


# --- what a broken expectation says ---------------------------------------------------------------------------


async def test_says_what_happened_instead(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        handle = await s.when(shop.place(order(sku="unicorn")))
        with pytest.raises(AssertionError) as caught:
            await s.expect(handle).completed()
    said = str(caught.value)
    assert 'expected completed, but the saga is compensated, refused with stock.out.v1 {"sku":"unicorn"}' in said
    assert 'inventory.reserve_stock refused: stock.out.v1 {"sku":"unicorn"}' in said
    assert "coordinator: compensated, because of refused" in said


async def test_another_refusal_is_not_the_expected_one(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        handle = await s.when(shop.place(order(sku="unicorn")))
        with pytest.raises(AssertionError, match=r'expected compensated, refused with stock\.out\.v1 \{"sku":"book"\}'):
            await s.expect(handle).compensated(refusal=OutOfStock(sku="book"))
        with pytest.raises(AssertionError, match="because of deadline"):
            await s.expect(handle).compensated(cause=Cause.DEADLINE)
        with pytest.raises(AssertionError, match="expected stuck"):
            await s.expect(handle).stuck()


async def test_other_rows_are_shown(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        with pytest.raises(AssertionError, match=r"expected \[\{'free': 9\}\]\s+found \[\{'free': 3\}\]"):
            await s.expect_rows(shop.inventory, STOCK, [{"free": 9}])


async def test_another_order_is_shown(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        await s.expect(await s.when(shop.place(order()))).completed()
        with pytest.raises(AssertionError, match=r"the order is another; done are: orders\.start, inventory\.reserve"):
            s.ran(shop.ship, shop.reserve_stock)


async def test_a_saga_that_does_not_end_in_time_is_shown(shop: Shop) -> None:
    async with scenario(*shop.services) as s, s.away(COORDINATOR):
        handle = await s.when(shop.place(order()))
        with pytest.raises(AssertionError, match=r"has not ended within 0:00:30(.|\n)*shipping\.ship done"):
            await s.expect(handle, within=timedelta(seconds=30)).completed()


async def test_an_unknown_name_is_refused(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        with pytest.raises(SettingsError, match=r"'inventory\.reserve' is no step(.|\n)*inventory\.reserve_stock"):
            s.fail("inventory.reserve")
        with pytest.raises(SettingsError, match="no process of this scenario"):
            async with s.away("stock"):
                pass


async def test_a_fleet_without_all_services_cannot_come_up(shop: Shop) -> None:
    with pytest.raises(PlanError, match="no service starts it"):
        async with scenario(shop.inventory, shop.payment, shop.shipping):
            pass


async def test_an_error_in_the_test_comes_out_as_it_is(shop: Shop) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scenario(*shop.services):
            _ = 1 / 0


# --- what goes wrong -----------------------------------------------------------------------------------------


async def test_a_step_is_made_to_refuse(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        s.refuse(shop.reserve_stock, OutOfStock(sku="book"))
        first = await s.when(shop.place(order(1)))
        await s.expect(first).compensated(refusal=OutOfStock(sku="book"))
        await s.expect(await s.when(shop.place(order(2)))).completed()


@pytest.mark.parametrize("when", When)
async def test_a_step_is_made_to_fail_and_is_tried_again(shop: Shop, when: When) -> None:
    async with scenario(*shop.services) as s:
        s.fail(shop.reserve_stock, times=2, when=when)
        await s.expect(await s.when(shop.place(order()))).completed()
        assert s.called(shop.reserve_stock) == 3
        assert "inventory.reserve_stock: attempt 2 failed: Injected" in s.tell()
        assert await s.rows(shop.inventory, STOCK) == [{"free": 2}]


async def test_a_failure_for_good_undoes_the_saga(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        s.fail("payment.capture", times=99)
        await s.expect(await s.when(shop.place(order()))).compensated()
        s.undone(shop.release_stock)
        s.undone("inventory.reserve_stock")
        assert await s.rows(shop.inventory, STOCK) == [{"free": 3}]
    assert shop.bank.charges == []


async def test_an_answer_that_is_lost_is_asked_for_again(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        s.fail(shop.capture, when=When.AFTER)
        await s.expect(await s.when(shop.place(order()))).completed()
        assert s.called(shop.capture) == 2
    assert shop.bank.charges == ["o-1"]


@pytest.mark.parametrize("when", When)
async def test_a_step_hangs_until_its_timeout(shop: Shop, when: When) -> None:
    began = time.monotonic()
    async with scenario(*shop.services) as s:
        s.hang(shop.ship, when=when)
        await s.expect(await s.when(shop.place(order()))).completed()
        assert s.now() - EPOCH >= timedelta(seconds=5)
        assert await s.rows(shop.shipping, "select order_id from parcel") == [{"order_id": "o-1"}]
    assert time.monotonic() - began < 5


async def test_settling_waits_for_a_transaction_that_is_open_longer_than_others_wait_for_one(shop: Shop) -> None:
    async with scenario(*shop.services) as s, anyio.create_task_group() as tasks:
        store = next(process.store for process in s.processes.values() if process.store is not None)
        begun = anyio.Event()

        async def keep() -> None:
            async with store.unit(Claim(service="stock", sagas=())):
                begun.set()
                await anyio.sleep(90)

        tasks.start_soon(keep)
        await begun.wait()
        await settle(s)
        assert s.now() - EPOCH >= timedelta(seconds=90)


async def test_an_undo_that_fails_for_good_leaves_the_saga_stuck(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        s.fail(shop.capture, times=99)
        s.fail(shop.release_stock, times=99)
        ended = await s.expect(await s.when(shop.place(order()))).stuck(cause=Cause.UNDO_FAILED)
        assert ended.ending is Ending.STUCK
        with pytest.raises(AssertionError, match=r"inventory\.reserve_stock is not; undone are: none"):
            s.undone(shop.reserve_stock)


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("name", ["orders.start", "inventory.reserve_stock", "payment.capture", "shipping.ship"])
async def test_a_process_dies_and_comes_back(shop: Shop, name: str, moment: Moment) -> None:
    async with scenario(*shop.services) as s:
        if name != "orders.start":
            s.crash(name, moment=moment)
        handle = await s.when(shop.place(order()))
        await s.expect(handle).completed()
        assert (f"FAULT: {name.partition('.')[0]} dies" in s.tell()) == (name != "orders.start")
        assert await s.rows(shop.inventory, STOCK) == [{"free": 2}]
    assert shop.bank.charges == ["o-1"]


async def test_a_dead_process_does_nothing_until_it_is_back(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        s.crash(shop.reserve_stock, moment=Moment.BEFORE_COMMIT, down=timedelta(seconds=20))
        await s.when(shop.place(order()))
        await s.pass_time(seconds=19)
        assert await s.rows(shop.inventory, STOCK) == [{"free": 3}]
        await s.pass_time(seconds=2)
        assert await s.rows(shop.inventory, STOCK) == [{"free": 2}]


async def test_sagas_go_forward_while_the_coordinator_is_away(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        async with s.away(COORDINATOR):
            handle = await s.when(shop.place(order()))
            await s.pass_time(minutes=5)
            s.ran(shop.reserve_stock, shop.capture, shop.ship)
            assert await s.rows(shop.orders, "select ending from ended") == []
        await s.expect(handle).completed()


async def test_the_deadline_passes_while_a_service_is_away(shop: Shop) -> None:
    began = time.monotonic()
    async with scenario(*shop.services) as s:
        async with s.away(shop.inventory):
            handle = await s.when(shop.place(order()))
            await s.pass_time(minutes=2)
        await s.expect(handle).compensated(cause=Cause.DEADLINE)
    assert time.monotonic() - began < 10
    assert shop.bank.charges == []


@pytest.mark.parametrize("number", range(1, 7))
async def test_nothing_is_left_when_the_coordinator_does_not_hear_of_its_commit(shop: Shop, number: int) -> None:
    async with scenario(*shop.services) as s:
        s.arm(Cut(process=COORDINATOR, number=number))
        handle = await s.when(shop.place(order(sku="unicorn")))
        await s.expect(handle).compensated()
        await settle(s)


# --- without pytest ------------------------------------------------------------------------------------------


async def play(shop: Shop) -> tuple[str, float]:
    async with scenario(*shop.services) as s:
        handle = await s.when(shop.place(order()))
        await s.expect(handle).completed()
        await s.pass_time(hours=1)
        return (await handle.outcome()).ending.value, anyio.current_time()


def test_runs_without_pytest(shop: Shop) -> None:
    ending, seconds = run(play, shop)
    assert ending == "completed"
    assert seconds >= 3600 - 1e-6, "the loop takes what is so near for due"


def test_runs_in_real_time_too(shop: Shop) -> None:
    async def soon() -> str:
        async with scenario(*shop.services) as s:
            return (await s.expect(await s.when(shop.place(order()))).completed()).ending.value

    assert anyio.run(soon) == "completed"


async def test_a_refusal_that_a_step_cannot_return_is_refused_at_once(shop: Shop) -> None:
    async with scenario(*shop.services) as s:
        with pytest.raises(SettingsError, match=r"shipping.ship cannot refuse with OutOfStock; its annotation allows"):
            s.refuse(shop.ship, OutOfStock(sku="book"))
