from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from outbox import Pruner
from saga._core.keeping import Aging, Retention
from saga.errors import SettingsError, StoreUnavailable

pytestmark = pytest.mark.anyio

DAY = 86_400


class Shelf:
    """Old rows to be pruned; away for the first calls."""

    def __init__(self, rows: int, *, away: int = 0) -> None:
        self.rows = rows
        self.away = away
        self.bites: list[int] = []
        self.ages: dict[Aging, float] = {}
        self.empty = anyio.Event()

    @property
    def aging(self) -> Sequence[Aging]:
        return (Aging.RUNS, Aging.LETTERS)

    async def prune(self, what: Aging, limit: int, age_seconds: float) -> int:
        self.ages[what] = age_seconds
        if self.away:
            self.away -= 1
            raise StoreUnavailable("scripted")
        if what is not Aging.RUNS:
            return 0
        bite = min(limit, self.rows)
        self.rows -= bite
        self.bites.append(bite)
        if not self.rows:
            self.empty.set()
        return bite


async def test_it_prunes_bite_by_bite_each_kind_at_its_age() -> None:
    shelf = Shelf(5)
    assert await Pruner(shelf, Retention(bite_rows=2, letters_days=7)).prune() == 5
    assert shelf.bites == [2, 2, 1]
    assert shelf.ages == {Aging.RUNS: DAY, Aging.LETTERS: 7 * DAY}


async def test_it_waits_for_a_database_that_is_away() -> None:
    shelf = Shelf(3, away=1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Pruner(shelf, Retention(every_seconds=0.001)).run)
            await shelf.empty.wait()
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "wrong", [{"ended_days": -1}, {"letters_days": float("nan")}, {"bite_rows": 0}, {"every_seconds": 0}]
)
def test_ages_are_numbers_that_can_be_meant(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=r"Retention\("):
        Retention(**wrong)  # type: ignore[arg-type]
