# ruff: noqa: PT012 - a unit of work is left by the error
from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio
import pytest

from saga._core.locks import LockRequest, LockView, Otherwise
from saga._core.rows import Changes, DeliveryRow
from saga._core.words import Reason
from saga.ports import Store
from tests.contracts.ageing import prune_expired
from tests.contracts.store_rows import OTHER, SERVICE, claim, gate, put, saga_id, waiting

DAY = timedelta(days=1)


class LocksBench(Protocol):
    """What the contract needs of an adapter: one migrated database, two stores on it."""

    store: Store
    other: Store

    async def now(self) -> datetime: ...

    async def until_somebody_waits(self) -> None:
        """Return once a transaction waits for a lock."""
        ...


class Stop(Exception):
    pass


def asks(saga: str, expires_at: datetime, **options: Any) -> LockRequest:
    """Return what the delivery `1` of stock.reserve asks for."""
    request = LockRequest(
        kind="sku",
        entity="lamp",
        saga_id=saga,
        step="stock.reserve",
        message_id="1",
        otherwise=Otherwise.WAIT,
        timeout=None,
        expires_at=expires_at,
    )
    return replace(request, **options)


async def seen(store: Store, request: LockRequest, service: str = SERVICE) -> LockView:
    async with store.unit(claim(service=service)) as unit:
        return await unit.see_lock(request)


async def take(store: Store, request: LockRequest, service: str = SERVICE) -> None:
    async with store.unit(claim(service=service)) as unit:
        await unit.see_lock(request)
        await unit.take_lock(request)


async def release(store: Store, saga: str, service: str = SERVICE) -> int:
    async with store.unit(claim(service=service)) as unit:
        return await unit.release_locks(saga)


async def wait(store: Store, request: LockRequest, reason: Reason = Reason.LOCKED) -> None:
    """Let a request wait, as the runtime does: with its delivery in a row that is not due for an hour."""
    async with store.unit(claim(request.saga_id)) as unit:
        due_at = (await unit.see_lock(request)).now + timedelta(hours=1)
        await unit.wait_for_lock(request)
        row = waiting(request.saga_id, due_at, reason, attempt=0, step=request.step, message_id=request.message_id)
        await unit.write(Changes(insert_deliveries=(row,)))


async def due(store: Store) -> list[DeliveryRow]:
    return list(await store.take_deliveries(SERVICE, 10, 3600.0))


