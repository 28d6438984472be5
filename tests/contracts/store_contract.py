# ruff: noqa: PT012 - a unit of work is left by the error
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio
import pytest

from saga._core.rows import Changes, OutboxRow
from saga._core.words import GateState, Priority, Reason, RunStatus, UndoStatus
from saga.errors import Conflict, Gone, SettingsError, StoreError
from saga.ports import Beat, Lock, Store
from tests.contracts.ageing import prune_expired
from tests.contracts.loading import loaded
from tests.contracts.store_rows import (
    OTHER,
    SERVICE,
    claim,
    full_run,
    gate,
    outgoing,
    put,
    run,
    saga_id,
    stored,
    waiting,
)

GOODS = "create table goods (sku varchar(20) primary key, free integer not null)"
LONG_SECONDS = 10.0


class Caller(Protocol):
    """An application's own connection."""

    raw: Any

    async def execute(self, sql: str) -> None: ...
    async def close(self) -> None: ...


class StoreBench(Protocol):
    """What the contract needs of an adapter: one migrated database, two stores on it, and a way to let time pass."""

    store: Store
    other: Store

    async def pass_time(self, seconds: float) -> None:
        """Make everything that is stored this much older."""
        ...

    async def now(self) -> datetime: ...

    async def caller(self) -> Caller: ...

    async def until_somebody_waits(self) -> None:
        """Return once a transaction waits for a lock."""
        ...


class Stop(Exception):
    pass


async def seen_run(store: Store, saga: str, step: str = "stock.reserve", branch: str = "") -> Any:
    return await loaded(store, (saga, step, branch))


async def sweep(
    store: Store, owner: str, in_hand: tuple[int, ...] = (), limit: int = 10, older: float = 5.0
) -> list[OutboxRow]:
    rows = await store.sweep(
        owner, older_than_seconds=older, limit=limit, in_hand=frozenset(in_hand), lease_seconds=30.0
    )
    return list(rows)


