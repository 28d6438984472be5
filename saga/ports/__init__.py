"""Declare the ports: what the runtime asks of a transport, a store and a tracer, six methods each at most."""

from __future__ import annotations

from saga.ports.operating import DeadLetters, Footprints, Inspection, OperatingStore
from saga.ports.store import (
    Beat,
    Claim,
    Clock,
    CoordinationStore,
    CoordinatorStore,
    Database,
    EntityLocks,
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
    "Beat",
    "Claim",
    "Cleanup",
    "Clock",
    "CoordinationStore",
    "CoordinatorStore",
    "Database",
    "DeadLetters",
    "EntityLocks",
    "Footprints",
    "GroupSpec",
    "Inspection",
    "Lock",
    "OnAssigned",
    "OnRevoked",
    "OperatingStore",
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