class LocksContract:
    """What every participant's store does for sagas that hold entities; run by each adapter."""

    async def test_an_entity_has_the_holder_that_took_it_until_it_is_released(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one, two = asks(saga_id(), expires_at), asks(saga_id(), expires_at)
        free = await seen(bench.store, one)
        assert (free.holder, free.ahead, free.since, free.keep_until) == ("", "", None, None)
        await take(bench.store, one)
        held = await seen(bench.other, two)
        assert (held.holder, held.expires_at, held.ahead, held.since) == (one.saga_id, expires_at, "", None)
        assert await release(bench.store, two.saga_id) == 0
        assert (await seen(bench.other, two)).holder == one.saga_id
        assert await release(bench.store, one.saga_id) == 1
        assert await release(bench.store, one.saga_id) == 0
        assert (await seen(bench.other, two)).holder == ""
        await take(bench.other, two)
        assert (await seen(bench.store, one)).holder == two.saga_id

    async def test_entities_of_another_kind_name_or_service_are_others(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one = asks(saga_id(), expires_at)
        lamp, shelf = replace(one, entity="Lamp"), replace(one, kind="shelf")
        await take(bench.store, one)
        assert (await seen(bench.store, lamp)).holder == ""
        assert (await seen(bench.store, shelf)).holder == ""
        assert (await seen(bench.store, one, OTHER)).holder == ""
        for request in (lamp, shelf):
            await take(bench.store, request)
        await take(bench.store, one, OTHER)
        assert await release(bench.store, one.saga_id) == 3
        assert (await seen(bench.store, one, OTHER)).holder == one.saga_id
        assert (await seen(bench.store, shelf)).holder == ""

    async def test_what_is_rolled_back_holds_nothing(self, bench: LocksBench) -> None:
        one = asks(saga_id(), await bench.now() + DAY)
        with pytest.raises(Stop):
            async with bench.store.unit(claim()) as unit:
                await unit.see_lock(one)
                await unit.take_lock(one)
                assert (await unit.see_lock(one)).holder == one.saga_id
                raise Stop
        assert (await seen(bench.store, one)).holder == ""
        assert await release(bench.store, one.saga_id) == 0

    async def test_one_transaction_at_a_time_sees_an_entity(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one, two = asks(saga_id(), expires_at), asks(saga_id(), expires_at)
        found: list[LockView] = []

        async def come_second() -> None:
            found.append(await seen(bench.other, two))

        async with anyio.create_task_group() as tasks, bench.store.unit(claim()) as unit:
            assert (await unit.see_lock(one)).holder == ""
            tasks.start_soon(come_second)
            await bench.until_somebody_waits()
            assert not found
            await unit.take_lock(one)
        assert [view.holder for view in found] == [one.saga_id]

    async def test_the_holder_is_kept_as_long_as_its_gate_says(self, bench: LocksBench) -> None:
        now = await bench.now()
        one, two = asks(saga_id(), now - DAY), asks(saga_id(), now + DAY)
        await put(bench.store, Changes(gates=(replace(gate(one.saga_id), keep_until=now + DAY),)), one.saga_id)
        await take(bench.store, one)
        view = await seen(bench.store, two)
        assert (view.holder, view.expires_at, view.keep_until) == (one.saga_id, now - DAY, now + DAY)
        assert now <= view.now
        await take(bench.store, two)
        assert (await seen(bench.store, one)).holder == two.saga_id
        assert await release(bench.store, one.saga_id) == 0

    # --- waiting ----------------------------------------------------------------------------------------------

    async def test_who_queues_first_comes_first_as_long_as_its_delivery_waits(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        holder, late = asks(saga_id(), expires_at), asks(saga_id(), expires_at)
        first, second, third = (asks(saga_id(), expires_at, otherwise=Otherwise.QUEUE) for _ in range(3))
        await take(bench.store, holder)
        await wait(bench.store, first)
        await wait(bench.store, second)
        await wait(bench.store, third)
        views = [await seen(bench.other, request) for request in (first, second, third, late)]
        assert [view.ahead for view in views] == ["", first.saga_id, first.saga_id, first.saga_id]
        since = [view.since for view in views]
        assert since[3] is None
        async with bench.store.unit(claim(first.saga_id)) as unit:
            await unit.wait_for_lock(first)
        again = await seen(bench.store, first)
        assert (again.since, again.ahead) == (since[0], "")
        (row,) = [r for r in await self._all(bench) if r["saga_id"] == first.saga_id]
        await put(bench.store, Changes(delete_deliveries=(row["id"],)), first.saga_id)
        assert [(await seen(bench.store, request)).ahead for request in (second, late)] == ["", second.saga_id]
        async with bench.store.unit(claim()) as unit:
            await unit.db.execute("update saga_delivery set reason = 'held' where saga_id = $1", second.saga_id)
        assert (await seen(bench.store, late)).ahead == third.saga_id
        async with bench.store.unit(claim()) as unit:
            await unit.db.execute("update saga_delivery set reason = 'retry' where saga_id = $1", second.saga_id)
        assert (await seen(bench.store, late)).ahead == second.saga_id

    async def test_who_only_waits_is_ahead_of_nobody(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one, late = asks(saga_id(), expires_at), asks(saga_id(), expires_at)
        await wait(bench.store, one)
        assert (await seen(bench.store, late)).ahead == ""
        async with bench.store.unit(claim()) as unit:
            await unit.wait_for_lock(replace(one, otherwise=Otherwise.QUEUE))
        assert (await seen(bench.store, late)).ahead == one.saga_id

    async def test_a_saga_is_not_ahead_of_itself(self, bench: LocksBench) -> None:
        one = asks(saga_id(), await bench.now() + DAY, otherwise=Otherwise.QUEUE)
        await wait(bench.store, one)
        assert (await seen(bench.store, replace(one, message_id="2"))).ahead == ""

    async def test_a_release_wakes_the_first_that_waits_and_nobody_else(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        holder, first, second = (asks(saga_id(), expires_at) for _ in range(3))
        await take(bench.store, holder)
        await wait(bench.store, first)
        await wait(bench.store, second)
        await wait(bench.store, replace(asks(saga_id(), expires_at), entity="chair"))
        assert await due(bench.store) == []
        await release(bench.store, holder.saga_id)
        assert [(row.saga_id, row.reason, row.attempt) for row in await due(bench.other)] == [
            (first.saga_id, Reason.LOCKED, 0)
        ]
        # It ends without having taken the entity.
        assert await release(bench.store, first.saga_id) == 1
        assert [row.saga_id for row in await due(bench.other)] == [second.saga_id]

    async def test_a_release_does_not_miss_who_is_about_to_wait(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        holder, one = asks(saga_id(), expires_at), asks(saga_id(), expires_at)
        await take(bench.store, holder)

        async def end() -> None:
            await release(bench.other, holder.saga_id)

        async with anyio.create_task_group() as tasks, bench.store.unit(claim(one.saga_id)) as unit:
            view = await unit.see_lock(one)
            tasks.start_soon(end)
            await bench.until_somebody_waits()
            await unit.wait_for_lock(one)
            row = waiting(one.saga_id, view.now + DAY, Reason.LOCKED, step=one.step, message_id=one.message_id)
            await unit.write(Changes(insert_deliveries=(row,)))
        assert [row.saga_id for row in await due(bench.store)] == [one.saga_id]

    async def test_who_gets_the_entity_leaves_the_queue_and_takes_its_saga_along(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one, late = asks(saga_id(), expires_at, otherwise=Otherwise.QUEUE), asks(saga_id(), expires_at)
        branch, elsewhere = replace(one, message_id="2"), replace(one, message_id="3", entity="chair")
        for request in (one, branch, elsewhere):
            await wait(bench.store, request)
        await take(bench.store, one)
        assert sorted(row.message_id for row in await due(bench.store)) == ["1", "2"]
        view = await seen(bench.store, late)
        assert (view.holder, view.ahead) == (one.saga_id, "")
        assert (await seen(bench.store, replace(late, entity="chair"))).ahead == one.saga_id

    async def test_who_waits_elsewhere_gives_its_place_up_to_the_next(self, bench: LocksBench) -> None:
        expires_at = await bench.now() + DAY
        one, two = (asks(saga_id(), expires_at, otherwise=Otherwise.QUEUE) for _ in range(2))
        await wait(bench.store, one)
        await wait(bench.store, replace(one, message_id="2"))
        await wait(bench.store, two)
        async with bench.store.unit(claim()) as unit:
            await unit.wait_for_lock(replace(one, entity="chair"))
        # It is the first that is left there: the other delivery of the same saga.
        assert [(row.saga_id, row.message_id) for row in await due(bench.store)] == [(one.saga_id, "2")]
        assert (await seen(bench.store, replace(two, entity="chair"))).ahead == one.saga_id
        async with bench.store.unit(claim()) as unit:
            await unit.wait_for_lock(replace(one, message_id="2", kind="shelf"))
        assert [row.saga_id for row in await due(bench.store)] == [two.saga_id]
        assert (await seen(bench.store, two)).ahead == ""

    # --- the rows that wait -----------------------------------------------------------------------------------

    async def test_a_delivery_that_waits_for_an_entity_has_one_row_that_its_gate_releases(
        self, bench: LocksBench
    ) -> None:
        now, one = await bench.now(), saga_id()
        row = waiting(one, now + DAY, Reason.LOCKED, attempt=2, step="stock.reserve", message_id="1")
        await put(bench.store, Changes(insert_deliveries=(row,)), one)
        await put(bench.store, Changes(insert_deliveries=(replace(row, reason=Reason.RETRY, attempt=1),)), one)
        (stored,) = await self._all(bench)
        assert (stored["attempt"], stored["saga_id"]) == (2, one)
        assert await due(bench.store) == []
        await put(bench.store, Changes(update_deliveries=(replace(row, id=stored["id"]),)), one)
        await put(bench.store, Changes(release=(one,)), one)
        assert [(row.id, row.reason) for row in await due(bench.store)] == [(stored["id"], Reason.RETRY)]

    async def test_pruning_spares_what_is_kept_or_still_waits(self, bench: LocksBench) -> None:
        now = await bench.now()
        old = now - 3 * DAY
        gone, kept, young = (asks(saga_id(), old), asks(saga_id(), old), asks(saga_id(), now))
        for number, request in enumerate((gone, kept, young)):
            await take(bench.store, replace(request, entity=str(number)))
        await put(bench.store, Changes(gates=(replace(gate(kept.saga_id), keep_until=now + DAY),)), kept.saga_id)
        waits, left = asks(saga_id(), old), asks(saga_id(), old)
        await wait(bench.store, waits)
        async with bench.store.unit(claim()) as unit:
            await unit.wait_for_lock(left)
        store: Any = bench.store
        assert await prune_expired(store, 10, 86_400.0) == 2
        async with bench.store.unit(claim()) as unit:
            locks = await unit.db.fetch("select saga_id from saga_lock where saga_id <> ''")
            queue = await unit.db.fetch("select saga_id from saga_lock_queue")
        assert {row["saga_id"] for row in locks} == {kept.saga_id, young.saga_id}
        assert [row["saga_id"] for row in queue] == [waits.saga_id]

    @staticmethod
    async def _all(bench: LocksBench) -> list[Any]:
        async with bench.store.unit(claim()) as unit:
            return await unit.db.fetch("select * from saga_delivery order by id")
