from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import anyio
import pytest

from saga._core.rows import Changes, CoordinatorChanges, Cursor, InstanceRow, PlanRow
from saga._core.words import Reason
from saga.errors import Conflict, PlanError
from saga.ports import CoordinationStore, Store
from tests.contracts.store_rows import NOW, instance, outgoing, put, run, saga_id, waiting


class CoordinationBench(Protocol):
    """What the contract needs of an adapter: one migrated database, two stores on it, one of a participant too."""

    store: CoordinationStore
    other: CoordinationStore
    participant: Store

    async def pass_time(self, seconds: float) -> None: ...

    async def dead(self) -> int:
        """Return how many dead deliveries there are."""
        ...


def cursor(partition: int, position: int, observed_until: datetime | None = None) -> Cursor:
    return Cursor(partition=partition, position=position, observed_until=observed_until)


def plan(revision: int, hash_: str, version: int = 1) -> PlanRow:
    return PlanRow(saga="checkout", version=version, revision=revision, hash=hash_, body=b'{"\x00": 1}')


async def write(store: CoordinationStore, *instances: InstanceRow) -> None:
    await store.write(CoordinatorChanges(instances=instances))


class CoordinationContract:
    """What every coordinator's store does; run by each adapter."""

    async def test_every_column_of_an_instance_comes_back(self, bench: CoordinationBench) -> None:
        one, two = instance(saga_id(), 3, NOW), instance(saga_id())
        await write(bench.store, one, two)
        ids = [one.saga_id, two.saga_id, saga_id(), one.saga_id]
        stored = {row.saga_id: replace(row, revision=1) for row in (one, two)}
        assert await bench.other.load(ids) == stored
        assert await bench.other.load([]) == {}
        changed = replace(stored[one.saga_id], phase="undoing", due_at=None, ended_at=NOW, state=b"{}", partition=4)
        await write(bench.store, changed)
        assert (await bench.other.load(ids))[one.saga_id] == replace(changed, revision=2)

    async def test_a_second_first_version_of_an_instance_is_a_conflict(self, bench: CoordinationBench) -> None:
        known, new = instance(saga_id()), instance(saga_id())
        await write(bench.store, known)
        with pytest.raises(Conflict):
            await write(bench.store, new, known)
        assert new.saga_id not in await bench.store.load([new.saga_id])

    async def test_a_stale_instance_is_a_conflict_and_nothing_is_written(self, bench: CoordinationBench) -> None:
        one, two = instance(saga_id()), instance(saga_id())
        await write(bench.store, one, two)
        fresh, stale = replace(one, revision=1, phase="new"), replace(two, revision=2, phase="new")
        changes = CoordinatorChanges(
            instances=(fresh, stale, instance(saga_id())), outbox=(outgoing(),), cursors=((None, cursor(0, 5)),)
        )
        with pytest.raises(Conflict):
            await bench.store.write(changes)
        assert {row.phase for row in (await bench.store.load([one.saga_id, two.saga_id])).values()} == {"forward"}
        assert await bench.store.cursors([0]) == {}
        assert (await bench.store.pending())[0] == 0

    async def test_cursors_are_compared_and_swapped(self, bench: CoordinationBench) -> None:
        first = {n: cursor(n, 10 * n) for n in (0, 1)}
        await bench.store.write(CoordinatorChanges(cursors=tuple((None, row) for row in first.values())))
        assert await bench.other.cursors([0, 1, 2]) == first
        moved = cursor(0, 7, NOW)
        await bench.store.write(CoordinatorChanges(cursors=((first[0], moved),)))
        assert await bench.other.cursors([0]) == {0: moved}
        seen_again = replace(moved, observed_until=NOW + timedelta(seconds=1))
        await bench.store.write(CoordinatorChanges(cursors=((moved, seen_again),)))
        for swaps in (((first[0], cursor(0, 9)),), ((None, cursor(1, 99)),), ((cursor(5, 1), cursor(5, 2)),)):
            with pytest.raises(Conflict):
                await bench.store.write(
                    CoordinatorChanges(instances=(instance(saga_id()),), outbox=(outgoing(),), cursors=swaps)
                )
        assert await bench.store.cursors([0, 1, 5]) == {0: seen_again, 1: first[1]}
        assert (await bench.store.pending())[0] == 0

    async def test_two_who_move_one_cursor_at_once_are_one_winner(self, bench: CoordinationBench) -> None:
        start = cursor(0, 0)
        await bench.store.write(CoordinatorChanges(cursors=((None, start),)))
        results: list[str] = []

        async def move(store: CoordinationStore, position: int) -> None:
            changes = CoordinatorChanges(instances=(instance(saga_id()),), cursors=((start, cursor(0, position)),))
            try:
                await store.write(changes)
                results.append("won")
            except Conflict:
                results.append("lost")

        async with anyio.create_task_group() as tasks:
            for position, store in enumerate((bench.store, bench.other, bench.store, bench.other), 1):
                tasks.start_soon(move, store, position)
        assert sorted(results) == ["lost", "lost", "lost", "won"]

    async def test_due_is_held_against_what_was_observed(self, bench: CoordinationBench) -> None:
        def at(seconds: int) -> datetime:
            return NOW + timedelta(seconds=seconds)

        rows = [instance(saga_id(), partition, at(due)) for partition, due in ((0, 5), (0, 3), (0, 11), (1, 4), (2, 1))]
        never = instance(saga_id(), 0, None)
        swaps = ((None, cursor(0, 1, at(10))), (None, cursor(1, 1, at(3))), (None, cursor(2, 1)))
        await bench.store.write(CoordinatorChanges(instances=(*rows, never), cursors=swaps))
        due = await bench.store.due([0, 1, 2], 10)
        assert [row.saga_id for row in due] == [rows[1].saga_id, rows[0].saga_id]
        assert due[0] == replace(rows[1], revision=1)
        await bench.store.write(CoordinatorChanges(cursors=((cursor(1, 1, at(3)), cursor(1, 1, at(4))),)))
        assert [row.saga_id for row in await bench.store.due([0, 1, 2], 2)] == [rows[1].saga_id, rows[3].saga_id]
        assert [row.saga_id for row in await bench.store.due([1], 10)] == [rows[3].saga_id]
        assert await bench.store.due([], 10) == []

    async def test_the_next_due_time_is_told_whatever_has_been_observed(self, bench: CoordinationBench) -> None:
        def at(seconds: int) -> datetime:
            return NOW + timedelta(seconds=seconds)

        assert await bench.store.next_due([0, 1]) is None
        rows = [instance(saga_id(), partition, at(due)) for partition, due in ((0, 5), (0, 3), (1, 4), (2, 1))]
        await write(bench.store, *rows, instance(saga_id(), 0, None), instance(saga_id(), 3, None))
        assert await bench.other.next_due([0, 1]) == at(3)
        assert await bench.other.next_due([1]) == at(4)
        assert await bench.other.next_due([3]) is None
        assert await bench.other.next_due([]) is None

    async def test_outbox_and_dead_records_are_part_of_the_write(self, bench: CoordinationBench) -> None:
        dead = waiting("", NOW, Reason.DEAD)
        seqs = await bench.store.write(CoordinatorChanges(outbox=(outgoing("1"), outgoing("2")), dead=(dead,)))
        assert len(seqs) == 2
        assert seqs[0] < seqs[1]
        assert await bench.dead() == 1
        assert await bench.store.write(CoordinatorChanges()) == ()
        await bench.pass_time(6)
        page = await bench.store.sweep(
            "me", older_than_seconds=5, limit=10, in_hand=frozenset({seqs[0]}), lease_seconds=30
        )
        assert [row.seq for row in page] == [seqs[1]]
        await bench.store.delete(seqs)
        assert await bench.store.pending() == (0, 0.0)

    async def test_plans_are_kept_by_revision(self, bench: CoordinationBench) -> None:
        first = [plan(1, "a"), plan(1, "x", version=2)]
        assert list(await bench.store.put_plans(first)) == first
        assert list(await bench.other.put_plans([plan(2, "b"), plan(1, "a")])) == [plan(1, "a"), plan(2, "b"), first[1]]
        with pytest.raises(PlanError, match="checkout v1 revision 2") as caught:
            await bench.store.put_plans([plan(3, "c"), plan(2, "other"), plan(1, "other")])
        assert len(caught.value.problems) == 2
        assert len(await bench.store.put_plans([])) == 3

    async def test_what_the_hash_of_a_plan_does_not_cover_may_change(self, bench: CoordinationBench) -> None:
        first = plan(1, "a")
        await bench.store.put_plans([first])
        limited = replace(first, body=b'{"attempts":7}')
        assert list(await bench.store.put_plans([limited])) == [limited]
        with pytest.raises(PlanError):
            await bench.store.put_plans([replace(first, hash="b", body=b"{}")])
        assert list(await bench.store.put_plans([])) == [limited]

    async def test_a_service_and_the_coordinator_share_a_database(self, bench: CoordinationBench) -> None:
        saga = saga_id()
        await put(bench.participant, Changes(insert_runs=(run(saga),), outbox=(outgoing(),)), saga)
        await bench.store.write(CoordinatorChanges(outbox=(outgoing(),)))
        assert (await bench.participant.pending())[0] == (await bench.store.pending())[0] == 2

    async def test_the_clock_moves(self, bench: CoordinationBench) -> None:
        before = await bench.store.now()
        assert before.utcoffset() == timedelta(0)
        assert await bench.other.now() >= before
