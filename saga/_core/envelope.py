"""Hold what travels: transport messages, deliveries, and the CloudEvents envelope between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saga._core.words import Kind, Priority

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Be one message on its way out: `key` decides the partition, `value=None` is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Be one message as a subscription hands it over: raw bytes, nothing decoded, position included."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Hold the CloudEvents 1.0 attributes and our extensions of one message, with its payload as bytes.

    `saga_id` is the correlation ID of a saga's messages; `correlation_id` is a plain event's. `plan` is the plan's
    hash. `step` and `branch` name the run that emitted an event, or the run a command or record is about. Times are
    aware UTC datetimes.
    """

    id: str
    source: str
    type: str
    kind: Kind
    time: datetime
    payload: bytes
    saga_id: str = ""
    plan: str = ""
    step: str = ""
    branch: str = ""
    tenant: str = ""
    causation_id: str = ""
    expires_at: datetime | None = None
    traceparent: str = ""
    lane: Priority = Priority.NORMAL
    correlation_id: str = ""
