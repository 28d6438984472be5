"""Be what both databases share when people look at them: which tables there must be, and how rows are read."""

from __future__ import annotations

from enum import StrEnum

from outbox.codec import Row
from saga._core.inspecting import InstanceCount, UntoldEnd
from saga._core.letters import LetterGroup
from saga.errors import SettingsError

GROUP_LIMIT = 1000
FOOTPRINT_LIMIT = 10_000


class Tables(StrEnum):
    """Name the groups of tables that a question needs."""

    SHARED = "shared"
    PARTICIPANT = "participant"
    COORDINATOR = "coordinator"


_ADVICE = {
    Tables.SHARED: "has no tables of saga: name the database of an app that has come up once",
    Tables.PARTICIPANT: "belongs to no service: name the database that a service keeps its runs in",
    Tables.COORDINATOR: "belongs to no coordinator: name the database of the app that has a Coordinator(...)",
}


def check_tables(found: Row, needed: Tables, where: str) -> None:
    """Raise SettingsError unless the tables are there."""
    if not found[needed.value]:
        raise SettingsError(f"{where} {_ADVICE[needed]}")


def as_group(row: Row) -> LetterGroup:
    """Decode a count of dead letters."""
    return LetterGroup(
        service=row["service"],
        step=row["step"],
        error=row["error"],
        letters=row["letters"],
        oldest_seconds=max(0.0, float(row["oldest"])),
    )


def as_count(row: Row) -> InstanceCount:
    """Decode a count of sagas."""
    return InstanceCount(saga=row["saga"], version=row["version"], phase=row["phase"], sagas=row["sagas"])


def as_untold(row: Row) -> UntoldEnd:
    """Decode an end whose handler fails."""
    return UntoldEnd(saga_id=row["saga_id"], service=row["service"], attempt=row["attempt"], error=row["error"])
