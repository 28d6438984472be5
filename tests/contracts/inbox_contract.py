# ruff: noqa: PT012 - a unit of work is left by the error
from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import anyio
import pytest

from outbox.inboxes import Inboxes, InboxPruner
from saga._core.rows import Changes, InboxKey, InboxRow
from saga.errors import Conflict
from saga.ports import Store
from tests.contracts.store_contract import Stop, StoreBench
from tests.contracts.store_rows import OTHER, SERVICE, claim, outgoing, put

KEEP_DAYS = 9


def entry(
    day: date, message_id: str = "/customers m1", subscriber: str = "stock.note", service: str = SERVICE
) -> InboxRow:
    return InboxRow(service=service, day=day, message_id=message_id, subscriber=subscriber)


async def known(store: Store, *rows: InboxRow, service: str = SERVICE) -> frozenset[InboxKey]:
    async with store.unit(claim(service=service)) as unit:
        return (await unit.read((), (), [row.key for row in rows])).inbox


class InboxContract:
    """What every participant's store remembers of plain events; run by each adapter."""

    async def test_an_entry_is_found_by_all_of_its_key_and_in_its_service(self, bench: StoreBench) -> None:
        today = (await bench.now()).date()
        one = entry(today, "/ü m1", "stock.note")
        others = [
            entry(today - timedelta(days=1), "/ü m1", "stock.note"),
            entry(today, "/ü m2", "stock.note"),
            entry(today, "/ü m1", "stock.tell"),
        ]
        assert await known(bench.store, one, *others) == frozenset()
        await put(bench.store, Changes(inbox=(one,)))
        assert await known(bench.other, one, *others) == {one.key}
        assert await known(bench.store, one, service=OTHER) == frozenset()
        await put(bench.store, Changes(inbox=tuple(others)))
        assert await known(bench.store, one, *others) == {row.key for row in (one, *others)}

    async def test_it_is_read_with_gates_and_runs_in_one_go(self, bench: StoreBench) -> None:
        one = entry((await bench.now()).date())
        await put(bench.store, Changes(inbox=(one,)))
        async with bench.store.unit(claim("s")) as unit:
            seen = await unit.read(["s"], [("s", "stock.reserve", "")], [one.key])
        assert seen.inbox == {one.key}
        assert not seen.gates
        assert not seen.runs

    async def test_a_second_entry_is_a_conflict_and_nothing_is_written(self, bench: StoreBench) -> None:
        one = entry((await bench.now()).date())
        await put(bench.store, Changes(inbox=(one,)))
        with pytest.raises(Conflict):
            await put(bench.other, Changes(inbox=(one,), outbox=(outgoing(),)))
        assert (await bench.store.pending())[0] == 0

    async def test_an_entry_goes_with_its_transaction(self, bench: StoreBench) -> None:
        one = entry((await bench.now()).date())
        with pytest.raises(Stop):
            async with bench.store.unit(claim()) as unit:
                await unit.write(Changes(inbox=(one,)))
                raise Stop
        assert await known(bench.store, one) == frozenset()
        await put(bench.store, Changes(inbox=(one,)))

    async def test_two_who_take_the_same_event_at_once_are_one(self, bench: StoreBench) -> None:
        one = entry((await bench.now()).date())
        met: list[str] = []

        async def take(store: Store) -> None:
            try:
                await put(store, Changes(inbox=(one,)))
                met.append("taken")
            except Conflict:
                met.append("conflict")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, bench.store)
            tasks.start_soon(take, bench.other)
        assert sorted(met) == ["conflict", "taken"]

    async def test_days_are_forgotten_as_a_whole_and_not_before(self, bench: StoreBench) -> None:
        store: Any = bench.store
        assert isinstance(store, Inboxes)
        today = (await bench.now()).date()
        rows = [entry(today - timedelta(days=ago)) for ago in (0, 1, KEEP_DAYS, KEEP_DAYS + 1, 400)]
        await put(bench.store, Changes(inbox=(*rows, entry(rows[-1].day, "/customers m2"))))
        pruner = InboxPruner(store, inbox_days=KEEP_DAYS - 1, bite=1)
        assert await pruner.prune() == 3
        assert await known(bench.store, *rows) == {row.key for row in rows[:3]}
        assert await pruner.prune() == 0
        await put(bench.store, Changes(inbox=(rows[3],)))
        assert await known(bench.other, rows[3]) == {rows[3].key}
