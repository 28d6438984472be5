"""Say in the span of an attempt what came of it, once that is known."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from saga._core.events import Refusal
from saga._core.frozen import replace
from saga._core.participant import Turn
from saga._core.retry import Again, GiveUp
from saga._core.rows import RunRow
from saga._runtime.context import ServiceContext
from saga._runtime.items import EndItem, PlainItem, StepItem
from saga._runtime.tracing import NO_SPAN, came_of, rolled_back
from saga._runtime.trouble import HandlerTrouble
from saga.ports import Span

if TYPE_CHECKING:
    from saga._runtime.steps import Trouble

Stored = tuple[Turn, datetime]
"""What was decided about an outside call, and when."""


def judged(context: ServiceContext, trouble: Trouble, verdict: Again | GiveUp | None, now: datetime) -> None:
    """Say in the span of an attempt what came of it: it has failed, or is made again; of a refusal what it was."""
    item, reason, span = trouble.item, trouble.reason, trouble.span
    if span is NO_SPAN and isinstance(verdict, GiveUp):
        # Its transaction was broken: what it has recorded ended with that, before this was known.
        with context.tracer.process(item.delivery, item.envelope, _named(item), now) as span:
            span.hold()
    if isinstance(reason, Refusal):
        span.set("saga.refusal", type(reason).wire_type)
    error = reason.error if isinstance(reason, HandlerTrouble) else trouble
    came_of(span, verdict, error, (item.row.attempt if item.row is not None else 0) + 1, now)


def _named(item: StepItem | EndItem | PlainItem) -> tuple[str, str]:
    if isinstance(item, PlainItem):
        return "saga.subscriber", item.subscriber.name
    return "saga.step", item.run_id[1]


def traced(run: RunRow, span: Span) -> RunRow:
    """Return the run as what comes of its call is written: below the call."""
    return replace(run, traceparent=span.traceparent) if span.traceparent else run


def judged_call(span: Span, stored: Stored | None, error: BaseException | None, attempt: int) -> None:
    """End the span of a call, with what has been decided about an attempt that failed; if nothing, it is done again."""
    if error is None:
        span.end()
        return
    if stored is None:
        rolled_back(span, error)
        return
    turn, now = stored
    # What is to be asked again has a time for it; otherwise it has ended, or a person has to end it.
    again = turn.run.pending_at if turn.run is not None else None
    came_of(span, GiveUp(reason="", at=now) if again is None else Again(at=again), error, attempt, now)
