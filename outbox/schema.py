"""Compare the migrations that this version has with those a database has had, and say what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from shlex import quote
from typing import Protocol, runtime_checkable

from outbox.codec import Codec, Row
from outbox.sql import Component, Migration, Phase
from saga.errors import SchemaMismatch

COMMAND = "saga db upgrade"


class Standing(StrEnum):
    """Say how a migration stands: EDITED has another text now than when it was applied, NEWER is not known here."""

    APPLIED = "applied"
    PENDING = "pending"
    EDITED = "edited"
    NEWER = "newer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Be one row of `saga_migration`."""

    component: Component
    number: int
    name: str
    phase: Phase
    checksum: str
    applied_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationState:
    """Say how one migration stands in one database; `applied_at` is None while it is pending."""

    component: Component
    number: int
    name: str
    phase: Phase
    standing: Standing
    applied_at: datetime | None = None

    def __str__(self) -> str:
        """Return it as messages print it."""
        return f"{self.component} {self.number:04}_{self.name} ({self.phase})"


@runtime_checkable
class SchemaStore(Protocol):
    """Be a store that knows how its tables stand."""

    async def migrate(self, phase: Phase = Phase.BEFORE) -> None:
        """Apply what is pending of one phase; raises SchemaMismatch, Contended, StoreUnavailable."""
        ...

    async def migrations(self) -> Sequence[MigrationState]:
        """Return how every migration of this version and every one applied stands, in their order."""
        ...

    async def check_schema(self) -> None:
        """Raise SchemaMismatch unless this version can work on the tables as they are."""
        ...


def as_applied(codec: Codec, rows: Iterable[Row], components: Sequence[Component]) -> list[Applied]:
    """Decode the rows of `saga_migration` that are about some components."""
    return [
        Applied(
            component=Component(row["component"]),
            number=row["number"],
            name=row["name"],
            phase=Phase(row["phase"]),
            checksum=row["checksum"],
            applied_at=codec.from_time(row["applied_at"]),
        )
        for row in rows
        if row["component"] in components
    ]


def compare(known: Sequence[Migration], applied: Sequence[Applied]) -> tuple[MigrationState, ...]:
    """Return how each migration stands: those known in their order, behind them those that are not."""
    rows = {(row.component, row.number): row for row in applied}
    states: list[MigrationState] = []
    for migration in known:
        row = rows.pop((migration.component, migration.number), None)
        if row is None:
            standing = Standing.PENDING
        else:
            standing = Standing.APPLIED if row.checksum == migration.checksum else Standing.EDITED
        states.append(
            MigrationState(
                component=migration.component,
                number=migration.number,
                name=migration.name,
                phase=migration.phase,
                standing=standing,
                applied_at=row.applied_at if row is not None else None,
            )
        )
    newer = (
        MigrationState(
            component=row.component,
            number=row.number,
            name=row.name,
            phase=row.phase,
            standing=Standing.NEWER,
            applied_at=row.applied_at,
        )
        for row in rows.values()
    )
    return (*states, *newer)


def pending(states: Iterable[MigrationState], phase: Phase) -> list[MigrationState]:
    """Return what is still to be applied of a phase."""
    return [state for state in states if state.standing is Standing.PENDING and state.phase is phase]


def check_upgrade(states: Sequence[MigrationState], phase: Phase, where: str) -> None:
    """Raise SchemaMismatch where nothing more may be applied.

    What a newer version has added does no harm; what it has removed after its deploy, this version needs.
    """
    edited = [str(state) for state in states if state.standing is Standing.EDITED]
    if edited:
        raise SchemaMismatch(
            f"{where}: {', '.join(edited)} was edited after it had been applied, so nobody knows what the tables are "
            "like; take the text back that was applied, and put the change into a migration with the next number"
        )
    removed = [str(s) for s in states if s.standing is Standing.NEWER and s.phase is Phase.AFTER]
    if removed:
        raise SchemaMismatch(
            f"{where}: a newer version of saga has applied {', '.join(removed)}, which removed what this version "
            "needs; deploy that version or a later one"
        )
    if phase is Phase.AFTER and (missing := pending(states, Phase.BEFORE)):
        raise SchemaMismatch(
            f"{where}: {', '.join(map(str, missing))} is still pending; run `{COMMAND}` first, and --phase after only "
            "when no older replica runs any more"
        )


def upgrade_command(url: str, component: Component) -> str:
    """Return the command line that makes the tables of a component, to be pasted into a shell."""
    return f"{COMMAND} --store {quote(url)} --for {component}"


def check_start(states: Sequence[MigrationState], component: Component, where: str, url: str = "") -> None:
    """Raise SchemaMismatch unless this version can work on the tables as they are; `url` is for the command in it."""
    check_upgrade(states, Phase.BEFORE, where)
    if missing := pending(states, Phase.BEFORE):
        command = upgrade_command(url or where, component)
        raise SchemaMismatch(
            f"{where}: the tables lack {', '.join(map(str, missing))}; run `{command}`, or let an App or an "
            "Outbox do it with migrate=True"
        )
