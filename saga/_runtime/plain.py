"""Run one subscriber of a batch inside its transaction, together with the inbox entry that it leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from saga._core.definition import Binding
from saga._core.inbox import time_fault
from saga._core.retry import Again, Failure, GiveUp, Promise, decide_retry, fault_of
from saga._core.rows import InboxKey, InboxRow, Snapshot
from saga._core.run import Run
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import call, raise_if_store
from saga._runtime.inputs import Values
from saga._runtime.items import AsideItem, Item, PlainItem
from saga._runtime.publishing import Publishing
from saga._runtime.steps import Trouble
from saga._runtime.subscribers import aside_of
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.ports import UnitOfWork

log = logging.getLogger("saga")

_BINDINGS = (Binding.INPUT, Binding.RUN)


def inbox_keys(items: Iterable[Item]) -> tuple[InboxKey, ...]:
    """Return what a transaction about these items has to ask the inbox for."""
    found: dict[InboxKey, None] = {}
    for item in items:
        if isinstance(item, PlainItem) and item.day is not None:
            found[item.day, item.message_name, item.subscriber.name] = None
        elif isinstance(item, AsideItem) and item.day is not None:
            found.update(dict.fromkeys((item.day, item.message_id, step) for step in item.steps))
    return tuple(found)


async def meet_plain(
    context: ServiceContext, unit: UnitOfWork, seen: Snapshot, writing: Writing, item: PlainItem
) -> None:
    """Run a subscriber unless it has had this event; raises Trouble, StoreError."""
    if not _is_taken(context, seen, writing, item):
        return
    envelope, subscriber = item.envelope, item.subscriber
    attempt = (item.row.attempt if item.row is not None else 0) + 1
    about = ("saga.subscriber", subscriber.name)
    with context.tracer.process(item.delivery, envelope, about, writing.now) as span:
        writing.held.add(span)
        outgoing = Publishing(
            context,
            ("", subscriber.name, item.message_name, "subscriber"),
            now=writing.now,
            tenant=envelope.tenant,
            parent=span.traceparent,
            causation_id=envelope.id,
            correlation_id=envelope.correlation_id,
        )
        run = Run(
            saga_id="", step=subscriber.name, attempt=attempt, tenant=envelope.tenant, door=unit, outgoing=outgoing
        )
        values: Values = {Binding.INPUT: item.event}
        try:
            await call(subscriber.handler, _BINDINGS, values, run, subscriber.timeout_seconds)
        except HandlerTrouble as trouble:
            raise_if_store(trouble)
            trouble.span = span
            raise Trouble(item, trouble) from trouble
        writing.outbox.extend(outgoing.rows)
    context.count("handled")


def give_up_plain(
    context: ServiceContext, seen: Snapshot, writing: Writing, item: PlainItem, trouble: HandlerTrouble
) -> Again | GiveUp | None:
    """Write the next attempt, or the dead letter, of an item that was tried alone and rolled back; return which."""
    if not _is_taken(context, seen, writing, item):
        return None
    now, retry = writing.now, item.subscriber.retry
    tried = (item.row.attempt if item.row is not None else 0) + 1
    first_at = (item.row.first_at if item.row is not None else None) or now
    fault = fault_of(trouble.error, retry)
    jitter = context.rng.random()
    verdict = decide_retry(retry, Promise.MAY_FAIL, fault, tried=tried, first_at=first_at, now=now, jitter=jitter)
    name, event = item.subscriber.name, item.message_name
    letter = replace(aside_of(item, Reason.DEAD, str(trouble)), day=None, first_at=first_at, attempt=tried)
    if isinstance(verdict, Again):
        pause = (verdict.at - now).total_seconds()
        permanent = fault.failure is Failure.PERMANENT
        log.log(
            logging.ERROR if permanent else logging.WARNING,
            "%s of %s: attempt %d failed, again in %.2f s: %s",
            name,
            event,
            tried,
            pause,
            trouble,
            # Where it was raised is said once; the rest is the same again.
            exc_info=trouble.shown if tried == 1 else None,
        )
        context.count("retried")
        letter = replace(letter, reason=Reason.RETRY, delay_seconds=pause)
    else:
        context.count("dead")
        log.error("%s of %s: a dead letter, %s: %s", name, event, verdict.reason, trouble)
    writing.put_aside(context, letter)
    return verdict


def put_plain_aside(context: ServiceContext, seen: Snapshot, writing: Writing, item: AsideItem, day: date) -> None:
    """Keep a plain event as the rows that its item says, for those subscribers that have not had it."""
    if _is_untimely(context, writing, item):
        return
    left = [step for step in item.steps if _enter(context, seen, writing, (day, item.message_id, step))]
    if left:
        if item.reason is Reason.DEAD:
            log.error("%s of %s: a dead letter: %s", ", ".join(left), item.message_id, item.error)
        writing.put_aside(context, replace(item, steps=tuple(left)))


def _is_taken(context: ServiceContext, seen: Snapshot, writing: Writing, item: PlainItem) -> bool:
    """Take an event from the log for its subscriber; return whether it is to be handled now.

    What has a row of its own was taken before.
    """
    if item.day is None:
        return True
    if _is_untimely(context, writing, aside_of(item, Reason.DEAD, "")):
        return False
    return _enter(context, seen, writing, (item.day, item.message_name, item.subscriber.name))


def _is_untimely(context: ServiceContext, writing: Writing, item: AsideItem) -> bool:
    """Bury an event that is older than the inbox remembers, or of a time that cannot be; return whether it is.

    It was not taken, so it is no subscriber's letter: replayed, it is measured again.
    """
    assert item.sent_at is not None
    fault = time_fault(item.sent_at, writing.now, context.tuning.inbox_days)
    if fault and not any(row.raw is item.delivery for row in writing.deliveries):
        context.count("dead")
        log.error("%s: %s from %s: a dead letter: %s", context.service, item.message_id, item.delivery.topic, fault)
        whole = replace(item, reason=Reason.DEAD, steps=("",), error=fault, day=None)
        writing.put_aside(context, whole)
    return bool(fault)


def _enter(context: ServiceContext, seen: Snapshot, writing: Writing, key: InboxKey) -> bool:
    """Add an inbox entry to what is written; return whether there was none."""
    if key in seen.inbox or key in writing.inbox:
        context.count("duplicate")
        return False
    day, message_id, subscriber = key
    row = InboxRow(service=context.service, day=day, message_id=message_id, subscriber=subscriber)
    writing.inbox[key] = row
    return True
