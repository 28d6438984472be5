"""Play the approval example in virtual time: yes, no, too late, too early, twice, and everything that can go wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from examples.approval.travel import (
    SERVICES,
    WITHIN,
    Answered,
    Denied,
    NoMoney,
    Requested,
    answer,
    budget,
    desk,
    request,
    set_aside,
)
from saga import Cause, KeyConflict
from saga.app import SagaHandle
from saga.testing import ASYNCIO, Moment, Scenario, scenario, simulate

pytestmark = pytest.mark.anyio

YES, NO = Answered(yes=True, by="ada"), Answered(yes=False, by="bob")


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    return ASYNCIO


async def requested(s: Scenario, name: str = "r-1", amount: int = 400) -> SagaHandle:
    return await s.when(request(Requested(id=name, who="eve", amount=amount), key=name))


async def money(s: Scenario) -> int:
    [row] = await s.rows(budget, "select free from budget")
    return int(row["free"])


async def shown(s: Scenario) -> list[tuple[str, str]]:
    return [
        (row["state"], row["reason"]) for row in await s.rows(desk, "select state, reason from request order by id")
    ]


async def test_yes_after_a_while() -> None:
    async with scenario(*SERVICES) as s:
        handle = await requested(s)
        await s.pass_time(minutes=5)
        assert (await money(s), await shown(s)) == (9_600, [("open", "")])
        await answer(YES, key="r-1")
        await s.expect(handle).completed()
        assert (await money(s), await shown(s)) == (9_600, [("completed", "")])


async def test_no_gives_the_money_back() -> None:
    async with scenario(*SERVICES) as s:
        handle = await requested(s)
        await s.pass_time(minutes=5)
        await answer(NO, key="r-1")
        await s.expect(handle).compensated(refusal=Denied(by="bob"))
        s.undone(set_aside)
        assert (await money(s), await shown(s)) == (10_000, [("compensated", "bob said no")])


async def test_nobody_answers_in_time() -> None:
    async with scenario(*SERVICES) as s:
        handle = await requested(s)
        await s.pass_time(seconds=(WITHIN - timedelta(minutes=1)).total_seconds())
        assert await money(s) == 9_600
        await s.pass_time(minutes=2)
        await s.expect(handle).compensated(cause=Cause.DEADLINE)
        assert await money(s) == 10_000
        assert await shown(s) == [("compensated", "nobody answered: budget.decide was not done within its time")]
        await answer(YES, key="r-1")  # too late: stored, and turned away
        await s.pass_time(minutes=1)
        assert await money(s) == 10_000


async def test_an_answer_may_come_before_the_request() -> None:
    async with scenario(*SERVICES) as s:
        await answer(YES, key="r-1")
        await s.expect(await requested(s)).completed()


async def test_the_first_answer_counts() -> None:
    async with scenario(*SERVICES) as s:
        handle = await requested(s)
        await answer(YES, key="r-1")
        await answer(YES, key="r-1")
        with pytest.raises(KeyConflict):
            await answer(NO, key="r-1")
        await s.expect(handle).completed()


async def test_without_money_nobody_is_asked() -> None:
    async with scenario(*SERVICES) as s:
        await s.expect(await requested(s, amount=10_001)).compensated(refusal=NoMoney())
        assert await shown(s) == [("compensated", "there is no money left")]


async def test_an_answer_survives_the_death_of_the_one_who_waits() -> None:
    async with scenario(*SERVICES) as s:
        handle = await requested(s)
        await s.pass_time(minutes=5)
        s.crash(at="budget.decide", moment=Moment.BEFORE_COMMIT)
        await answer(YES, key="r-1")
        await s.expect(handle).completed()
        assert await money(s) == 9_600


def test_the_money_adds_up_whatever_goes_wrong() -> None:
    async def start(s: Scenario) -> None:
        for name, said in (("r-1", YES), ("r-2", NO), ("r-3", None)):
            await requested(s, name)
            if said is not None:
                await answer(said, key=name)

    async def adds_up(s: Scenario) -> None:
        states = [state for state, _ in await shown(s)]
        assert await money(s) == 10_000 - 400 * states.count("completed")

    simulate(SERVICES, start, invariant=adds_up, schedules=12, seed="travel")
