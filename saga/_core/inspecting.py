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


def place_of(row: InstanceRow) -> InstancePlace:
    """Return where a listing goes on behind `row`."""
    return (row.started_at, row.saga_id)
