"""Write a decided turn: rows, the event with its record, and the reports, in the open transaction."""

from __future__ import annotations

from datetime import datetime

from saga._core import emit
from saga._core.frozen import replace
from saga._core.participant import Turn
from saga._core.plan import Topology
from saga._core.rows import Changes, OutboxRow
from saga._core.words import Priority
from saga._runtime.children import cancel_child
from saga._runtime.context import ServiceContext
from saga._runtime.tracing import goes_to
from saga.ports import SpanKind, UnitOfWork


async def write_turn(
    context: ServiceContext,
    unit: UnitOfWork,
    topology: Topology,
    saga_id: str,
    turn: Turn,
    *,
    now: datetime,
    expires_at: datetime,
    tenant: str,
    traceparent: str,
    lane: Priority,
    used_row: int | None = None,
) -> list[OutboxRow]:
    """Store a turn and return its outbox rows with their `seq`, to be handed over after the commit.

    `used_row` is the waiting delivery the turn came from; it is deleted in the same statement.
    """
    outbox: list[OutboxRow] = []
    if turn.emit is not None:
        name = f"create {turn.emit.result_type or turn.emit.step}"
        with context.tracer.span(name, SpanKind.PRODUCER, traceparent, {"saga.id": saga_id}) as span:
            outbox += emit.ended_run(turn.emit, topology.plan, now, span.traceparent)
            goes_to(span, outbox)
    about = emit.About(
        saga_id=saga_id,
        plan=topology.plan.hash,
        tenant=tenant,
        expires_at=expires_at,
        now=now,
        traceparent=traceparent,
        lane=lane,
    )
    outbox += [emit.report(report, service=context.service, about=about) for report in turn.reports]
    if turn.cancel_child is not None:
        outbox += await cancel_child(context, unit, topology, turn.cancel_child, about)
    outbox += turn.published
    run = (turn.run,) if turn.run is not None else ()
    changes = Changes(
        insert_runs=tuple(row for row in run if not row.revision),
        update_runs=tuple(row for row in run if row.revision),
        gates=(turn.gate,) if turn.gate is not None else (),
        outbox=tuple(outbox),
        delete_deliveries=(used_row,) if used_row is not None else (),
        release=(saga_id,) if turn.release else (),
    )
    seqs = await unit.write(changes)
    return [replace(row, seq=seq) for row, seq in zip(outbox, seqs, strict=True)]
