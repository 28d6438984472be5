"""Hold who runs, how far they are, who hears whom, and by which plans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.breaker import Phase
from saga._core.plan import Plan
from saga._core.queues import Problem
from saga._core.rows import PlanRow


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """Be what is known of a dependency: the fleet's verdict while it is valid, and the newest reports.

    `share` is the per cent of its calls that it gets. `calls` and `failures` are those of the last half minute.
    """

    dependency: str
    phase: Phase
    share: int
    valid_until: datetime | None
    calls: int
    failures: int
    services: tuple[str, ...]
    reported_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """Be one running replica of a service; `heard_at` is None for one not heard of since this process looks."""

    service: str
    slot: str
    code: str
    heard_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLag:
    """Say how many messages a consumer group has not read yet, where the broker tells."""

    group: str
    members: int
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumers:
    """Be who runs, as far as it is announced, and how far they are; `drift` are sentences about what does not fit."""

    replicas: tuple[ReplicaState, ...] = ()
    partitions: tuple[PartitionState, ...] = ()
    groups: tuple[GroupLag, ...] = ()
    drift: tuple[str, ...] = ()
    missing: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNode:
    """Be one service of the map: what it starts (`checkout v1`), the steps it hosts, its running replicas."""

    service: str
    starts: tuple[str, ...]
    steps: tuple[str, ...]
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hears:
    """Say that a step of `listener` reacts to an event of `emitter`, in a saga version such as checkout v1."""

    saga: str
    event: str
    emitter: str
    listener: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMap:
    """Be who hears whom, by the newest plan of every saga version."""

    services: tuple[ServiceNode, ...]
    hears: tuple[Hears, ...]
    plans: tuple[Plan, ...]


class Standing(StrEnum):
    """Say whether new sagas start under a plan, or only older ones are still open under it."""

    NEWEST = "newest"
    OLDER = "older"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """Be a plan as it is stored."""

    row: PlanRow
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanState:
    """Be a stored plan and how many sagas are open under it; `plan` is None when it cannot be read here."""

    saga: str
    version: int
    revision: int
    hash: str
    stored_at: datetime
    standing: Standing
    open_sagas: int
    plan: Plan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """Say how far the coordinator is in one partition of `saga.runs`.

    `position` is the offset to read next. `next_due` is the earliest deadline there, `overdue_seconds` for how long it
    has been passed: for more than some seconds only where no coordinator is at work, or too few.
    """

    partition: int
    position: int
    observed_until: datetime | None
    next_due: datetime | None
    overdue_seconds: float
