"""Fill a coordinator's and a service's database with sagas in every state that people ask about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import anyio

from outbox.urls import open_coordination_store, open_store
from saga._core.audit import AuditRow
from saga._core.bodies import UndoFailed
from saga._core.instance import Instance
from saga._core.planning import plan_hash, plan_to_json
from saga._core.rows import Changes, CoordinatorChanges, InstanceRow, PlanRow, RunRow
from saga._core.stored_instance import instance_row
from saga._core.words import Reason, RunStatus, UndoStatus
from tests.contracts.operating_contract import dead
from tests.contracts.store_rows import put
from tests.core.protocol_examples import NOW, PLAIN, RESERVED, SENT_PLAIN, START, a_fact, closed, ran, told

PLAN = replace(PLAIN.plan, hash=plan_hash(PLAIN.plan))
ONE, SERVICES = "sqlite:///one.db", "sqlite:///services.db"
FAILED = replace(a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve"), attempts=3)
BROKEN = (ran(START), ran(RESERVED), ran(FAILED), closed("stock", RESERVED), closed("ship", FAILED))
STUCK = told(PLAIN, *BROKEN, UndoFailed(step="stock.reserve", reason="no such shelf")).instance
RUNNING = told(PLAIN, ran(START)).instance
FURTHER = told(PLAIN, ran(RESERVED), at=RUNNING).instance
COMPLETED = told(PLAIN, ran(SENT_PLAIN), at=FURTHER).instance


def row(saga_id: str, instance: Instance, revision: int = 0) -> InstanceRow:
    """Return an instance as it is stored."""
    return instance_row(
        replace(instance, saga_id=saga_id),
        saga=PLAN.saga,
        version=1,
        plan=PLAN.hash,
        tenant="",
        partition=0,
        revision=revision,
        started_at=NOW,
    )


async def fill_coordinator(url: str, rows: Sequence[InstanceRow], audits: Sequence[AuditRow] = ()) -> None:
    """Make a coordinator's tables and put instances, the plan and a trail into them."""
    async with open_coordination_store(url) as coordination:
        await coordination.migrate()
        body = plan_to_json(PLAN)
        await coordination.put_plans([PlanRow(saga=PLAN.saga, version=1, revision=1, hash=PLAN.hash, body=body)])
        await coordination.write(CoordinatorChanges(instances=tuple(rows), audits=tuple(audits)))


async def fill_services(url: str) -> None:
    """Make a service's tables and put what it keeps of the stuck saga into them: a run, a dead letter."""
    async with open_store(url) as store:
        await store.migrate()
        gone = RunRow(
            saga_id="s1",
            step="stock.reserve",
            plan=PLAN.hash,
            status=RunStatus.DONE,
            undo=UndoStatus.FAILED,
            attempt=4,
            error="KeyError: shelf 7b",
            expires_at=NOW + timedelta(days=7),
            created_at=NOW,
        )
        letter = replace(dead(1, "payload: no sku", step="ship.send", saga="s1", service="ship"), reason=Reason.DEAD)
        await put(store, Changes(insert_runs=(gone,), insert_deliveries=(letter,)), "s1")


def fill() -> None:
    """Make both databases in the working directory."""
    act = AuditRow(at=NOW, who="bob", why="hopeful", verb="retry", saga_id="s1", target="stock.reserve")

    async def both() -> None:
        rows = (row("s1", STUCK), row("s2", RUNNING), row("s3", COMPLETED))
        await fill_coordinator(ONE, rows, (act,))
        await fill_services(SERVICES)

    anyio.run(both)
