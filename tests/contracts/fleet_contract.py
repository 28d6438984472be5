from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import pytest

from saga._core.envelope import Delivery
from saga._core.rows import Changes, CoordinatorChanges, DeliveryRow, RunRow
from saga._core.words import GateState, Reason, RunStatus, UndoStatus
from saga.errors import StoreError
from saga.ports import CoordinationStore, Store
from saga.ports.fleet import OpenPlans, OpenSteps
from tests.contracts.store_rows import SERVICE, claim, gate, instance, put, run, saga_id, waiting

PLAN, OTHER_PLAN = "a" * 64, "b" * 64
WINDOW = 3600.0
RESERVE, PACK = "stock.reserve", "stock.pack"


class FleetBench(Protocol):
    """What the contract needs of an adapter: one migrated database, used by a participant and a coordinator."""

    store: Store
    coordination: CoordinationStore

    async def now(self) -> datetime: ...


def parked(
    saga: str, now: datetime, reason: Reason = Reason.PARKED, step: str = RESERVE, plan: str = PLAN
) -> DeliveryRow:
    headers = (("ce_sagaplan", plan.encode()),)
    raw = Delivery(topic="orders.events", partition=0, offset=1, key=b"k", value=b"{}", headers=headers)
    return replace(waiting(saga, now, reason, step=step, message_id=saga), raw=raw)


class FleetContract:
    """What every store tells of what is open; run by each adapter."""

    async def test_open_sagas_are_counted_by_plan(self, bench: FleetBench) -> None:
        assert isinstance(bench.coordination, OpenPlans)
        assert await bench.coordination.open_plans() == {}
        rows = [replace(instance(saga_id()), plan=plan) for plan in (PLAN, PLAN, OTHER_PLAN)]
        rows.append(replace(instance(saga_id()), plan=PLAN, phase="stuck"))
        rows += [replace(instance(saga_id()), plan=PLAN, phase=phase) for phase in ("completed", "compensated")]
        await bench.coordination.write(CoordinatorChanges(instances=tuple(rows)))
        assert await bench.coordination.open_plans() == {PLAN: 3, OTHER_PLAN: 1}

    async def test_a_database_without_a_coordinator_says_so(self, bench: FleetBench) -> None:
        assert isinstance(bench.coordination, OpenPlans)
        async with bench.store.unit(claim()) as unit:
            await unit.db.execute("drop table saga_instance")
        with pytest.raises(StoreError, match="has no table of a coordinator"):
            await bench.coordination.open_plans()

    async def open(self, bench: FleetBench, *changes: Changes, undone: tuple[str, ...] = ()) -> dict[str, int]:
        assert isinstance(bench.store, OpenSteps)
        for one in changes:
            await put(bench.store, one)
        return dict(await bench.store.open_steps(SERVICE, PLAN, (RESERVE, PACK), undone, WINDOW))

    async def test_what_waits_needs_its_step(self, bench: FleetBench) -> None:
        now = await bench.now()
        one, two = saga_id(), saga_id()
        rows = [parked(one, now), parked(two, now, Reason.RETRY), parked(two, now, Reason.HELD, step=PACK)]
        rows += [parked(one, now), replace(parked(saga_id(), now), service="other")]
        rows += [parked(saga_id(), now, Reason.DEAD), parked(saga_id(), now, plan=OTHER_PLAN)]
        rows += [parked(saga_id(), now, step="stock.other"), parked(saga_id(), now, step="")]
        assert await self.open(bench, Changes(insert_deliveries=tuple(rows))) == {RESERVE: 2, PACK: 1}
        assert await self.open(bench, Changes(gates=(gate(two),))) == {RESERVE: 1}
        assert await self.open(bench, Changes(gates=(replace(gate(two), state=GateState.CLOSING),))) == {
            RESERVE: 2,
            PACK: 1,
        }

    async def test_outside_work_that_is_outstanding_needs_its_step(self, bench: FleetBench) -> None:
        now = await bench.now()
        calls = run_of(now, status=RunStatus.INTENT, pending_at=now)
        undoing = run_of(now, undo=UndoStatus.INTENT, pending_at=now, step=PACK)
        elsewhere = run_of(now, status=RunStatus.INTENT, pending_at=now, plan=OTHER_PLAN)
        rows = (calls, undoing, elsewhere, run_of(now), run_of(now, step="stock.other", pending_at=now))
        assert await self.open(bench, Changes(insert_runs=rows)) == {RESERVE: 1, PACK: 1}

    async def test_what_may_have_to_be_undone_needs_its_step_until_the_timeout(self, bench: FleetBench) -> None:
        now = await bench.now()
        young, old = now + timedelta(seconds=WINDOW + 60), now + timedelta(seconds=WINDOW - 60)
        rows = [run_of(now, expires_at=young), run_of(now, expires_at=young, step=PACK), run_of(now, expires_at=old)]
        rows += [run_of(now, expires_at=young, undo=UndoStatus.DONE)]
        rows += [run_of(now, expires_at=young, status=RunStatus.REFUSED)]
        assert await self.open(bench, Changes(insert_runs=tuple(rows)), undone=(RESERVE,)) == {RESERVE: 1}
        assert await self.open(bench) == {}

    async def test_starts_are_open_until_their_end_is_heard_of(self, bench: FleetBench) -> None:
        assert isinstance(bench.store, OpenSteps)
        now = await bench.now()
        start = f"{SERVICE}.start"
        rows = [run_of(now, step=start), run_of(now, step=start), run_of(now)]
        rows += [replace(run_of(now, step=start), outcome=b"{}"), run_of(now, step=start, plan=OTHER_PLAN)]
        rows += [run_of(now, step=start, expires_at=now - timedelta(seconds=1))]
        await put(bench.store, Changes(insert_runs=tuple(rows)))
        assert await bench.store.open_starts(SERVICE, PLAN) == 2
        assert await bench.store.open_starts("other", PLAN) == 0


def run_of(
    now: datetime,
    *,
    step: str = RESERVE,
    status: RunStatus = RunStatus.DONE,
    undo: UndoStatus = UndoStatus.NONE,
    pending_at: datetime | None = None,
    plan: str = PLAN,
    expires_at: datetime | None = None,
) -> RunRow:
    """Return a run of a saga of its own, by default long past its timeout."""
    expires_at = expires_at or now + timedelta(seconds=WINDOW / 2)
    row = run(saga_id(), step, status=status, pending_at=pending_at, expires_at=expires_at)
    return replace(row, plan=plan, undo=undo)
