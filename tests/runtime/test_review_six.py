"""Hold what a sixth review found: each test has failed before what it found was mended."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import pytest
import trio.testing

from saga._core.rows import InstanceRow
from saga._core.topics import RUNS
from saga._runtime import holding
from saga.errors import StoreError, StoreUnavailable
from saga.ports import TopicPartition
from tests.runtime.test_coordinating import Coordinating, coordinating
from tests.runtime.test_held import A_MOMENT, HOLD_SECONDS, phases, position

pytestmark = pytest.mark.anyio

ALL = frozenset(TopicPartition(topic=RUNS, partition=index) for index in range(3))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps as soon as nobody has anything to do."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def _held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "HOLD_SECONDS", HOLD_SECONDS)


# --- what the coordinator holds -------------------------------------------------------------------------------


async def test_nobody_is_told_that_a_record_has_taken_effect_which_is_merely_held() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        answered: list[str] = []

        async def publish() -> None:
            await here.run("open", "orders.start")
            answered.append("open")

        # As after a rebalance: whoever had the partitions before may have told less than it has stored.
        here.shell._untold, here.shell._tick_at_seconds = True, anyio.current_time() + A_MOMENT
        tasks.start_soon(publish)
        await anyio.sleep(A_MOMENT * 3)
        assert not here.shell._untold
        assert await phases(here, "open") == {}
        assert not answered, "its publisher forgets a record that is stored nowhere"
        await anyio.sleep(2 * HOLD_SECONDS)
        assert await phases(here, "open") == {"open": "running"}
        assert answered


async def until_it_reads(here: Coordinating) -> anyio.Event:
    """Have the store stand still when instances are read, until the event is set; return once one is."""
    reads, goes_on, load = anyio.Event(), anyio.Event(), here.store.load

    async def slow(saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        reads.set()
        await goes_on.wait()
        return await load(saga_ids)

    here.store.load = slow  # type: ignore[method-assign]
    await reads.wait()
    return goes_on


async def test_a_batch_that_was_not_folded_is_not_passed_over_when_partitions_go() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        before, load = await position(here), here.store.load
        tasks.start_soon(here.run, "open", "inventory.reserve")
        await until_it_reads(here)
        here.store.load = load  # type: ignore[method-assign]
        tasks.start_soon(here.shell._give_back, ALL)
        await anyio.wait_all_tasks_blocked()
        here.scope.cancel()  # the client library's own task lives on
        await here.shell.stopped.wait()
        await anyio.sleep(A_MOMENT)
        assert await position(here) == before or await phases(here, "open") == {"open": "running"}
        here.shell = here.again()


async def test_partitions_are_given_up_although_storing_went_wrong() -> None:
    async with coordinating() as here:
        await anyio.sleep(1)
        for error in (StoreUnavailable("away"), StoreError("odd")):
            here.shell._writer.cursors[0] = None
            write = here.shell._writer.write

            async def fails(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            here.shell._writer.write = fails  # type: ignore[method-assign]
            with pytest.raises(StoreError):
                await here.shell._give_back(ALL)
            here.shell._writer.write = write  # type: ignore[method-assign]
            assert not here.shell._writer.cursors
