from __future__ import annotations

import anyio
import pytest

from outbox import Pruner
from saga.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


class Shelf:
    """Old rows to be pruned; away for the first calls."""

    def __init__(self, rows: int, *, away: int = 0) -> None:
        self.rows = rows
        self.away = away
        self.bites: list[int] = []
        self.empty = anyio.Event()

    async def prune(self, limit: int, grace_seconds: float) -> int:
        assert grace_seconds == 86_400
        if self.away:
            self.away -= 1
            raise StoreUnavailable("scripted")
        bite = min(limit, self.rows)
        self.rows -= bite
        self.bites.append(bite)
        if not self.rows:
            self.empty.set()
        return bite


async def test_it_prunes_bite_by_bite() -> None:
    shelf = Shelf(5)
    assert await Pruner(shelf, bite=2).prune() == 5
    assert shelf.bites == [2, 2, 1]


async def test_it_waits_for_a_database_that_is_away() -> None:
    shelf = Shelf(3, away=1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Pruner(shelf, every_seconds=0.001).run)
            await shelf.empty.wait()
            tasks.cancel_scope.cancel()
