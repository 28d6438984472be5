"""Say what a batch has come to, once it is committed: a line for each transition, and its metrics all together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from saga._core.envelope import Delivery
from saga._core.instance import ENDED, Phase
from saga._core.metrics import (
    COMPLETED,
    CONSUMED,
    DURATION,
    PROCESSING,
    QUEUE_DURATION,
    RETRIES,
    STARTED,
    STEP_DURATION,
    STEP_RUNS,
)
from saga._core.rows import InstanceRow, RunRow
from saga._core.stored_instance import STUCK_PHASE
from saga._core.words import Part, Reason, RunStatus, UndoStatus
from saga._runtime.context import ServiceContext
from saga._runtime.folding import Folded
from saga._runtime.items import Item, StepItem
from saga._runtime.metering import Tally
from saga.ports.metering import Meter

if TYPE_CHECKING:  # it hangs below what tells
    from saga._runtime.writing import Writing

log = logging.getLogger("saga.transitions")

_FORWARD = (Phase.RUNNING.value, Phase.READY.value)
_CLOSING = (Phase.ASKING.value, Phase.CLOSING.value)
_FINAL = {RunStatus.DONE: "done", RunStatus.REFUSED: "refused", RunStatus.FAILED: "failed"}
_UNDONE = {UndoStatus.DONE: "undone", UndoStatus.FAILED: "undo_failed"}
_LEVELS = {
    "done": logging.DEBUG,
    "refused": logging.INFO,
    "failed": logging.ERROR,
    "undone": logging.INFO,
    "undo_failed": logging.ERROR,
    "started": logging.DEBUG,
    "closing": logging.INFO,
    "committed": logging.INFO,
    "completed": logging.DEBUG,
    "compensated": logging.INFO,
    "stuck": logging.ERROR,
    "moving again": logging.INFO,
}


def is_asked(meter: Meter) -> bool:
    """Return whether anybody wants to know what a batch has come to; asked once for each."""
    return meter.is_on or log.isEnabledFor(logging.INFO)


# --- a service's -----------------------------------------------------------------------------------------------


def tell_batch(context: ServiceContext, items: Iterable[Item], writing: Writing, seconds: float | None = None) -> None:
    """Tell what a committed batch transaction has come to; `items` are those it has handled, in so many seconds."""
    tally = Tally()
    for rows in (writing.inserts, writing.updates):
        for row in rows.values():
            _tell_run(context, row, tally)
    if not context.meter.is_on:
        return
    for item in items:
        if isinstance(item, StepItem) and _has_begun(item, writing):
            waited = (writing.now - item.envelope.time).total_seconds() - item.plan_step.delay_ms / 1000
            tally.record(QUEUE_DURATION, item.step.saga, item.step.name, value=max(0.0, waited))
    for step, took in context.stopwatch.take() if context.stopwatch is not None else ():
        tally.record(STEP_DURATION, context.saga_of(step), step, Part.ACTION.value, value=took)
    if seconds is not None:
        tally.record(PROCESSING, context.broker, "process", context.service, value=seconds)
    tally.tell(context.meter)


def _has_begun(item: StepItem, writing: Writing) -> bool:
    """Return whether a step has begun for the first time: it has a run, or has to be tried again."""
    run = writing.inserts.get(item.run_id) or writing.updates.get(item.run_id)
    if run is None:
        return item.row is None and any(
            row.raw is item.delivery and row.reason is Reason.RETRY for row in writing.deliveries
        )
    return item.row is None and run.status is not RunStatus.WAITING


def tell_run(context: ServiceContext, run: RunRow | None) -> None:
    """Tell what a run has come to that had a transaction of its own."""
    if run is not None and is_asked(context.meter):
        tally = Tally()
        _tell_run(context, run, tally)
        tally.tell(context.meter)


@contextmanager
def taking(context: ServiceContext, step: str, part: Part) -> Generator[None]:
    """Tell what one call takes that has no batch around it."""
    began = perf_counter()
    try:
        yield
    finally:
        if context.meter.is_on:
            labels = (context.saga_of(step), step, part.value)
            context.meter.record(STEP_DURATION, labels, (perf_counter() - began,))


def tell_retry(context: ServiceContext, step: str, part: Part) -> None:
    """Tell of an attempt that failed and is made again."""
    if context.meter.is_on:
        context.meter.add(RETRIES, (context.saga_of(step), step, part.value), 1)


def _tell_run(context: ServiceContext, row: RunRow, tally: Tally) -> None:
    saga = context.saga_of(row.step)
    came_to = _UNDONE.get(row.undo) if row.undo is not UndoStatus.NONE else _FINAL.get(row.status)
    if not saga or came_to is None:
        return
    if context.meter.is_on:
        tally.add(STEP_RUNS, saga, row.step, came_to)
    level = _LEVELS[came_to]
    if log.isEnabledFor(level):
        branch = f" {row.branch}" if row.branch else ""
        why = ""
        if came_to == "refused":
            why = f": {row.result_type}"
        elif level == logging.ERROR:
            person = " and needs a person" if came_to == "undo_failed" else ""
            why = f"{person}, after attempt {row.attempt}: {row.error}"
        extra = extra_of(row.saga_id, row.traceparent, saga=saga, step=row.step)
        log.log(level, "%s%s of %s: %s%s", row.step, branch, row.saga_id, came_to, why, extra=extra)


def tell_read(context: ServiceContext, deliveries: Iterable[Delivery]) -> None:
    """Tell what was read from the log."""
    if context.meter.is_on:
        for topic, count in Counter(delivery.topic for delivery in deliveries).items():
            context.meter.add(CONSUMED, (context.broker, "receive", topic, context.service), count)


# --- a coordinator's -------------------------------------------------------------------------------------------


def tell_sagas(meter: Meter, folded: Sequence[Folded]) -> None:
    """Tell what stored sagas have come to."""
    for each in folded:
        _say_saga(each)
    if meter.is_on:
        tally = Tally()
        for each in folded:
            _tally_saga(each.bare, each.was, tally)
        tally.tell(meter)


def _tally_saga(row: InstanceRow, was: str, tally: Tally) -> None:
    if not was:
        tally.add(STARTED, row.saga)
    if row.phase == was or not (row.phase in ENDED or row.phase == STUCK_PHASE):
        return
    tally.add(COMPLETED, row.saga, row.phase)
    if row.ended_at is not None and row.started_at is not None:
        took = (row.ended_at - row.started_at).total_seconds()
        tally.record(DURATION, row.saga, row.phase, value=max(0.0, took))


def _say_saga(each: Folded) -> None:
    phase, was = each.bare.phase, each.was
    if not was:
        _say(each, "started", "")
    if phase == was or (phase in _FORWARD and was != STUCK_PHASE):
        return
    if phase in ENDED or phase == STUCK_PHASE:
        _say(each, phase, _why(each))
    elif was == STUCK_PHASE:
        _say(each, "moving again", "")
    elif phase == Phase.COMMITTED or was not in _CLOSING:
        _say(each, "committed" if phase == Phase.COMMITTED else "closing", _why(each))


def _why(each: Folded) -> str:
    """Return why a saga is what it is: a word of ours, and what was refused; never a text of a user's."""
    instance = each.instance
    cause = instance.stuck if each.bare.phase == STUCK_PHASE else instance.cause
    refused = f" {instance.refusal.type}" if instance.refusal is not None else ""
    return f": {cause.value}{refused}" if cause is not None else ""


def _say(each: Folded, what: str, why: str) -> None:
    row, level = each.bare, _LEVELS[what]
    if log.isEnabledFor(level):
        extra = extra_of(row.saga_id, each.instance.traceparent, saga=row.saga)
        log.log(level, "saga %s (%s v%d): %s%s", row.saga_id, row.saga, row.version, what, why, extra=extra)


def extra_of(saga_id: str, traceparent: str = "", *, saga: str = "", step: str = "") -> dict[str, str]:
    """Return what a log record about a saga says beside its text; `saga.telemetry.logs.JsonFormatter` writes it."""
    return {"saga_id": saga_id, "saga_name": saga, "saga_step": step, "traceparent": traceparent}
