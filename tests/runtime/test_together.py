"""Do at once what several callers ask for, and tell waiting callers how their sagas ended."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import pytest

from saga._core.rows import RunRow
from saga._core.words import RunStatus
from saga._runtime.endings import PATIENCE_FIRST_SECONDS, Endings, Waiting
from saga._runtime.together import Together

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Desk:
    """Work when let; what was asked in one go is one group."""

    groups: list[list[int]] = field(default_factory=list[list[int]])
    gate: anyio.Event = field(default_factory=anyio.Event)
    fails: int = -1

    async def work(self, asked: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(asked))
        await self.gate.wait()
        if self.fails in asked:
            raise ValueError(self.fails)
        return [10 * each for each in asked]


async def asking(together: Together[int, int], number: int, told: dict[int, int | str]) -> None:
    try:
        told[number] = await together.ask(number)
    except ValueError as error:
        told[number] = f"failed for {error}"


async def test_who_comes_meanwhile_goes_together() -> None:
    desk, told = Desk(), dict[int, int | str]()
    together: Together[int, int] = Together(desk.work, limit=3)
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(asking, together, number, told)
            await anyio.wait_all_tasks_blocked()
        assert desk.groups == [[0]], "the first goes alone, nobody waits for company"
        desk.gate.set()
    assert desk.groups == [[0], [1, 2, 3], [4, 5]]
    assert told == {number: 10 * number for number in range(6)}


async def test_everybody_in_the_group_hears_why_it_failed_and_nobody_else() -> None:
    desk, told = Desk(fails=2), dict[int, int | str]()
    together: Together[int, int] = Together(desk.work, limit=2)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(asking, together, number, told)
            await anyio.wait_all_tasks_blocked()
        desk.gate.set()
    assert told == {0: 0, 1: "failed for 2", 2: "failed for 2", 3: 30, 4: 40}


async def test_another_one_takes_over_when_the_one_at_work_is_cancelled() -> None:
    desk, told = Desk(), dict[int, int | str]()
    together: Together[int, int] = Together(desk.work, limit=8)
    first = anyio.CancelScope()

    async def leads() -> None:
        with first:
            await together.ask(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leads)
        await anyio.wait_all_tasks_blocked()
        for number in (1, 2):
            tasks.start_soon(asking, together, number, told)
            await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert desk.groups == [[0], [1, 2]]
        desk.gate.set()
    assert told == {1: 10, 2: 20}


async def test_one_that_waits_can_be_cancelled() -> None:
    desk, told = Desk(), dict[int, int | str]()
    together: Together[int, int] = Together(desk.work, limit=8)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asking, together, 0, told)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0):
            await together.ask(1)
        tasks.start_soon(asking, together, 2, told)
        await anyio.wait_all_tasks_blocked()
        desk.gate.set()
    assert desk.groups == [[0], [2]]
    assert told == {0: 0, 2: 20}


@contextmanager
def waiting_in(endings: Endings, saga_id: str) -> Generator[Waiting]:
    """Wait for a saga for as long as the context lasts."""
    yield endings.wait_for(saga_id)
    endings.leave(saga_id)


def start_row(saga_id: str) -> RunRow:
    return RunRow(
        saga_id=saga_id,
        step="orders.start",
        plan="p",
        status=RunStatus.DONE,
        outcome=b"{}",
        expires_at=NOW,
        created_at=NOW,
    )


async def test_who_waits_is_told_with_the_row() -> None:
    endings = Endings()
    endings.began("one")
    assert endings.is_open("one")
    with waiting_in(endings, "one") as waiting:
        assert not waiting.told.is_set()
        endings.tell(start_row("one"), final=True)
        assert waiting.told.is_set()
        assert waiting.row == start_row("one")
    assert not endings.is_open("one")
    with waiting_in(endings, "one") as late:
        assert late.row == start_row("one"), "nobody has to ask the database for what was written here"


async def test_an_ending_that_another_may_follow_is_not_remembered() -> None:
    endings = Endings()
    endings.began("stuck")
    endings.tell(start_row("stuck"), final=False)
    assert not endings.is_open("stuck")
    with waiting_in(endings, "stuck") as waiting:
        assert waiting.row is None


async def test_it_remembers_so_many_and_keeps_nothing_of_others() -> None:
    endings = Endings(remembered=2)
    for saga_id in ("a", "b", "c"):
        endings.began(saga_id)
    assert [endings.is_open(saga_id) for saga_id in ("a", "b", "c")] == [False, True, True]
    endings.tell(start_row("elsewhere"), final=True)
    with waiting_in(endings, "elsewhere") as waiting:
        assert waiting.row is None
    assert len(endings) == 0


async def test_its_patience_follows_who_is_told() -> None:
    endings = Endings()
    for number in range(20):
        with waiting_in(endings, str(number)):
            endings.tell(start_row(str(number)), final=True)
    assert endings.patience_seconds > 3 * PATIENCE_FIRST_SECONDS
    patience = endings.patience_seconds
    endings.found("seen before it was told here", 10.0)
    endings.tell(start_row("seen before it was told here"), final=True)
    endings.found("20", 12.0)
    assert endings.patience_seconds == patience
    endings.found("21", 12.5)
    assert endings.patience_seconds == patience
    endings.found("22", 13.0)
    assert endings.patience_seconds == PATIENCE_FIRST_SECONDS
