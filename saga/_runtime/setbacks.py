"""Write what follows an item that was tried alone and rolled back: the next attempt, a wait, or its end."""

from __future__ import annotations

import logging

from saga._core.answers import concluded, failed
from saga._core.events import Refusal
from saga._core.participant import Meeting
from saga._core.retry import Again, Failure, GiveUp, Promise, Retry, decide_retry, fault_of, promise_of
from saga._core.rows import Snapshot
from saga._core.words import Part, Reason
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import refusal_of
from saga._runtime.items import EndItem, StepItem
from saga._runtime.locking import LockWaits, look_again
from saga._runtime.steps import begun_run, keep, meeting_of, tries_of, write_end
from saga._runtime.telling import extra_of, tell_retry
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.errors import StillSealed
from saga.ports import UnitOfWork

log = logging.getLogger("saga")

END_RETRY = Retry(attempts=1_000_000, base_seconds=0.2, cap_seconds=60.0)


def give_up(
    context: ServiceContext,
    seen: Snapshot,
    writing: Writing,
    item: StepItem | EndItem,
    reason: HandlerTrouble | Refusal,
    parent: str,
) -> Again | GiveUp | None:
    """Write the refusal, the next attempt or the failure of an item that was tried alone and rolled back.

    Returns what follows the attempt, None when it counts for none. `parent` is the context to go on below.
    """
    if isinstance(item, EndItem):
        if isinstance(reason, HandlerTrouble) and isinstance(reason.error, StillSealed):
            # Nobody will ever read what the saga was started with: whoever waits for its end is a person now.
            context.count("dead")
            writing.set_aside(context, item, Reason.DEAD, attempt=tries_of(item) + 1, error=str(reason.error))
            return GiveUp(reason="still sealed", at=writing.now)
        return _tried_again(context, writing, item, END_RETRY, Promise.MUST_SUCCEED, reason)
    known = seen.runs.get(item.run_id)
    meeting = meeting_of(seen, item, known)
    if meeting is not Meeting.RUN:
        keep(context, writing, item, meeting)
        return None
    row, verdict = begun_run(item, known, seen.now, parent), None
    if isinstance(reason, Refusal):
        ended = concluded(row, refusal_of(reason), seen.now)
    else:
        promise = promise_of(item.step.kind)
        verdict = _tried_again(context, writing, item, item.step.retry, promise, reason)
        if isinstance(verdict, Again):
            return verdict
        ended = failed(row, str(reason))
    writing.put(ended)
    write_end(context, writing, item.topology.plan, ended, row.traceparent)
    return verdict


async def wait_alone(
    context: ServiceContext, unit: UnitOfWork, seen: Snapshot, writing: Writing, item: StepItem, waits: LockWaits
) -> None:
    """Keep an item as a row that has to wait for an entity; it was tried alone and rolled back."""
    meeting = meeting_of(seen, item, seen.runs.get(item.run_id))
    if meeting is Meeting.RUN:
        await look_again(context, unit, writing, item, waits)
    else:
        keep(context, writing, item, meeting)


def _tried_again(
    context: ServiceContext,
    writing: Writing,
    item: StepItem | EndItem,
    retry: Retry,
    promise: Promise,
    reason: HandlerTrouble | Refusal,
) -> Again | GiveUp:
    """Return what follows a failed attempt; where that is another one, it is written as a row."""
    tried, now = tries_of(item) + 1, writing.now
    first_at = (item.row.first_at if item.row is not None else None) or now
    error = reason.error if isinstance(reason, HandlerTrouble) else None
    fault = fault_of(error, retry)
    jitter = context.rng.random()
    verdict = decide_retry(retry, promise, fault, tried=tried, first_at=first_at, now=now, jitter=jitter)
    if isinstance(verdict, GiveUp):
        return verdict
    pause = (verdict.at - now).total_seconds()
    log.log(
        logging.ERROR if fault.failure is Failure.PERMANENT else logging.WARNING,
        "%s of %s: attempt %d failed, again in %.2f s: %s",
        item.run_id[1],
        item.run_id[0],
        tried,
        pause,
        reason,
        # Where it was raised is said once; the rest is the same again.
        exc_info=reason.shown if tried == 1 and isinstance(reason, HandlerTrouble) else None,
        extra=extra_of(item.run_id[0], item.envelope.traceparent, saga=item.topology.plan.saga, step=item.run_id[1]),
    )
    context.count("retried")
    if isinstance(item, StepItem):
        tell_retry(context, item.step.name, Part.ACTION)
    text = str(reason)
    writing.set_aside(context, item, Reason.RETRY, attempt=tried, error=text, delay_seconds=pause, first_at=first_at)
    return verdict
