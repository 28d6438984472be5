"""Declare the ports: what the runtime asks of a transport, a store and a tracer, six methods each at most."""

from __future__ import annotations

from saga._core.envelope import Delivery, Message
from saga.ports.operating import DeadLetters, Footprints, Inspection, OperatingStore
from saga.ports.shards import ShardStore
from saga.ports.store import (
    Beat,
    Clock,
    CoordinationStore,
    CoordinatorStore,
    Deadlines,
    OutboxStore,
    ParticipantStore,
    Store,
)
from saga.ports.tracing import Below, Span, SpanKind, Tracer
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
from saga.ports.unit import AdoptedUnit, Claim, Database, EntityLocks, Lock, UnitOfWork
from saga.ports.watching import OpenRows, Watch, unwatched

__all__ = [
    "AdoptedUnit",
    "Beat",
    "Below",
    "Claim",
    "Cleanup",
    "Clock",
    "CoordinationStore",
    "CoordinatorStore",
    "Database",
    "DeadLetters",
    "Deadlines",
    "Delivery",
    "EntityLocks",
    "Footprints",
    "GroupSpec",
    "Inspection",
    "Lock",
    "Message",
    "OnAssigned",
    "OnRevoked",
    "OpenRows",
    "OperatingStore",
    "OutboxStore",
    "ParticipantStore",
    "Positions",
    "Publisher",
    "ShardStore",
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
    "Watch",
    "unwatched",
]
