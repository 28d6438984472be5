"""Let batches share one processor."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from saga._core.batching import AT_ONCE_WHEN_BUSY, BUSY_SHARE, NEVER, side_by_side
from saga._runtime.processor import WAIT_SECONDS, Processor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


def busy() -> Processor:
    """Return one that has computed all of the time."""
    made = Processor()
    made.busy_share = 1.0
    return made


class Batches:
    """Hold turns until they are let go."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.begun: list[int] = []
        self.waited: list[int] = []
        self.let_go: dict[int, anyio.Event] = {}

    async def run(self, number: int) -> None:
        self.let_go[number] = anyio.Event()
        async with self.processor.turn() as waited:
            self.begun.append(number)
            if waited:
                self.waited.append(number)
            await self.let_go[number].wait()


def test_a_process_that_mostly_waits_lets_everybody_go() -> None:
    assert side_by_side(BUSY_SHARE) == NEVER
    assert side_by_side(BUSY_SHARE + 0.01) == AT_ONCE_WHEN_BUSY == 2


async def test_while_it_computes_two_go_and_the_others_in_the_order_they_came() -> None:
    batches = Batches(busy())
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(batches.run, number)
            await wait_all_tasks_blocked()
        assert batches.begun == [0, 1]
        assert batches.processor.stretch == 2
        for number in range(5):
            batches.let_go[number].set()
            await wait_all_tasks_blocked()
            assert batches.begun == list(range(min(5, number + 3)))
    assert batches.waited == [2, 3, 4]
    assert (batches.processor.taken, batches.processor.stretch) == (0, 1)


async def test_nobody_waits_for_ever_behind_who_does_not_end() -> None:
    batches = Batches(busy())
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(batches.run, number)
        await anyio.sleep(WAIT_SECONDS * 0.9)
        assert len(batches.begun) == 2
        await anyio.sleep(WAIT_SECONDS * 0.2)
        assert len(batches.begun) == 3
        tasks.cancel_scope.cancel()
    assert batches.processor.taken == 0


async def test_who_is_cancelled_while_it_waits_takes_nobodys_turn() -> None:
    batches = Batches(busy())
    async with anyio.create_task_group() as tasks:
        for number in (0, 1):
            tasks.start_soon(batches.run, number)
            await wait_all_tasks_blocked()
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(batches.run, 2)
            await wait_all_tasks_blocked()
            # Called and cancelled at the same moment: the turn goes on to the next.
            batches.let_go[0].set()
            tasks.start_soon(batches.run, 3)
            impatient.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert set(batches.begun) - {2} == {0, 1, 3}
        tasks.cancel_scope.cancel()
    assert batches.processor.taken == 0


async def test_it_finds_out_by_itself_whether_it_computes() -> None:
    worked = 0.0
    processor = Processor(lambda: worked)
    for _ in range(20):
        async with processor.turn():
            await anyio.sleep(0.1)
            worked += 0.09
    assert 0.8 < processor.busy_share <= 0.9
    for _ in range(20):
        async with processor.turn():
            await anyio.sleep(0.1)
    assert processor.busy_share < 0.01
