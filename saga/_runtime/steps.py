"""Run one step of a batch inside its transaction, and write down what it came to."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import assert_never

from saga._core import emit
from saga._core.answers import concluded
from saga._core.budget import deadline_of
from saga._core.definition import Binding
from saga._core.events import Refusal
from saga._core.frozen import builder, replace
from saga._core.gathering import Received, gather, is_gathered
from saga._core.ids import idempotency_key
from saga._core.participant import Meeting, meet
from saga._core.plan import Plan
from saga._core.rows import RunRow, Snapshot
from saga._core.run import Run
from saga._core.words import Effects, Reason, RunStatus, StepKind
from saga._runtime.children import start_child
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import answer_in, raise_if_store, started_event
from saga._runtime.inputs import Values, inputs_of_run
from saga._runtime.items import EndItem, PlainItem, StepItem
from saga._runtime.lending import Lent
from saga._runtime.locking import LockWaits, wait_in_row
from saga._runtime.pacing import turned_down_early
from saga._runtime.pending import PendingWork
from saga._runtime.tracing import NO_SPAN, NullSpan, goes_to
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.ports import Span, SpanKind, UnitOfWork

log = logging.getLogger("saga")
_run_row = builder(RunRow)


class Trouble(Exception):
    """Leave a transaction because of one item: its handler raised, or refused or has to wait after it had written."""

    def __init__(self, item: StepItem | EndItem | PlainItem, reason: HandlerTrouble | Refusal | LockWaits) -> None:
        self.item = item
        self.reason = reason
        self.span: Span = reason.span if isinstance(reason, HandlerTrouble) else NO_SPAN
        super().__init__(str(reason))


def tries_of(item: StepItem | EndItem) -> int:
    """Return how often the item has been tried and has failed."""
    return item.row.attempt if item.row is not None else 0


def begun_run(item: StepItem, known: RunRow | None, now: datetime, traceparent: str) -> RunRow:
    """Return the row of a run that begins now: an intent until its end is known, or a join that waits for more.

    `known` is the row in which a join has gathered what came before.
    """
    envelope = item.envelope
    saga_id, step, branch = item.run_id
    joins = item.plan_step.joins
    fresh = _run_row(
        saga_id=saga_id,
        step=step,
        branch=branch,
        plan=envelope.plan,
        tenant=envelope.tenant,
        status=RunStatus.INTENT,
        causes=() if joins else (item.cause,),
        input_type="" if joins else envelope.type,
        input=None if joins else envelope.payload,
        attempt=tries_of(item) + 1,
        traceparent=traceparent,
        lane=envelope.lane,
        expires_at=envelope.expires_at or now,
        created_at=now,
    )
    if not joins:
        return fresh
    received = Received(type=envelope.type, branch=envelope.branch, payload=envelope.payload, cause=item.cause)
    if known is not None and not _is_from_outside(item):
        # An event from outside that came first has only guessed these.
        known = replace(known, plan=fresh.plan, tenant=fresh.tenant, lane=fresh.lane, expires_at=fresh.expires_at)
    row = gather(item.topology, item.plan_step, known or fresh, received)
    complete = is_gathered(item.plan_step, row)
    status = RunStatus.INTENT if complete else RunStatus.WAITING
    return replace(row, status=status, attempt=fresh.attempt, traceparent=traceparent)


def _is_from_outside(item: StepItem) -> bool:
    cause = item.topology.steps.get(item.cause.step)
    return cause is not None and cause.kind is StepKind.RECEIVE


async def meet_step(
    context: ServiceContext,
    pending: PendingWork,
    unit: UnitOfWork,
    seen: Snapshot,
    writing: Writing,
    item: StepItem,
) -> None:
    """Do with an event what its run row and its gate say; raises Trouble, StoreError."""
    known = writing.run(item.run_id, seen)
    meeting = meeting_of(seen, item, known)
    context.count(meeting.value)
    match meeting:
        case Meeting.DUPLICATE | Meeting.TURNED_AWAY | Meeting.EXPIRED:
            return
        case Meeting.HELD | Meeting.DELAYED:
            keep(context, writing, item, meeting)
        case Meeting.RUN:
            await _begin(context, pending, unit, writing, item, known)
        case _:
            assert_never(meeting)


def keep(context: ServiceContext, writing: Writing, item: StepItem, meeting: Meeting) -> None:
    """Keep a delivery as a row where its meeting says that it has to wait; any other meeting leaves it."""
    if meeting is Meeting.HELD:
        writing.set_aside(context, item, Reason.HELD, attempt=tries_of(item), error="its saga is held")
    elif meeting is Meeting.DELAYED:
        pause = (_not_before(item) - writing.now).total_seconds()
        writing.set_aside(context, item, Reason.DELAYED, attempt=tries_of(item), error="", delay_seconds=pause)


def _not_before(item: StepItem) -> datetime:
    return item.envelope.time + timedelta(milliseconds=item.plan_step.delay_ms)


def meeting_of(seen: Snapshot, item: StepItem, known: RunRow | None) -> Meeting:
    """Return what to do with an event for a step, as the gate and its run, if there is one, say."""
    return meet(
        gate=seen.gates.get(item.envelope.saga_id),
        run=known,
        expires_at=item.envelope.expires_at or seen.now,
        now=seen.now,
        not_before=_not_before(item) if item.plan_step.delay_ms else None,
    )


async def _begin(
    context: ServiceContext,
    pending: PendingWork,
    unit: UnitOfWork,
    writing: Writing,
    item: StepItem,
    known: RunRow | None,
) -> None:
    if writing.untraced is not None:
        none = NullSpan(item.envelope.traceparent or writing.untraced)
        await _begin_below(none, context, pending, unit, writing, item, known)
        return
    about = ("saga.step", item.step.name)
    with context.tracer.process(item.delivery, item.envelope, about, writing.now) as span:
        writing.held.add(span)
        if known is not None:
            span.link(known.traceparent)  # what a join has gathered before
        await _begin_below(span, context, pending, unit, writing, item, known)


async def _begin_below(
    span: Span,
    context: ServiceContext,
    pending: PendingWork,
    unit: UnitOfWork,
    writing: Writing,
    item: StepItem,
    known: RunRow | None,
) -> None:
    row = begun_run(item, known, writing.now, span.traceparent)
    if row.status is RunStatus.WAITING:
        writing.put(row)
        return
    too_late = turned_down_early(context, item, row, writing.now)
    if too_late is not None:
        _write(context, writing, item, too_late, span)
        return
    if item.step.effects is Effects.EXTERNAL:
        intent = pending.intent(row, writing.now)
        writing.put(intent)
        if intent.owner:
            writing.intents.append(intent)
        return
    try:
        ended = await _run_local(context, unit, writing, item, row)
    except LockWaits as waits:
        # Where the time is up as well, nothing more can be done in this transaction.
        if waits.changes or writing.timer.scope.cancel_called:
            raise Trouble(item, waits) from waits
        writing.timer.rest()
        await wait_in_row(context, unit, writing, item, waits)
        return
    except Trouble as trouble:
        trouble.span = span
        raise
    _write(context, writing, item, ended, span)


def _write(context: ServiceContext, writing: Writing, item: StepItem, run: RunRow, span: Span) -> None:
    writing.put(run)
    if run.status is RunStatus.REFUSED:
        span.set("saga.refusal", run.result_type)
    if run.status is not RunStatus.INTENT:
        write_end(context, writing, item.topology.plan, run, span.traceparent)


def write_end(context: ServiceContext, writing: Writing, plan: Plan, ended: RunRow, parent: str) -> None:
    """Add the event and the run record of an ended run to what is written, below a `create` span."""
    # The last event of a join may have come from outside, under a plan that is only a guess.
    if (known := context.plans.topology(ended.plan)) is not None:
        plan = known.plan
    if writing.untraced is not None:
        writing.outbox.extend(emit.ended_run(ended, plan, writing.now, parent or writing.untraced))
        return
    attributes = {"saga.id": ended.saga_id}
    name = f"create {ended.result_type or ended.step}"
    with context.tracer.span(name, SpanKind.PRODUCER, parent, attributes) as span:
        rows = emit.ended_run(ended, plan, writing.now, span.traceparent)
        goes_to(span, rows)
        writing.outbox.extend(rows)


async def _run_local(
    context: ServiceContext, unit: UnitOfWork, writing: Writing, item: StepItem, row: RunRow
) -> RunRow:
    """Call the handler and return the run as it ends, or as it waits for the child saga that it starts.

    Raises Trouble, LockWaits, StoreError.
    """
    step = item.step
    lent = Lent(context, unit, item, row, writing.now)
    run = Run(
        saga_id=row.saga_id,
        step=row.step,
        branch=row.branch,
        attempt=row.attempt,
        tenant=row.tenant,
        deadline=deadline_of(item.topology, row.step, row.expires_at),
        idempotency_key=idempotency_key(row.saga_id, row.step, row.branch),
        door=unit,
        locks=lent,
        outgoing=lent,
    )
    try:
        values: Values = {Binding.INPUT: item.event} if not step.is_join else inputs_of_run(step, row)
        raw = await context.call(writing.timer, step.handler, step.bindings, values, run, step.timeout_seconds)
        lent.check()
        if step.child is not None:
            event = started_event(raw, step, context.limits)
            waiting, start, outbox = start_child(context, step, row, event, writing.now)
            writing.put(start)
            writing.outbox.extend([*lent.rows, *outbox])
            return waiting
        result, answer = answer_in(raw, step, context.limits)
    except HandlerTrouble as trouble:
        lent.check(trouble)
        raise_if_store(trouble)
        raise Trouble(item, trouble) from trouble
    if isinstance(result, Refusal):
        if lent.changes:
            raise Trouble(item, result)
    elif lent.rows:
        writing.outbox.extend(lent.rows)
    return concluded(row, answer, writing.now)
