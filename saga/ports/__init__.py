"""Declare the ports: what the runtime asks of a transport, a store and a tracer, six methods each at most."""

from __future__ import annotations

from saga.ports.store import (
    Claim,
    Clock,
    CoordinationStore,
    CoordinatorStore,
    Database,
    Lock,
    OutboxStore,
    ParticipantStore,
    Store,
    UnitOfWork,
)
from saga.ports.tracing import Span, SpanKind, Tracer
from saga.ports.transport import (
    Cleanup,
    GroupSpec,
    OnAssigned,
    OnRevoked,
    Positions,
    Publisher,
    Subscription,
    Table,
    TopicPartition,
    TopicSpec,
    Transport,
)

__all__ = [
    "Claim",
    "Cleanup",
    "Clock",
    "CoordinationStore",
    "CoordinatorStore",
    "Database",
    "GroupSpec",
    "Lock",
    "OnAssigned",
    "OnRevoked",
    "OutboxStore",
    "ParticipantStore",
    "Positions",
    "Publisher",
    "Span",
    "SpanKind",
    "Store",
    "Subscription",
    "Table",
    "TopicPartition",
    "TopicSpec",
    "Tracer",
    "Transport",
    "UnitOfWork",
]
