from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from saga import Run
from saga.testing import Scenario, Simulated, simulate
from tests.testing.shop import Bank, OrderPlaced, OutOfStock, Shop

SCHEDULES = 40


class Trial:
    """Place two orders for every schedule and hold that goods, money and parcels add up."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.told: list[str] = []

    async def start(self, s: Scenario) -> None:
        self.shop.bank = Bank()
        for number in (1, 2):
            await s.when(self.shop.place(OrderPlaced(order=f"o-{number}"), key=f"o-{number}"))

    async def adds_up(self, s: Scenario) -> None:
        self.told.append(s.tell())
        rows = await s.rows(self.shop.orders, "select count(*) as n from ended where ending = 'completed'")
        completed = rows[0]["n"]
        free = (await s.rows(self.shop.inventory, "select free from stock"))[0]["free"]
        parcels = (await s.rows(self.shop.shipping, "select count(*) as n from parcel"))[0]["n"]
        found = (len(self.shop.bank.charges), parcels, 3 - free)
        assert found == (completed, completed, completed), f"{completed} completed, but {found} charged, sent, reserved"

    def simulate(self, *, seed: str, schedules: int = SCHEDULES) -> Simulated:
        return simulate(self.shop.services, self.start, invariant=self.adds_up, schedules=schedules, seed=seed)

    def broken(self, seed: str = "fix") -> str:
        with pytest.raises(AssertionError, match="fails:") as caught:
            self.simulate(seed=seed, schedules=200)
        return str(caught.value)


def faults_in(message: str) -> list[str]:
    return re.findall(r"^  \d+\. (.*)", message, re.MULTILINE)


def test_a_shop_without_faults_of_its_own_holds(shop: Shop) -> None:
    trial = Trial(shop)
    simulated = trial.simulate(seed="1")
    assert (simulated.seed, simulated.schedules) == ("1", SCHEDULES)
    assert len(trial.told) == SCHEDULES + 1
    assert simulated.struck.keys() == {"Crash", "Cut", "Delay", "Duplicate", "Fail", "Hang", "Refuse", "Reorder"}


# --- planted bugs --------------------------------------------------------------------------------------------


def test_finds_a_write_outside_of_the_transaction(shop: Shop) -> None:
    reserved: list[str] = []

    async def outside(order: OrderPlaced, run: Run) -> None:
        del run
        reserved.append(order.order)

    shop.before_reserve = outside  # type: ignore[method-assign]
    trial = Trial(shop)

    async def adds_up(s: Scenario) -> None:
        del s
        written, reserved[:] = list(reserved), []
        assert len(written) == len(set(written)), f"reserved twice: {written}"

    trial.adds_up = adds_up  # type: ignore[method-assign]
    message = trial.broken()
    assert "reserved twice: ['o-" in message
    (fault,) = faults_in(message)
    assert "inventory" in fault


def test_finds_an_outside_call_with_a_new_key_for_every_attempt(shop: Shop) -> None:
    numbers = count(1)

    def new_key(run: Run) -> str:
        return f"{run.idempotency_key}-{next(numbers)}"

    shop.key_of = new_key  # type: ignore[method-assign]
    message = Trial(shop).broken()
    assert re.search(r"completed, but \(\d, \d, \d\) charged", message)
    (fault,) = faults_in(message)
    assert "payment" in fault


def test_finds_a_compensation_that_gives_nothing_back(shop: Shop) -> None:
    async def forgotten(order: OrderPlaced, run: Run) -> None: ...

    shop.release = forgotten  # type: ignore[method-assign]
    message = Trial(shop).broken()
    (fault,) = faults_in(message)
    assert re.match(r"payment\.capture (refuses|raises 10 times before)|.* 65 s late|payment dies", fault)
    assert "inventory.reserve_stock: undone" in message


def test_finds_an_invariant_that_needs_two_faults(shop: Shop) -> None:
    async def at_most_one_is_undone(s: Scenario) -> None:
        rows = await s.rows(shop.orders, "select saga_id from ended where ending = 'compensated'")
        assert len(rows) < 2, "both orders are undone"

    trial = Trial(shop)
    trial.adds_up = at_most_one_is_undone  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="both orders are undone") as caught:
        trial.simulate(seed="two", schedules=400)
    assert 1 <= len(faults_in(str(caught.value))) <= 2


# --- what is said --------------------------------------------------------------------------------------------


def failing(shop: Shop) -> Trial:
    numbers = count(1)
    shop.key_of = lambda run: f"{run.idempotency_key}-{next(numbers)}"  # type: ignore[method-assign]
    return Trial(shop)


def test_one_line_plays_the_schedule_again(shop: Shop) -> None:
    message = failing(shop).broken()
    first, *_ = message.splitlines()
    seed = re.fullmatch(r'simulate\(\.\.\., seed="(fix-\d+)"\) fails:', first)
    assert seed is not None
    again = failing(Shop())
    assert again.broken(seed[1]) == message
    assert len(again.told) < 10  # the plain one, this one, its shrinking


def test_a_saga_broken_without_any_fault_is_told_so(shop: Shop) -> None:
    async def forgotten(order: OrderPlaced, run: Run) -> None:
        await run.db.execute("update stock set free = 3")

    shop.before_reserve = forgotten  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="it fails without any fault"):
        Trial(shop).simulate(seed="1")


def test_an_error_of_the_invariant_is_a_failure(shop: Shop) -> None:
    async def wrong(s: Scenario) -> None:
        await s.rows(shop.orders, "select 1 from nowhere")

    with pytest.raises(AssertionError, match="OperationalError: no such table: nowhere"):
        simulate(shop.services, Trial(shop).start, invariant=wrong, schedules=1)


def test_an_ending_that_is_not_allowed_is_a_failure(shop: Shop) -> None:
    async def start(s: Scenario) -> None:
        s.fail(shop.capture, times=99)
        s.fail(shop.release_stock, times=99)
        await s.when(shop.place(OrderPlaced(order="o-1")))

    with pytest.raises(AssertionError, match="has ended stuck"):
        simulate(shop.services, start, schedules=0)


def test_the_given_refusals_are_used(shop: Shop) -> None:
    trial = Trial(shop)
    simulate(
        shop.services,
        trial.start,
        invariant=trial.adds_up,
        schedules=SCHEDULES,
        seed="1",
        refusals=[OutOfStock(sku="x")],
    )
    assert any('stock.out.v1 {"sku":"x"}' in told for told in trial.told)


# --- the same every time -------------------------------------------------------------------------------------

SCRIPT = """
from tests.testing.shop import Shop
from tests.testing.test_simulate import Trial
trial = Trial(Shop())
trial.simulate(seed="same", schedules=12)
print("\\n".join(trial.told))
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_schedule_is_the_same_in_every_process(shop: Shop, hash_seed: str) -> None:
    here = Trial(shop)
    here.simulate(seed="same", schedules=12)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.splitlines() == "\n".join(here.told).splitlines()
