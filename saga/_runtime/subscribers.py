"""Turn plain events into items: one for each subscriber of the service that reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

from pydantic import ValidationError

from saga._core.definition import SubscriberDefinition
from saga._core.envelope import Delivery, Envelope
from saga._core.inbox import inbox_day, message_name
from saga._core.limits import check_depth
from saga._core.rows import DeliveryRow
from saga._core.sealing import misread, pause_for_blob
from saga._core.upcasting import read_payload, reads
from saga._core.versions import version_of
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga._runtime.items import AsideItem, PlainItem
from saga._runtime.trouble import misfit_text
from saga.errors import Undecodable

log = logging.getLogger("saga")


def plain_items(
    context: ServiceContext, envelope: Envelope, delivery: Delivery, row: DeliveryRow | None
) -> Iterator[PlainItem | AsideItem]:
    """Yield what a plain event asks of the service's subscribers; nothing when none reads it.

    Never raises for what is in the message: a payload that a subscriber cannot read becomes its dead letter.
    """
    mine, strange = _readers(context, envelope, delivery)
    if row is not None and row.step:
        yield _from_its_row(context, envelope, row, [*mine, *strange])
        return
    day = inbox_day(envelope)
    if row is not None and len(mine) + len(strange) > 1:
        # The transaction that uses the row up has to keep every subscriber: first each gets a row of its own.
        names = tuple(each.name for each in (*mine, *strange))
        yield _aside(envelope, row.raw, row, Reason.RETRY, names, row.error, day)
        return
    for subscriber in mine:
        yield _bound(context, envelope, delivery, row, subscriber, day)
    for subscriber in strange:
        yield _unread(context, envelope, delivery, row, subscriber, day)
    if not mine and not strange:
        context.count("skipped")
        if row is not None:
            yield AsideItem(delivery=row.raw, row=row, reason=None)


def _readers(
    context: ServiceContext, envelope: Envelope, delivery: Delivery
) -> tuple[Sequence[SubscriberDefinition], Sequence[SubscriberDefinition]]:
    """Return who reads the event, or else who wants it and cannot read its version.

    Whoever has a subscriber for each of two versions wants no letter for the one that is not meant.
    """
    here = [each for each in context.definition.subscribers if each.topic == delivery.topic]
    mine = [each for each in here if reads(each.event, envelope.type, each.upcasters)]
    if mine:
        return mine, ()
    name, _ = version_of(envelope.type)
    return (), [each for each in here if each.event.wire_name == name]


def _from_its_row(
    context: ServiceContext, envelope: Envelope, row: DeliveryRow, found: Sequence[SubscriberDefinition]
) -> PlainItem | AsideItem:
    subscriber = next((each for each in found if each.name == row.step), None)
    if subscriber is not None:
        return _bound(context, envelope, row.raw, row, subscriber, None)
    # Newer code may have it, or the older that wrote the row: the next replica to look may be of either.
    context.count("parked")
    reason = f"{row.step} does not take {envelope.type} from {row.raw.topic}"
    if context.first(f"parked: {reason}"):
        log.warning("%s: events are parked until a replica can go on with them: %s", context.service, reason)
    return AsideItem(
        delivery=row.raw,
        row=row,
        reason=Reason.PARKED,
        steps=(row.step,),
        message_id=message_name(envelope),
        attempt=row.attempt,
        first_at=row.first_at,
        error=reason,
        delay_seconds=context.tuning.parked_seconds * (0.75 + context.rng.random() / 2),
        expires_at=envelope.time + timedelta(days=context.tuning.inbox_days),
    )


def _bound(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    subscriber: SubscriberDefinition,
    day: date | None,
) -> PlainItem | AsideItem:
    try:
        check_depth(envelope.payload, context.limits.depth)
        event = read_payload(subscriber.event, envelope.type, envelope.payload, subscriber.upcasters)
    except (Undecodable, ValidationError) as error:
        why, tried = misfit_text(misread(error, envelope.payload, delivery)), row.attempt + 1 if row is not None else 1
        if (pause := pause_for_blob(delivery, tried)) is not None:
            later = _aside(envelope, delivery, row, Reason.RETRY, (subscriber.name,), why, day)
            return replace(later, attempt=tried, delay_seconds=pause)
        context.count("dead")
        if day is None:  # else whoever puts it aside says so, if it is no duplicate
            name = message_name(envelope)
            log.error("%s of %s: a dead letter: %s", subscriber.name, name, why)  # noqa: TRY400 - it shows values
        return _aside(envelope, delivery, row, Reason.DEAD, (subscriber.name,), why, day)
    return PlainItem(envelope=envelope, delivery=delivery, row=row, subscriber=subscriber, event=event, day=day)


def _unread(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    subscriber: SubscriberDefinition,
    day: date,
) -> AsideItem:
    context.count("dead")
    reason = f"{subscriber.name} reads {subscriber.event.wire_type}, and no upcaster leads there from {envelope.type}"
    return _aside(envelope, delivery, row, Reason.DEAD, (subscriber.name,), reason, day)


def _aside(
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    reason: Reason,
    steps: tuple[str, ...],
    error: str,
    day: date | None,
) -> AsideItem:
    return AsideItem(
        delivery=delivery,
        row=row,
        reason=reason,
        steps=steps,
        message_id=message_name(envelope),
        attempt=row.attempt + (reason is Reason.DEAD) if row is not None else 0,
        first_at=row.first_at if row is not None else None,
        error=error,
        day=day,
        sent_at=envelope.time,
    )


def buried_plain(context: ServiceContext, item: PlainItem, reason: str) -> AsideItem:
    """Return the item as a dead letter of its subscriber."""
    context.count("dead")
    return aside_of(item, Reason.DEAD, reason)


def aside_of(item: PlainItem, reason: Reason, error: str) -> AsideItem:
    """Return what keeps an item as a row of its subscriber's."""
    return _aside(item.envelope, item.delivery, item.row, reason, (item.subscriber.name,), error, item.day)
