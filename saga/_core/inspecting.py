"""Hold what a person asks of the rows, and what they are answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saga._core.rows import DeliveryRow, GateRow, InstanceRow, RunRow

InstancePlace = tuple[datetime | None, str]
"""Where an instance lies in a listing: its `started_at` and its saga ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFilter:
    """Say which sagas are meant: those that fit every field that is not empty; times are half open."""

    saga: str = ""
    version: int = 0
    phases: tuple[str, ...] = ()
    tenant: str = ""
    started_from: datetime | None = None
    started_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UntoldEnd:
    """Be a saga that has ended and of which the handler of its end has failed `attempt` times; it is tried again."""

    saga_id: str
    service: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCount:
    """Count the sagas of one version in one phase."""

    saga: str
    version: int
    phase: str
    sagas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaRows:
    """Hold everything a participants' database keeps of one saga, whatever service it belongs to."""

    runs: tuple[RunRow, ...] = ()
    gates: tuple[GateRow, ...] = ()
    deliveries: tuple[DeliveryRow, ...] = ()


def fits(row: InstanceRow, wanted: InstanceFilter) -> bool:
    """Return whether a saga is one of those that are meant."""
    began, since, before = row.started_at, wanted.started_from, wanted.started_before
    return (
        wanted.saga in ("", row.saga)
        and wanted.version in (0, row.version)
        and wanted.tenant in ("", row.tenant)
        and (not wanted.phases or row.phase in wanted.phases)
        and (since is None or (began is not None and began >= since))
        and (before is None or (began is not None and began < before))
    )


def newest_first(row: InstanceRow) -> tuple[bool, float, tuple[int, ...]]:
    """Return what a list is sorted by; a saga whose start nobody knows comes first, as in a listing of the database."""
    at = row.started_at
    return (at is not None, 0.0 if at is None else -at.timestamp(), tuple(-ord(letter) for letter in row.saga_id))


def place_of(row: InstanceRow) -> InstancePlace:
    """Return where a listing goes on behind `row`."""
    return (row.started_at, row.saga_id)
