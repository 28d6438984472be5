"""Run sagas end to end on SQLite and the memory transport, on asyncio and on trio."""

from __future__ import annotations

import pytest

from saga import Ending, KeyConflict, SettingsError, TooLarge
from saga._core.words import Cause
from tests.runtime.world import Declined, OutOfStock, Placed, World, running

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops."""
    return str(request.param)


async def test_a_saga_completes_and_tells_its_starter_once() -> None:
    async with running(World()) as up:
        handle = await up.world.place(Placed(order="1"), key="1")
        ended = await handle.outcome(20)
        assert ended.ending is Ending.COMPLETED
        assert ended.start == Placed(order="1")
        assert len(up.world.endings) == 1
        names = [row["name"] for row in await up.rows("select name from effect order by name")]
        assert names == ["reserve", "ship"]
        assert [step for step, _ in up.world.seen] == ["reserve", "capture", "ship"]


async def test_a_refusal_undoes_what_was_done() -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", capture="refuse"))).outcome(20)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)
        assert ended.refusal == Declined(order="1")
        assert ended.refused_with(Declined) == Declined(order="1")
        assert ended.refused_with(OutOfStock) is None
        assert await up.rows("select * from effect") == []
        assert [step for step, _ in up.world.seen] == ["reserve", "capture", "release"]


@pytest.mark.parametrize("how", ["refuse", "refuse after write"])
async def test_a_refusal_leaves_no_write_of_its_own(how: str) -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", reserve=how))).outcome(20)
        assert (ended.ending, ended.refusal) == (Ending.COMPENSATED, OutOfStock(order="1"))
        assert await up.rows("select * from effect") == []
        row = (await up.rows("select status from saga_run where step = 'inventory.reserve'"))[0]
        assert row["status"] == "refused"


async def test_a_failing_step_is_retried_with_a_durable_count() -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", reserve="fail 2"))).outcome(20)
        assert ended.ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen].count("reserve") == 3
        row = (await up.rows("select attempt from saga_run where step = 'inventory.reserve'"))[0]
        assert row["attempt"] == 3
        assert await up.rows("select * from saga_delivery") == []


async def test_used_up_attempts_fail_the_saga() -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", reserve="fail"))).outcome(20)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.FAILED)
        assert "reserve fails on attempt 3" in ended.detail
        assert [step for step, _ in up.world.seen].count("reserve") == 3


async def test_a_pivot_in_doubt_is_resolved_before_anything_is_undone() -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", capture="doubt"))).outcome(20)
        assert ended.ending is Ending.COMPENSATED
        steps = [step for step, _ in up.world.seen]
        assert steps == ["reserve", *["capture"] * 4, "release"]
        assert await up.rows("select * from effect") == []


async def test_behind_the_pivot_only_forward() -> None:
    async with running(World()) as up:
        ended = await (await up.world.place(Placed(order="1", ship="fail 7"))).outcome(20)
        assert ended.ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen].count("ship") == 8


async def test_a_key_names_one_attempt() -> None:
    async with running(World()) as up:
        first = await up.world.place(Placed(order="1"), key="1")
        again = await up.world.place(Placed(order="1"), key="1")
        assert first.saga_id == again.saga_id
        with pytest.raises(KeyConflict, match=r"another order\.placed\.v1"):
            await up.world.place(Placed(order="2"), key="1")
        assert (await again.outcome(20)).ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen].count("reserve") == 1


async def test_a_cancel_undoes_or_comes_too_late() -> None:
    async with running(World()) as up:
        handle = await up.world.place(Placed(order="1", reserve="fail 1"))
        await handle.cancel("changed my mind")
        ended = await handle.outcome(20)
        steps = [step for step, _ in up.world.seen]
        if ended.ending is Ending.COMPENSATED:
            assert ended.cause is Cause.CANCELLED
            assert await up.rows("select * from effect") == []
        else:
            assert "ship" in steps


async def test_nothing_is_left_behind() -> None:
    async with running(World()) as up:
        for number, how in enumerate(["ok", "refuse", "doubt"]):
            await (await up.world.place(Placed(order=str(number), capture=how))).outcome(20)
    # The app has drained: nothing may wait in any table.


async def test_a_start_nobody_could_read_is_refused_before_it_is_written() -> None:
    async with running(World()) as up:
        with pytest.raises(SettingsError, match="tenant"):
            await up.world.place(Placed(order="1"), tenant="a\nb")
        with pytest.raises(TooLarge, match="tenant"):
            await up.world.place(Placed(order="1"), tenant="t" * 600)
        with pytest.raises(TooLarge, match="bytes"):
            await up.world.place(Placed(order="x" * 1_100_000))
        assert await up.rows("select * from saga_run") == []
        ended = await (await up.world.place(Placed(order="1"), tenant="acme")).outcome(20)
        assert ended.ending is Ending.COMPLETED
