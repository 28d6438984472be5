"""Load SQL from the files beside this module: named queries, and numbered migrations.

A query file holds sections that begin with `-- name: <name>`. A migration is a file
`migrations/<component>/<number>_<name>.<phase>.sql`; its statements end with a semicolon at the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib.resources import files

from saga.errors import SettingsError

_SECTION = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n?", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_(\w+)\.(before|after)\.sql")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TABLE = re.compile(
    r"\bsaga_(?:run|gate|inbox|inbox_rest|inbox_DAY|lock|lock_queue|outbox|outbox_cdc|delivery|lease|audit|instance|cursor|plan"
    r"|migration)\b"
)

CHECKSUM_CHARS = 16
# Of an advisory lock; "saga" in ASCII, so that all versions take the same.
MIGRATION_LOCK = int.from_bytes(b"saga")
NO_COORDINATOR = "{!r} has no table of a coordinator: name its database, or start the coordinator once"


class Dialect(StrEnum):
    """Name the databases there is SQL for."""

    POSTGRES = "postgres"
    SQLITE = "sqlite"


class Component(StrEnum):
    """Name the groups of tables that are migrated together; SHARED belongs to both sides and comes first."""

    SHARED = "shared"
    PARTICIPANT = "participant"
    COORDINATOR = "coordinator"


class Phase(StrEnum):
    """Say when a migration runs: before the first new replica comes up, or after the last old one is gone."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Be one step of a component's tables; `checksum` is of its statements, without comments and schema."""

    component: Component
    number: int
    name: str
    phase: Phase
    sql: str
    checksum: str

    def statements(self) -> Iterator[str]:
        """Yield the statements one by one."""
        for piece in re.split(r";[ \t]*$", self.sql, flags=re.MULTILINE):
            if piece.strip():
                yield piece.strip()


@cache
def queries(dialect: Dialect, schema: str | None = None) -> Mapping[str, str]:
    """Return all named queries of a dialect, tables qualified by `schema`; raises SettingsError for a bad name."""
    found: dict[str, str] = {}
    for file in sorted((files(__name__) / dialect).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            sections = _SECTION.split(file.read_text("utf-8"))[1:]
            for name, text in zip(sections[::2], sections[1::2], strict=True):
                assert name not in found, f"{file.name}: there are two queries {name}"
                found[name] = qualified(_COMMENT.sub("", text).strip().removesuffix(";"), schema)
    return found


@cache
def migrations(dialect: Dialect, component: Component, schema: str | None = None) -> tuple[Migration, ...]:
    """Return a component's migrations in order, tables qualified by `schema`."""
    found: list[Migration] = []
    for file in (files(__name__) / dialect / "migrations" / component).iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match is not None:
            text = _COMMENT.sub("", file.read_text("utf-8"))
            found.append(
                Migration(
                    component=component,
                    number=int(match[1]),
                    name=match[2],
                    phase=Phase(match[3]),
                    sql=qualified(text, schema),
                    checksum=sha256(" ".join(text.split()).encode()).hexdigest()[:CHECKSUM_CHARS],
                )
            )
    return tuple(sorted(found, key=lambda migration: migration.number))


def checked_schema(schema: str | None) -> str | None:
    """Return a schema's name if it can stand in SQL as it is; raises SettingsError."""
    if schema is not None and _IDENTIFIER.fullmatch(schema) is None:
        raise SettingsError(
            f"schema {schema[:80]!r} cannot be used: write lower-case letters, digits and _, not a digit first"
        )
    return schema


def qualified(sql: str, schema: str | None) -> str:
    """Return `sql` with saga's own tables qualified: a borrowed connection has a search path of its own."""
    if checked_schema(schema) is None:
        return sql
    return _TABLE.sub(rf'"{schema}".\g<0>', sql)
