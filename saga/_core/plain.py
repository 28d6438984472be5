"""Make outbox rows of plain events, which belong to no saga, and check them before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from zlib import crc32

from pydantic import ValidationError

from saga._core.cloudevents import is_attribute, source_of
from saga._core.common_headers import CONTENT_TYPE
from saga._core.envelope import Headers, Message
from saga._core.events import Event
from saga._core.limits import DEFAULT_LIMITS, Limits, check_outgoing
from saga._core.rows import OutboxRow
from saga._core.times import format_time
from saga.errors import DeclarationError, SettingsError, TooLarge, Undecodable

SHARDS: Final = 64
"""Keys with the same hash modulo this are published by the same relay at any time."""
SEQUENCE: Final = "ce_sequence"
SEQUENCE_DIGITS: Final = 20

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def plain_row(
    event: Event,
    *,
    message_id: str,
    source_service: str,
    topic: str,
    key: str | None,
    tenant: str = "",
    now: datetime,
    traceparent: str,
    causation_id: str = "",
    correlation_id: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> OutboxRow:
    """Return the row that publishes a plain event as a CloudEvent on `topic`, without headers of a saga.

    Events of one `key` are published in the order of their rows; without one the message ID stands for it, and
    nothing is ordered. Raises DeclarationError for what is no declared event, Undecodable for one that does
    not fit its own schema, SettingsError for an unusable topic, key or tenant, TooLarge.
    """
    payload = _payload_of(event)
    check_topic(topic)
    if key is not None:
        _check_key(key, event, limits)
    _check_text("tenant", tenant, event)
    _check_text("correlation_id", correlation_id, event)
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", message_id.encode()),
        ("ce_source", source_of(source_service).encode()),
        ("ce_type", event.wire_type.encode()),
        ("ce_time", format_time(now).encode()),
        ("content-type", CONTENT_TYPE),
        *_extensions(correlation_id, causation_id, tenant, traceparent),
    ]
    row = OutboxRow(
        id=message_id,
        aggregatetype=topic,
        aggregateid=message_id if key is None else key,
        type=event.wire_type,
        payload=payload,
        headers=tuple(headers),
        service=source_service,
        shard=None if key is None else shard_of(key),
    )
    # Measured with the sequence that a keyed row gets when it is stored.
    sent = Message(topic=topic, key=row.aggregateid.encode(), value=payload, headers=with_sequence(row))
    check_outgoing(sent, limits)
    return row


def shard_of(key: str) -> int:
    """Return the shard whose owner publishes the events of a key; the same in every process."""
    return crc32(key.encode()) % SHARDS


def with_sequence(row: OutboxRow) -> Headers:
    """Return a row's headers as they are sent: those of a keyed plain event say its place in the outbox.

    The number has leading zeros: CloudEvents' `sequence` extension compares as text.
    """
    if row.shard is None:
        return row.headers
    return (*row.headers, (SEQUENCE, f"{row.seq:0{SEQUENCE_DIGITS}d}".encode()))


def _extensions(correlation_id: str, causation_id: str, tenant: str, traceparent: str) -> Iterator[tuple[str, bytes]]:
    given = (
        ("ce_correlationid", correlation_id),
        ("ce_causationid", causation_id),
        ("ce_tenant", tenant),
        ("traceparent", traceparent),
    )
    return ((name, value.encode()) for name, value in given if value)


def check_topic(topic: str) -> str:
    """Return `topic` if Kafka takes it as a name; raises SettingsError."""
    if _TOPIC.fullmatch(topic) is None or topic in (".", ".."):
        msg = f"topic {topic[:60]!r} cannot be used: write up to 249 letters, digits, '.', '_' and '-'"
        raise SettingsError(msg)
    return topic


def _payload_of(event: object) -> bytes:
    # Values of any kind come here from code that is not type-checked.
    if not isinstance(event, Event) or not event.wire_type:
        what = f"the class {event.__qualname__}" if isinstance(event, type) else f"a {type(event).__qualname__}"
        msg = (
            f"cannot publish {what}: pass an instance of a class declared such as "
            '`class OrderPlaced(Event, name="order.placed", version=1)`'
        )
        raise DeclarationError(msg)
    payload = event.model_dump_json(by_alias=True, warnings=False).encode()
    try:
        type(event).model_validate_json(payload)
    except ValidationError as error:
        # Without the values: an error may land in a log.
        found = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['msg']}" for one in found[:3])
        msg = (
            f"{event.wire_type} does not fit its own schema ({wrong}): nobody could read it; "
            f"make it with `{type(event).__qualname__}(...)`, which checks it, not with model_construct or "
            "model_copy(update=...)"
        )
        raise Undecodable(msg) from None
    return payload


def _check_key(key: object, event: Event, limits: Limits) -> None:
    name = event.wire_type
    if not isinstance(key, str):
        msg = f"{name}: key is a {type(key).__qualname__}; write it as text, such as key=str(order.id)"
        raise SettingsError(msg)
    if not key:
        msg = f"{name}: key is empty; pass the ID of what the event is about, or None if its order does not matter"
        raise SettingsError(msg)
    _check_text("key", key, event)
    size = len(key.encode())
    if size > limits.attribute_bytes:
        msg = f"{name}: key has {size} bytes, at most {limits.attribute_bytes} are allowed; use an ID"
        raise TooLarge(msg)


def _check_text(what: str, text: str, event: Event) -> None:
    if not is_attribute(text):
        msg = f"{event.wire_type}: {what} {text[:40]!r} has control characters or is no Unicode; use printable ones"
        raise SettingsError(msg)
