"""Be what both databases share when they are examined: whose tables there are, and how they stand."""

from __future__ import annotations

from collections.abc import Sequence

from outbox.codec import Row
from outbox.operating import Tables
from outbox.schema import MigrationState, Standing
from outbox.sql import Component
from saga._core.doctor.facts import MigrationFact, SchemaStanding, Untold

_NEEDED = {
    Component.SHARED: Tables.SHARED,
    Component.PARTICIPANT: Tables.PARTICIPANT,
    Component.COORDINATOR: Tables.COORDINATOR,
}


def components_in(found: Row) -> tuple[Component, ...]:
    """Return those components whose tables are there, from the answer to the query `tables`."""
    return tuple(component for component, tables in _NEEDED.items() if found[tables.value])


def migration_facts(states: Sequence[MigrationState]) -> tuple[MigrationFact, ...]:
    """Return the migrations that are not simply applied."""
    return tuple(
        MigrationFact(
            component=state.component.value,
            name=f"{state.number:04}_{state.name}",
            phase=state.phase.value,
            standing=SchemaStanding(state.standing.value),
        )
        for state in states
        if state.standing is not Standing.APPLIED
    )


def stuck_in(rows: Sequence[Row]) -> str:
    """Return the ID of a saga that is stuck, "" for none."""
    return str(rows[0]["saga_id"]) if rows else ""


def untold_in(rows: Sequence[Row]) -> Untold | None:
    """Return what the query `checkup_untold` has found, None for nothing."""
    if not rows:
        return None
    row = rows[0]
    return Untold(
        sagas=row["sagas"], saga_id=row["saga_id"], service=row["service"], attempt=row["attempt"], error=row["error"]
    )
