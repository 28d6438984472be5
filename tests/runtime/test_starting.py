"""Start sagas at the same moment."""

from __future__ import annotations

import anyio
import pytest

from saga import Ending, KeyConflict
from tests.runtime.world import Placed, World, running

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_starts_of_one_moment_share_a_transaction_and_none_spoils_another() -> None:
    async with running(World()) as up:
        started: dict[int, str] = {}
        refused: list[int] = []

        async def begin(number: int) -> None:
            # Three customers of each key; the last of them means another order by it.
            event = Placed(order=f"{number // 3}", reserve="refuse" if number % 3 == 2 else "ok")
            try:
                handle = await up.world.place(event, key=f"{number // 3}")
            except KeyConflict:
                refused.append(number)
            else:
                started[number] = handle.saga_id

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(begin, number)
        of_key = {number // 3: {started[n] for n in started if n // 3 == number // 3} for number in started}
        assert [len(ids) for ids in of_key.values()] == [1] * 10
        # Whoever came first has the key; those who meant something else by it were told so.
        assert all({n % 3 == 2 for n in refused if n // 3 == key} != {True, False} for key in of_key)
        assert len(refused) in range(10, 21)
        rows = await up.rows("select count(*) as n from saga_run where step = 'orders.start'")
        assert rows[0]["n"] == 10


async def test_a_start_that_is_there_already_is_no_news() -> None:
    async with running(World()) as up:
        first = await up.world.place(Placed(order="1"), key="1")
        assert (await first.outcome(20)).ending is Ending.COMPLETED
        again = await up.world.place(Placed(order="1"), key="1")
        assert again.saga_id == first.saga_id
        assert (await again.outcome(20)).ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen].count("reserve") == 1