class StoreContract:
    """What every participant's store does; run by each adapter."""

    # --- runs and gates ---------------------------------------------------------------------------------------

    async def test_every_column_of_a_run_comes_back(self, bench: StoreBench) -> None:
        row = full_run(saga_id())
        await put(bench.store, Changes(insert_runs=(row,)), row.saga_id)
        assert await loaded(bench.store, (row.saga_id, row.step, row.branch)) == stored(row)
        changed = replace(
            stored(row), status=RunStatus.DONE, undo=UndoStatus.DONE, pending_at=None, owner="", result=None, attempt=4
        )
        await put(bench.store, Changes(update_runs=(changed,)), row.saga_id)
        assert await loaded(bench.other, (row.saga_id, row.step, row.branch)) == replace(changed, revision=2)

    async def test_an_error_text_that_a_database_refuses_is_stored_readably(self, bench: StoreBench) -> None:
        row = replace(run(saga_id()), error="nul \x00 surrogate \ud800 end")
        await put(bench.store, Changes(insert_runs=(row,)), row.saga_id)
        assert (await seen_run(bench.store, row.saga_id)).error == "nul \ufffd surrogate ? end"

    async def test_every_column_of_a_gate_comes_back_and_it_is_put_over_the_old_one(self, bench: StoreBench) -> None:
        saga = saga_id()
        await put(bench.store, Changes(gates=(gate(saga, GateState.CLOSING),)), saga)
        await put(bench.store, Changes(gates=(gate(saga, GateState.CLOSED),)), saga)
        async with bench.store.unit(claim(saga)) as unit:
            seen = await unit.read([saga], [])
        assert seen.gates == {saga: gate(saga, GateState.CLOSED)}

    async def test_a_read_finds_what_it_names_and_tells_the_time(self, bench: StoreBench) -> None:
        one, two = saga_id(), saga_id()
        rows = (run(one), run(one, "stock.pack", "1of2"), run(one, "payment.take"), run(two))
        await put(bench.store, Changes(insert_runs=rows, gates=(gate(one), gate(two, service=OTHER))), one, two)
        before = await bench.now()
        async with bench.store.unit(claim(one, two)) as unit:
            named = await unit.read([one, two], [(two, "stock.reserve", ""), (two, "stock.pack", "")])
            whole = await unit.read([], [(one, "", ""), (two, "stock.reserve", "")])
            nothing = await unit.read([], [])
        assert set(named.runs) == {(two, "stock.reserve", "")}
        assert set(named.gates) == {one}  # the other one is another service's
        assert set(whole.runs) == {(one, "stock.reserve", ""), (one, "stock.pack", "1of2"), (two, "stock.reserve", "")}
        assert before <= named.now <= nothing.now
        assert not nothing.runs
        assert not nothing.gates

    async def test_inserting_a_run_twice_is_a_conflict_and_leaves_nothing(self, bench: StoreBench) -> None:
        known, new = run(saga_id()), run(saga_id())
        await put(bench.store, Changes(insert_runs=(known,)), known.saga_id)
        with pytest.raises(Conflict):
            await put(bench.store, Changes(insert_runs=(new, known), outbox=(outgoing(),)), known.saga_id, new.saga_id)
        assert await seen_run(bench.store, new.saga_id) is None
        assert (await bench.store.pending())[0] == 0

    async def test_updating_a_run_at_another_revision_is_a_conflict_and_leaves_nothing(self, bench: StoreBench) -> None:
        good, bad = run(saga_id()), run(saga_id())
        await put(bench.store, Changes(insert_runs=(good, bad)), good.saga_id, bad.saga_id)
        changes = Changes(
            update_runs=(replace(stored(good), attempt=7), replace(stored(bad, 2), attempt=7)), outbox=(outgoing(),)
        )
        with pytest.raises(Conflict):
            await put(bench.store, changes, good.saga_id, bad.saga_id)
        assert await seen_run(bench.store, good.saga_id) == stored(good)
        assert (await bench.store.pending())[0] == 0

    async def test_everything_at_once_in_one_write(self, bench: StoreBench) -> None:
        old, new = saga_id(), saga_id()
        due = await bench.now() - timedelta(seconds=1)
        await put(
            bench.store, Changes(insert_runs=(run(old),), insert_deliveries=(waiting(old, due), waiting(old, due))), old
        )
        first, second = await bench.store.take_deliveries(SERVICE, 10, 0.0)
        changes = Changes(
            insert_runs=(run(new, "stock.b"), run(new, "stock.a")),
            update_runs=(replace(stored(run(old)), attempt=2),),
            gates=(gate(old), gate(new)),
            outbox=(outgoing("1"), outgoing("2")),
            insert_deliveries=(waiting(new, due, attempt=9),),
            delete_deliveries=(first.id,),
            release=(new,),
        )
        assert len(await put(bench.store, changes, old, new)) == 2
        async with bench.store.unit(claim(old, new)) as unit:
            seen = await unit.read([old, new], [(old, "", ""), (new, "", "")])
        assert len(seen.runs) == 3
        assert len(seen.gates) == 2
        left = await bench.store.take_deliveries(SERVICE, 10, 60.0)
        assert {row.id for row in left} > {second.id}
        assert len(left) == 2

    async def test_an_empty_write_writes_nothing(self, bench: StoreBench) -> None:
        assert await put(bench.store, Changes(), saga_id()) == ()

    # --- transactions -----------------------------------------------------------------------------------------

    async def test_an_exception_rolls_back_everything(self, bench: StoreBench) -> None:
        saga = saga_id()
        with pytest.raises(Stop):
            async with bench.store.unit(claim(saga)) as unit:
                await unit.write(Changes(insert_runs=(run(saga),), gates=(gate(saga),), outbox=(outgoing(),)))
                raise Stop
        async with bench.store.unit(claim(saga)) as unit:
            seen = await unit.read([saga], [(saga, "", "")])
        assert not seen.runs
        assert not seen.gates
        assert (await bench.store.pending())[0] == 0

    async def test_the_users_rows_and_ours_are_one_transaction(self, bench: StoreBench) -> None:
        saga = saga_id()
        async with bench.store.unit(claim(saga)) as unit:
            await unit.db.execute(GOODS)
        for end in (Stop, None):
            with pytest.raises(Stop) if end else anyio.CancelScope():
                async with bench.store.unit(claim(saga)) as unit:
                    await unit.db.execute("insert into goods values ($1, $2)", "book", 5)
                    await unit.write(Changes(insert_runs=(run(saga),)))
                    if end:
                        raise end
            async with bench.other.unit(claim(saga)) as unit:
                rows = await unit.db.fetch("select sku from goods")
            assert [row["sku"] for row in rows] == ([] if end else ["book"])
            assert (await seen_run(bench.store, saga) is None) is (end is not None)

    async def test_the_users_door(self, bench: StoreBench) -> None:
        async with bench.store.unit(claim()) as unit:
            db = unit.db
            await db.execute(GOODS)
            assert await db.execute("insert into goods values ($1, $2), ($3, $2)", "book", 5, "pen") == 2
            assert await db.execute("update goods set free = free - $2 where sku = $1 and free >= $2", "book", 3) == 1
            assert await db.execute("update goods set free = 0 where sku = $1", "none") == 0
            assert await db.execute("select * from goods") == 0
            row = await db.fetch_one("select free, '$1 -- ?' as odd from goods where sku = $1 /* $2 */", "book")
            assert row == {"free": 2, "odd": "$1 -- ?"}
            assert await db.fetch("select sku from goods order by sku desc") == [{"sku": "pen"}, {"sku": "book"}]
            assert await db.fetch_one("select 1 from goods where sku = $1", "none") is None
            returned = await db.fetch_one("delete from goods where sku = $1 returning free", "pen")
            assert returned == {"free": 5}

    async def test_writes_are_counted_when_a_row_may_have_changed(self, bench: StoreBench) -> None:
        async with bench.store.unit(claim()) as unit:
            await unit.db.execute(GOODS)
            assert unit.writes == 1  # who knows what other statements do
            quiet = [
                "select * from goods",
                "-- insert\n select sku as update_me from goods where sku <> 'delete'",
                "with g as (select * from goods) select * from g",
                "update goods set free = 1 where sku = 'none' returning free",
                "delete from goods where free < 0",
            ]
            for sql in quiet:
                await unit.db.fetch_one(sql) if "from goods where free" not in sql else await unit.db.execute(sql)
                assert unit.writes == 1, sql
            await unit.read([], [])
            await unit.write(Changes(outbox=(outgoing(),)))
            assert unit.writes == 1
            await unit.db.fetch_one("insert into goods values ('a', 1) returning sku")
            assert unit.writes == 2
            await unit.db.execute("update goods set free = free")
            assert unit.writes == 3
            assert unit.connection is not None
            assert unit.writes == 4

    async def test_a_savepoint_takes_back_rows_and_the_count_of_writes(self, bench: StoreBench) -> None:
        one, two = saga_id(), saga_id()
        async with bench.store.unit(claim(one, two)) as unit:
            await unit.db.execute(GOODS)
            with pytest.raises(Stop):
                async with unit.savepoint():
                    await unit.db.execute("insert into goods values ('a', 1)")
                    await unit.write(Changes(insert_runs=(run(one),)))
                    assert unit.writes == 2
                    raise Stop
            assert unit.writes == 1
            async with unit.savepoint():
                await unit.db.execute("insert into goods values ('b', 1)")
                async with unit.savepoint():
                    await unit.write(Changes(insert_runs=(run(two),)))
            assert unit.writes == 2
        assert await seen_run(bench.store, one) is None
        assert await seen_run(bench.store, two) is not None

    async def test_a_conflict_inside_a_savepoint_leaves_the_transaction_usable(self, bench: StoreBench) -> None:
        row = run(saga_id())
        await put(bench.store, Changes(insert_runs=(row,)), row.saga_id)
        async with bench.store.unit(claim(row.saga_id)) as unit:
            with pytest.raises(Conflict):
                async with unit.savepoint():
                    await unit.write(Changes(insert_runs=(row,)))
            seen = await unit.read([], [(row.saga_id, row.step, "")])
            assert seen.runs
            await unit.write(Changes(gates=(gate(row.saga_id),)))
        async with bench.store.unit(claim(row.saga_id)) as unit:
            assert (await unit.read([row.saga_id], [])).gates

    async def test_an_error_in_the_users_sql_is_the_drivers_own(self, bench: StoreBench) -> None:
        async with bench.store.unit(claim()) as unit:
            await unit.db.execute(GOODS)
            await unit.db.execute("insert into goods values ('a', 1)")
        with pytest.raises(Exception, match=r"(?i)unique") as caught:
            async with bench.store.unit(claim()) as unit:
                await unit.db.execute("insert into goods values ('a', 2)")
        assert not isinstance(caught.value, StoreError)
        async with bench.store.unit(claim()) as unit:
            assert await unit.db.fetch("select free from goods") == [{"free": 1}]

    async def test_a_handler_that_ends_the_transaction_itself_is_told(self, bench: StoreBench) -> None:
        saga = saga_id()
        for end in ("commit", "rollback"):
            with pytest.raises(StoreError, match="must not commit"):
                async with bench.store.unit(claim(saga)) as unit:
                    await unit.db.execute(end)
                    await unit.write(Changes(insert_runs=(run(saga),)))
            with pytest.raises(StoreError, match="must not commit"):
                async with bench.store.unit(claim(saga)) as unit:
                    await unit.db.execute(end)
        assert await seen_run(bench.store, saga) is None

    async def test_a_cancelled_transaction_leaves_nothing_open(self, bench: StoreBench) -> None:
        saga = saga_id()
        for _ in range(3):
            entered = anyio.Event()

            async def hang(entered: anyio.Event) -> None:
                async with bench.store.unit(claim(saga, lock=Lock.EXCLUSIVE)) as unit:
                    await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(),)))
                    entered.set()
                    await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hang, entered)
                with anyio.fail_after(LONG_SECONDS):
                    await entered.wait()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(LONG_SECONDS):
            await put(bench.other, Changes(insert_runs=(run(saga),)), saga)
        assert (await bench.store.pending())[0] == 0

    async def test_a_cancelled_wait_for_a_lock_is_given_up(self, bench: StoreBench) -> None:
        saga = saga_id()

        async def wait() -> None:
            async with bench.other.unit(claim(saga, lock=Lock.EXCLUSIVE)):
                pytest.fail("the lock is taken")

        async with bench.store.unit(claim(saga, lock=Lock.EXCLUSIVE)) as unit:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await bench.until_somebody_waits()
                tasks.cancel_scope.cancel()
            await unit.write(Changes(insert_runs=(run(saga),)))
        with anyio.fail_after(LONG_SECONDS):
            async with bench.other.unit(claim(saga, lock=Lock.EXCLUSIVE)) as unit:
                assert (await unit.read([], [(saga, "", "")])).runs

    # --- locks ------------------------------------------------------------------------------------------------

    async def test_who_closes_sees_what_a_run_under_way_has_written(self, bench: StoreBench) -> None:
        saga = saga_id()
        order: list[str] = []
        began = anyio.Event()

        async def close() -> None:
            await began.wait()
            async with bench.other.unit(claim(saga, lock=Lock.EXCLUSIVE)) as unit:
                seen = await unit.read([saga], [(saga, "", "")])
                assert set(seen.runs) == {(saga, "stock.reserve", "")}
                order.append("close")
                await unit.write(Changes(gates=(gate(saga),)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            async with bench.store.unit(claim(saga)) as unit:
                began.set()
                await bench.until_somebody_waits()
                assert not (await unit.read([saga], [])).gates
                await unit.write(Changes(insert_runs=(run(saga),)))
                order.append("run")
        assert order == ["run", "close"]

    async def test_who_runs_after_a_close_sees_the_gate(self, bench: StoreBench) -> None:
        saga = saga_id()
        began = anyio.Event()
        met: list[GateState] = []

        async def meet() -> None:
            await began.wait()
            async with bench.other.unit(claim(saga)) as unit:
                met.append((await unit.read([saga], [])).gates[saga].state)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(meet)
            async with bench.store.unit(claim(saga, lock=Lock.EXCLUSIVE)) as unit:
                began.set()
                await bench.until_somebody_waits()
                await unit.write(Changes(gates=(gate(saga),)))
        assert met == [GateState.CLOSED]

    # --- the caller's own transaction -------------------------------------------------------------------------

    async def test_an_adopted_transaction_is_the_callers_to_end(self, bench: StoreBench) -> None:
        kept, dropped = saga_id(), saga_id()
        caller = await bench.caller()
        try:
            for saga, end in ((kept, "commit"), (dropped, "rollback")):
                await caller.execute("begin")
                async with bench.store.adopt(caller.raw, SERVICE) as unit:
                    assert not (await unit.read([saga], [(saga, "stock.reserve", "")])).runs
                    (seq,) = await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(),)))
                    assert seq > 0
                assert await seen_run(bench.other, saga) is None  # not committed by us
                await caller.execute(end)
        finally:
            await caller.close()
        assert await seen_run(bench.store, kept) is not None
        assert await seen_run(bench.store, dropped) is None
        assert (await bench.store.pending())[0] == 1

    async def test_an_exception_inside_an_adopted_transaction_does_not_end_it(self, bench: StoreBench) -> None:
        row = run(saga_id())
        caller = await bench.caller()
        try:
            await caller.execute("begin")
            async with bench.store.adopt(caller.raw, SERVICE) as unit:
                await unit.write(Changes(insert_runs=(row,)))
            with pytest.raises(Stop):
                async with bench.store.adopt(caller.raw, SERVICE) as unit:
                    with pytest.raises(Conflict):
                        async with unit.savepoint():
                            await unit.write(Changes(insert_runs=(row,)))
                    raise Stop
            await caller.execute("commit")
        finally:
            await caller.close()
        assert await seen_run(bench.store, row.saga_id) is not None

    async def test_what_cannot_be_adopted_is_refused(self, bench: StoreBench) -> None:
        caller = await bench.caller()
        try:
            for raw, told in ((caller.raw, "no open transaction"), (object(), "object")):
                with pytest.raises(SettingsError, match=told):
                    async with bench.store.adopt(raw, SERVICE):
                        pytest.fail("adopted")
        finally:
            await caller.close()

    # --- what waits -------------------------------------------------------------------------------------------

    async def test_due_deliveries_are_taken_oldest_first_and_leased(self, bench: StoreBench) -> None:
        now, saga = await bench.now(), saga_id()
        rows = (
            waiting(saga, now - timedelta(seconds=1), attempt=1),
            waiting(saga, now - timedelta(seconds=3), Reason.PARKED, attempt=2),
            waiting(saga, now - timedelta(seconds=2), attempt=3),
            waiting(saga, now + timedelta(seconds=3600), attempt=4),
            waiting(saga, now - timedelta(seconds=9), Reason.HELD, attempt=5),
            waiting(saga, now - timedelta(seconds=9), Reason.DEAD, attempt=6),
            waiting(saga, now - timedelta(seconds=9), service=OTHER, attempt=7),
        )
        await put(bench.store, Changes(insert_deliveries=rows), saga)
        first = await bench.store.take_deliveries(SERVICE, 2, 30.0)
        assert [row.attempt for row in first] == [2, 3]
        assert replace(first[0], id=0, due_at=rows[1].due_at) == rows[1]
        assert first[0].due_at > now + timedelta(seconds=20)
        assert [row.attempt for row in await bench.other.take_deliveries(SERVICE, 10, 30.0)] == [1]
        assert await bench.other.take_deliveries(SERVICE, 10, 30.0) == []
        await bench.pass_time(31)
        assert {row.attempt for row in await bench.other.take_deliveries(SERVICE, 10, 30.0)} == {1, 2, 3}

    async def test_what_is_urgent_is_taken_before_what_has_waited_longer(self, bench: StoreBench) -> None:
        now, saga = await bench.now(), saga_id()
        rows = [waiting(saga, now - timedelta(seconds=9 - n), attempt=n) for n in range(4)]
        for n in (1, 3):
            rows[n] = replace(rows[n], raw=replace(rows[n].raw, topic="orders.events.urgent"))
        await put(bench.store, Changes(insert_deliveries=tuple(rows)), saga)
        assert [row.attempt for row in await bench.store.take_deliveries(SERVICE, 3, 30.0)] == [1, 3, 0]
        assert [row.attempt for row in await bench.store.take_deliveries(SERVICE, 3, 30.0)] == [2]

    async def test_urgent_runs_are_taken_before_those_that_have_waited_longer(self, bench: StoreBench) -> None:
        now = await bench.now()
        lanes = (Priority.NORMAL, Priority.URGENT, Priority.NORMAL, Priority.URGENT)
        runs = tuple(
            replace(run(saga_id(), pending_at=now - timedelta(seconds=9 - n)), attempt=n, lane=lane)
            for n, lane in enumerate(lanes)
        )
        await put(bench.store, Changes(insert_runs=runs), *(row.saga_id for row in runs))
        first = await bench.store.take_runs(SERVICE, "me", 3, 30.0)
        assert [each.run.attempt for each in first] == [1, 3, 0]
        assert [each.run.lane for each in first] == [Priority.URGENT, Priority.URGENT, Priority.NORMAL]
        assert [each.run.attempt for each in await bench.store.take_runs(SERVICE, "me", 3, 30.0)] == [2]

    async def test_the_first_attempt_of_a_waiting_delivery_is_not_forgotten(self, bench: StoreBench) -> None:
        now, saga = await bench.now(), saga_id()
        first = replace(waiting(saga, now, step="stock.reserve", message_id="1"), first_at=now)
        await put(bench.store, Changes(insert_deliveries=(first,)), saga)
        (taken,) = await bench.store.take_deliveries(SERVICE, 9, 0.0)
        assert taken.first_at == now
        later = replace(taken, first_at=now + timedelta(seconds=50))
        await put(bench.store, Changes(update_deliveries=(later,)), saga)
        await put(bench.store, Changes(insert_deliveries=(replace(later, id=0),)), saga)
        await bench.pass_time(1)
        (taken,) = await bench.store.take_deliveries(SERVICE, 9, 0.0)
        assert taken.first_at == now

    async def test_a_waiting_delivery_is_merged_into_the_row_of_its_key(self, bench: StoreBench) -> None:
        now, saga = await bench.now(), saga_id()
        due, later = now - timedelta(seconds=1), now + timedelta(days=1)
        first = waiting(saga, later, Reason.HELD, attempt=3, step="stock.reserve", message_id="1")
        await put(bench.store, Changes(insert_deliveries=(first,)), saga)
        again = replace(first, due_at=due, reason=Reason.RETRY, attempt=1, error="other")
        others = (
            replace(again, step="stock.pack", attempt=11),
            replace(again, message_id="2", attempt=12),
            replace(again, service=OTHER, attempt=13),
            replace(again, saga_id=saga_id(), attempt=14),
            *(replace(again, message_id="", attempt=15) for _ in range(2)),
            *(replace(again, reason=Reason.PARKED, attempt=16) for _ in range(2)),
            *(replace(again, reason=Reason.DEAD, attempt=17) for _ in range(2)),
        )
        await put(bench.store, Changes(insert_deliveries=(*others, again)), saga)
        rows = await bench.store.take_deliveries(SERVICE, 20, 30.0)
        assert sorted(row.attempt for row in rows) == [3, 11, 12, 14, 15, 15, 16, 16]
        (merged,) = [row for row in rows if row.attempt == 3]
        assert replace(merged, id=0, due_at=due) == replace(again, attempt=3)

    async def test_a_delivery_that_goes_on_waiting_is_updated_in_place(self, bench: StoreBench) -> None:
        now, saga = await bench.now(), saga_id()
        due = now - timedelta(seconds=1)
        rows = tuple(waiting(saga, due, attempt=n, step="stock.reserve", message_id=str(n)) for n in (1, 2, 3))
        await put(bench.store, Changes(insert_deliveries=rows), saga)
        taken = {row.attempt: row for row in await bench.store.take_deliveries(SERVICE, 10, 30.0)}
        changes = Changes(
            insert_deliveries=(replace(rows[0], message_id="new", attempt=9),),
            update_deliveries=(
                replace(taken[1], due_at=due, attempt=5, error="again"),
                replace(taken[2], due_at=due, attempt=1, reason=Reason.HELD),
            ),
            delete_deliveries=(taken[3].id,),
        )
        await put(bench.store, changes, saga)
        left = await bench.store.take_deliveries(SERVICE, 10, 0.0)
        assert {(row.attempt, row.message_id, row.error) for row in left} == {(5, "1", "again"), (9, "new", "e")}
        assert taken[1].id in {row.id for row in left}
        await put(bench.store, Changes(release=(saga,)), saga)
        released = await bench.store.take_deliveries(SERVICE, 10, 30.0)
        assert (taken[2].id, 2) in {(row.id, row.attempt) for row in released}

    async def test_a_waiting_delivery_that_is_gone_undoes_the_write(self, bench: StoreBench) -> None:
        now, one, two = await bench.now(), saga_id(), saga_id()
        due = now - timedelta(seconds=1)
        await put(
            bench.store,
            Changes(insert_deliveries=(waiting(one, due, message_id="1"), waiting(one, due, message_id="2"))),
            one,
        )
        gone, left = await bench.store.take_deliveries(SERVICE, 10, 0.0)
        await put(bench.other, Changes(delete_deliveries=(gone.id,)), one)
        for changes in (
            Changes(delete_deliveries=(left.id, gone.id)),
            Changes(update_deliveries=(replace(left, attempt=7), replace(gone, attempt=7))),
            Changes(delete_deliveries=(left.id,), update_deliveries=(replace(gone, attempt=7),)),
        ):
            with pytest.raises(Gone):
                await put(bench.store, replace(changes, insert_runs=(run(two),)), one, two)
        assert await seen_run(bench.store, two) is None
        assert [(row.id, row.attempt) for row in await bench.store.take_deliveries(SERVICE, 10, 30.0)] == [(left.id, 1)]
        await put(bench.store, Changes(delete_deliveries=(left.id,)), one)

    async def test_a_release_makes_what_waits_for_that_service_and_saga_due(self, bench: StoreBench) -> None:
        now, one, two = await bench.now(), saga_id(), saga_id()
        later = now + timedelta(days=1)
        rows = (
            waiting(one, later, Reason.HELD, attempt=1),
            waiting(two, later, Reason.HELD, attempt=2),
            waiting(one, later, Reason.HELD, OTHER, attempt=3),
            waiting(one, later, Reason.RETRY, attempt=4),
            waiting(one, later, Reason.DELAYED, attempt=5),
        )
        await put(bench.store, Changes(insert_deliveries=rows), one, two)
        await put(bench.store, Changes(release=(one,)), one)
        taken = await bench.store.take_deliveries(SERVICE, 10, 30.0)
        assert sorted((row.attempt, row.reason) for row in taken) == [(1, Reason.RETRY), (4, Reason.RETRY)]
        assert await bench.store.take_deliveries(OTHER, 10, 30.0) == []

    async def test_pending_runs_are_taken_with_owner_lease_and_revision(self, bench: StoreBench) -> None:
        now = await bench.now()
        old = run(saga_id(), status=RunStatus.INTENT, pending_at=now - timedelta(seconds=9))
        due = run(saga_id(), status=RunStatus.INTENT, pending_at=now - timedelta(seconds=5))
        later = run(saga_id(), status=RunStatus.INTENT, pending_at=now + timedelta(seconds=3600))
        foreign = run(saga_id(), "payment.take", pending_at=now - timedelta(seconds=9))
        rows = (due, old, later, foreign, run(saga_id()))
        await put(bench.store, Changes(insert_runs=rows), *(row.saga_id for row in rows))
        (taken,) = await bench.store.take_runs(SERVICE, "me", 1, 30.0)
        first = taken.run
        assert (taken.owner, taken.called_at) == ("", None)
        assert (first.saga_id, first.owner, first.revision) == (old.saga_id, "me", 2)
        assert first.pending_at is not None
        assert first.pending_at > now + timedelta(seconds=20)
        assert first.first_called_at == first.called_at == first.pending_at - timedelta(seconds=30)
        assert await seen_run(bench.other, old.saga_id) == first
        assert [each.run.saga_id for each in await bench.other.take_runs(SERVICE, "you", 9, 30.0)] == [due.saga_id]
        assert await bench.store.take_runs(SERVICE, "me", 9, 30.0) == []
        await bench.pass_time(31)
        again = {each.run.saga_id: each for each in await bench.other.take_runs(SERVICE, "you", 9, 30.0)}
        assert {(each.run.saga_id, each.owner, each.run.owner, each.run.revision) for each in again.values()} == {
            (old.saga_id, "me", "you", 3),
            (due.saga_id, "you", "you", 3),
        }
        second = again[old.saga_id]
        assert await seen_run(bench.store, old.saga_id) == second.run
        assert second.run.first_called_at == second.called_at == first.called_at
        assert second.run.called_at is not None
        assert first.called_at is not None
        assert second.run.called_at > first.called_at
        with pytest.raises(Conflict):  # the first owner comes back too late
            await put(bench.store, Changes(update_runs=(first,)), old.saga_id)

    async def test_a_beat_moves_leases_on_and_keeps_revisions(self, bench: StoreBench) -> None:
        now = await bench.now()
        one, two, three = (run(saga_id(), status=RunStatus.INTENT, pending_at=now) for _ in range(3))
        rows = (one, two, three)
        await put(bench.store, Changes(insert_runs=rows), *(row.saga_id for row in rows))
        mine = {each.run.saga_id: each.run for each in await bench.store.take_runs(SERVICE, "me", 9, 30.0)}
        await put(bench.store, Changes(update_runs=(replace(mine[two.saga_id], pending_at=None),)), two.saga_id)
        await bench.pass_time(25)
        stale = replace(mine[three.saga_id], revision=1)
        beat = await bench.store.beat(SERVICE, "me", [mine[one.saga_id], mine[two.saga_id], stale], 30.0)
        assert beat.kept == {(one.saga_id, one.step, one.branch)}
        assert beat.silent == {}
        kept = await seen_run(bench.other, one.saga_id)
        assert kept.pending_at is not None
        assert kept.pending_at > await bench.now() + timedelta(seconds=20)
        assert replace(kept, pending_at=None) == replace(mine[one.saga_id], pending_at=None)
        assert (await bench.store.beat(SERVICE, "me", [], 30.0)).kept == frozenset()
        assert await bench.other.beat("payment", "you", [], 30.0) == Beat(kept=frozenset(), silent={})
        beat = await bench.other.beat(SERVICE, "you", [mine[one.saga_id]], 30.0)
        assert beat == Beat(kept=frozenset(), silent={(three.saga_id, three.step, three.branch): "me"})
        await bench.pass_time(6)
        assert [each.run.saga_id for each in await bench.other.take_runs(SERVICE, "you", 9, 30.0)] == [three.saga_id]
        await bench.pass_time(25)
        assert [each.run.saga_id for each in await bench.other.take_runs(SERVICE, "you", 9, 30.0)] == [one.saga_id]

    async def test_nobody_is_silent_who_has_given_a_run_back(self, bench: StoreBench) -> None:
        now = await bench.now()
        waiting = run(saga_id(), status=RunStatus.INTENT, pending_at=now + timedelta(seconds=2))
        await put(bench.store, Changes(insert_runs=(waiting,)), waiting.saga_id)
        assert (await bench.other.beat(SERVICE, "you", [], 30.0)).silent == {}

    # --- the outbox -------------------------------------------------------------------------------------------

    async def test_outbox_rows_get_their_seq_in_order_and_come_back_whole(self, bench: StoreBench) -> None:
        rows = tuple(outgoing(str(n), None if n == 1 else b"\x00{}", b"record" if n else None) for n in range(40))
        seqs = await put(bench.store, Changes(outbox=rows))
        assert list(seqs) == sorted(set(seqs))
        assert (await bench.store.pending())[0] == 40
        await bench.pass_time(6)
        swept = await sweep(bench.store, "me", limit=100)
        assert swept == [replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)]
        await bench.store.delete(seqs[:39])
        await bench.store.delete([])
        assert [row.seq for row in await sweep(bench.store, "me")] == [seqs[39]]

    async def test_the_sweep_takes_old_rows_not_in_hand_page_by_page(self, bench: StoreBench) -> None:
        old = await put(bench.store, Changes(outbox=tuple(outgoing() for _ in range(5))))
        await bench.pass_time(6)
        young = await put(bench.store, Changes(outbox=(outgoing(),)))
        assert [row.seq for row in await sweep(bench.store, "me", limit=2)] == list(old[:2])
        assert [row.seq for row in await sweep(bench.store, "me", (old[0], old[2]))] == [old[1], old[3], old[4]]
        assert await sweep(bench.store, "me", old) == []
        assert [row.seq for row in await sweep(bench.store, "me", old, older=-60)] == list(young)
        rows, age = await bench.store.pending()
        assert rows == 6
        assert 6 <= age < 60

    async def test_rows_committed_out_of_order_are_all_swept(self, bench: StoreBench) -> None:
        caller = await bench.caller()
        try:
            await caller.execute("begin")
            async with bench.store.adopt(caller.raw, SERVICE) as unit:
                early = await unit.write(Changes(outbox=(outgoing(),)))
            if not await self._overtake(bench):
                await caller.execute("commit")
                return
            await bench.pass_time(6)
            (late,) = await sweep(bench.store, "me")
            await bench.store.delete([late.seq])
            await caller.execute("commit")
            await bench.pass_time(6)
            assert [row.seq for row in await sweep(bench.store, "me")] == list(early)
            assert early[0] < late.seq
        finally:
            await caller.close()

    async def _overtake(self, bench: StoreBench) -> bool:
        """Commit a row while another transaction is open; return whether the database can do that."""
        with anyio.move_on_after(0.3):
            await put(bench.store, Changes(outbox=(outgoing(),)))
            return True
        return False

    async def test_one_sweeper_at_a_time(self, bench: StoreBench) -> None:
        await put(bench.store, Changes(outbox=(outgoing(), outgoing())))
        await bench.pass_time(6)
        assert len(await sweep(bench.store, "me")) == 2
        assert await sweep(bench.other, "you") == []
        assert len(await sweep(bench.store, "me")) == 2  # renewed
        await bench.pass_time(31)
        assert len(await sweep(bench.other, "you")) == 2
        assert await sweep(bench.store, "me") == []

    # --- ageing -----------------------------------------------------------------------------------------------

    async def test_pruning_spares_what_is_young_kept_or_owes_something(self, bench: StoreBench, prune: Prune) -> None:
        now = await bench.now()
        old, young = now - timedelta(days=2), now - timedelta(hours=23)
        gone, kept, shut = run(saga_id(), expires_at=old), run(saga_id(), expires_at=old), saga_id()
        rows = (
            gone,
            kept,
            run(saga_id(), expires_at=young),
            run(saga_id(), expires_at=old, pending_at=now),
            replace(run(saga_id(), expires_at=old), undo=UndoStatus.WANTED),
        )
        gates = (
            replace(gate(gone.saga_id), expires_at=old, keep_until=old),
            replace(gate(kept.saga_id), expires_at=old, keep_until=young),
            replace(gate(shut), expires_at=old, keep_until=None),
        )
        dead = waiting(gone.saga_id, old, Reason.DEAD)
        await put(bench.store, Changes(insert_runs=rows, gates=gates, insert_deliveries=(dead,)))
        assert await prune(bench.store, 1) == 2
        assert await prune(bench.store, 1) == 1
        assert await prune(bench.store, 1) == 0
        assert await seen_run(bench.store, gone.saga_id) is None
        for row in rows[1:]:
            assert await seen_run(bench.store, row.saga_id) is not None
        async with bench.store.unit(claim()) as unit:
            assert len(await unit.db.fetch("select 1 as one from saga_delivery")) == 1
            assert set((await unit.read([gone.saga_id, kept.saga_id, shut], [])).gates) == {kept.saga_id}

    # --- opening ----------------------------------------------------------------------------------------------

    async def test_migrating_again_and_at_once_changes_nothing(self, bench: StoreBench) -> None:
        saga = saga_id()
        await put(bench.store, Changes(insert_runs=(run(saga),)), saga)
        async with anyio.create_task_group() as tasks:
            for store in (bench.store, bench.other, bench.store):
                tasks.start_soon(store.migrate)
        assert await seen_run(bench.store, saga) is not None

    async def test_a_closed_store_says_so(self, bench: StoreBench) -> None:
        await bench.other.__aexit__(None, None, None)
        with pytest.raises(StoreError, match="async with store"):
            await bench.other.pending()
        await bench.other.__aenter__()
        assert await bench.other.pending() == (0, 0.0)


Prune = Callable[[Store, int], Any]


@pytest.fixture(name="prune")
def give_prune() -> Prune:
    async def prune(store: Any, limit: int) -> int:
        return await prune_expired(store, limit, 86_400.0)

    return prune
