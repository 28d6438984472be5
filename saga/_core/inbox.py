"""Decide which plain events a subscriber takes, and under what name an event is remembered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid5

import orjson

from saga._core.cloudevents import UNTIMED
from saga._core.envelope import Envelope

INBOX_DAYS = 8
"""How old an event may be that is still handled: a day more than its topic keeps it."""
AHEAD = timedelta(days=1)

PUBLISHED_NAMESPACE = UUID("2e88b4b4-caf4-56a0-9aa2-9a9d2a10f179")
"""The namespace of the IDs of published plain events: UUIDv5 of `urn:saga:published-id` in the URL namespace."""


def message_name(envelope: Envelope) -> str:
    """Return what names an event among all others: CloudEvents says that it is the source together with the ID."""
    return f"{envelope.source} {envelope.id}"


def inbox_day(envelope: Envelope) -> date:
    """Return the day an event is remembered under: that of its own time, so a redelivery finds the same one."""
    return envelope.time.astimezone(UTC).date()


def time_fault(at: datetime, now: datetime, inbox_days: int) -> str:
    """Return why an event of this time cannot be handled exactly once, "" when it can.

    The inbox forgets whole days: what is older than it remembers may have been handled before.
    """
    if at == UNTIMED:
        return "it has no ce_time: the inbox remembers events by their day"
    if at < now - timedelta(days=inbox_days):
        return f"its ce_time {at:%Y-%m-%d %H:%M} is more than {inbox_days} days ago: it may have been handled before"
    if at > now + AHEAD:
        return f"its ce_time {at:%Y-%m-%d %H:%M} is more than a day ahead"
    return ""


def published_id(saga_id: str, handler: str, about: str, part: str, number: int) -> str:
    """Return the ID of a plain event that a handler publishes as its `number`-th, from 0; the same in every attempt.

    UUIDv5 over the JSON array of all arguments. `about` is the branch of a saga's run, or the name of the event that
    a subscriber handles; `part` tells a step from its compensation.
    """
    return str(uuid5(PUBLISHED_NAMESPACE, orjson.dumps([saga_id, handler, about, part, number]).decode()))
