"""Run one step of a batch inside its transaction, and write down what it came to."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import assert_never

from saga._core import emit
from saga._core.answers import concluded, failed
from saga._core.definition import Binding
from saga._core.events import Refusal
from saga._core.ids import idempotency_key
from saga._core.participant import Meeting, meet
from saga._core.plan import Plan
from saga._core.retry import Retry
from saga._core.rows import RunRow, Snapshot
from saga._core.run import Run
from saga._core.words import Effects, Reason, RunStatus, StepKind
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import HandlerTrouble, answer_of, call, checked, raise_if_store
from saga._runtime.items import EndItem, StepItem
from saga._runtime.pending import PendingWork
from saga._runtime.writing import Writing
from saga.ports import SpanKind, UnitOfWork

log = logging.getLogger("saga")

END_RETRY = Retry(attempts=1_000_000, base_seconds=0.2, cap_seconds=60.0)


class Trouble(Exception):
    """Leave a transaction because of one item: its handler raised, or refused after it had written."""

    def __init__(self, item: StepItem | EndItem, reason: HandlerTrouble | Refusal) -> None:
        self.item = item
        self.reason = reason
        super().__init__(str(reason))


def tries_of(item: StepItem | EndItem) -> int:
    """Return how often the item has been tried and has failed."""
    return item.row.attempt if item.row is not None else 0


def new_run(item: StepItem, now: datetime, traceparent: str) -> RunRow:
    """Return the row of a run that begins now; its status is that of an intent until it is known."""
    return RunRow(
        saga_id=item.envelope.saga_id,
        step=item.step.name,
        branch=item.envelope.branch,
        plan=item.envelope.plan,
        tenant=item.envelope.tenant,
        status=RunStatus.INTENT,
        causes=(item.cause,),
        input_type=item.envelope.type,
        input=item.envelope.payload,
        attempt=tries_of(item) + 1,
        traceparent=traceparent,
        expires_at=item.envelope.expires_at or now,
        created_at=now,
    )


async def meet_step(
    context: ServiceContext,
    pending: PendingWork,
    unit: UnitOfWork,
    seen: Snapshot,
    writing: Writing,
    item: StepItem,
) -> None:
    """Do with an event what its run row and its gate say; raises Trouble, StoreError."""
    meeting = _meeting(seen, item, writing.inserts.get(item.run_id))
    context.count(meeting.value)
    match meeting:
        case Meeting.DUPLICATE | Meeting.TURNED_AWAY | Meeting.EXPIRED:
            return
        case Meeting.HELD:
            writing.set_aside(context, item, Reason.HELD, attempt=tries_of(item), error="the gate is closing")
        case Meeting.RUN:
            await _begin(context, pending, unit, writing, item)
        case _:
            assert_never(meeting)


def _meeting(seen: Snapshot, item: StepItem, inserted: RunRow | None) -> Meeting:
    return meet(
        gate=seen.gates.get(item.envelope.saga_id),
        run=inserted or seen.runs.get(item.run_id),
        expires_at=item.envelope.expires_at or seen.now,
        now=seen.now,
    )


async def _begin(
    context: ServiceContext, pending: PendingWork, unit: UnitOfWork, writing: Writing, item: StepItem
) -> None:
    attributes = {"saga.id": item.envelope.saga_id, "saga.step": item.step.name}
    name = f"process {item.delivery.topic}"
    with context.tracer.span(name, SpanKind.CONSUMER, item.envelope.traceparent, attributes) as span:
        row = new_run(item, writing.now, span.traceparent)
        if item.step.effects is Effects.EXTERNAL:
            intent = pending.intent(row, writing.now)
            writing.inserts[item.run_id] = intent
            if intent.owner:
                writing.intents.append(intent)
            return
        try:
            ended = await _run_local(unit, item, row, writing.now)
        except Trouble as trouble:
            if isinstance(trouble.reason, HandlerTrouble):
                span.fail(trouble.reason)
            raise
        writing.inserts[item.run_id] = ended
        write_end(context, writing, item.topology.plan, ended, span.traceparent)


def write_end(context: ServiceContext, writing: Writing, plan: Plan, ended: RunRow, parent: str) -> None:
    """Add the event and the run record of an ended run to what is written, below a `create` span."""
    attributes = {"saga.id": ended.saga_id}
    name = f"create {ended.result_type or ended.step}"
    with context.tracer.span(name, SpanKind.PRODUCER, parent, attributes) as span:
        writing.outbox.append(emit.ended_run(ended, plan, writing.now, span.traceparent))


async def _run_local(unit: UnitOfWork, item: StepItem, row: RunRow, now: datetime) -> RunRow:
    step = item.step
    run = Run(
        saga_id=row.saga_id,
        step=row.step,
        branch=row.branch,
        attempt=row.attempt,
        tenant=row.tenant,
        idempotency_key=idempotency_key(row.saga_id, row.step, row.branch),
        door=unit,
    )
    before = unit.writes
    try:
        raw = await call(step.handler, step.bindings, {Binding.INPUT: item.event}, run, step.timeout_seconds)
        result = checked(raw, step)
    except HandlerTrouble as trouble:
        raise_if_store(trouble)
        raise Trouble(item, trouble) from trouble
    if isinstance(result, Refusal) and unit.writes != before:
        raise Trouble(item, result)
    return concluded(row, answer_of(result), now)


def give_up(
    context: ServiceContext,
    seen: Snapshot,
    writing: Writing,
    item: StepItem | EndItem,
    reason: HandlerTrouble | Refusal,
) -> None:
    """Write the refusal, the next attempt or the failure of an item that was tried alone and rolled back."""
    if isinstance(item, EndItem):
        _again(context, writing, item, END_RETRY, reason)
        return
    meeting = _meeting(seen, item, None)
    if meeting is Meeting.HELD:
        writing.set_aside(context, item, Reason.HELD, attempt=tries_of(item), error="the gate is closing")
    if meeting is not Meeting.RUN:
        return
    row = new_run(item, seen.now, item.envelope.traceparent)
    if isinstance(reason, Refusal):
        ended = concluded(row, answer_of(reason), seen.now)
    elif row.attempt < item.step.retry.attempts or item.step.kind is StepKind.RETRIABLE:
        _again(context, writing, item, item.step.retry, reason)
        return
    else:
        log.error("%s of %s: given up after attempt %d: %s", item.run_id[1], item.run_id[0], row.attempt, reason)
        ended = failed(row, str(reason))
    writing.inserts[item.run_id] = ended
    write_end(context, writing, item.topology.plan, ended, row.traceparent)


def _again(
    context: ServiceContext,
    writing: Writing,
    item: StepItem | EndItem,
    retry: Retry,
    reason: Exception | Refusal,
) -> None:
    tried = tries_of(item) + 1
    pause = retry.delay_seconds(tried, context.rng.random())
    log.warning(
        "%s of %s: attempt %d failed, again in %.2f s: %s",
        item.run_id[1],
        item.run_id[0],
        tried,
        pause,
        reason,
        # Where it was raised is said once; the rest is the same again.
        exc_info=reason.error if tried == 1 and isinstance(reason, HandlerTrouble) else None,
    )
    context.count("retried")
    writing.set_aside(context, item, Reason.RETRY, attempt=tried, error=str(reason), delay_seconds=pause)
