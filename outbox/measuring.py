"""Turn the rows of the measuring query into a reading, whichever database they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from outbox.sql import Component
from saga._core.measuring import Count, StoreReading


class Row(NamedTuple):
    """Be one row of the query: how many of a kind there are, and how old the oldest is."""

    what: str
    name: str
    kind: str
    rows: int
    age: float


_PARTS = {
    Component.SHARED: ("measure_shared",),
    Component.PARTICIPANT: ("measure_shared", "measure_participant"),
    Component.COORDINATOR: ("measure_shared", "measure_coordinator"),
}


def measuring_sql(component: Component, sql: Mapping[str, str]) -> str:
    """Return the one query that measures the tables of a component."""
    return "\nunion all\n".join(sql[name] for name in _PARTS[component])


def reading_of(rows: Iterable[Row]) -> StoreReading:
    """Return what was counted."""
    found: dict[str, list[Count]] = {}
    for row in rows:
        count = Count(name=row.name, kind=row.kind, rows=row.rows, age_seconds=max(0.0, row.age))
        found.setdefault(row.what, []).append(count)
    return StoreReading(**{what: tuple(counts) for what, counts in found.items()})
