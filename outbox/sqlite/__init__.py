"""Keep sagas in a SQLite file, for development, tests and one-process deployments."""

from __future__ import annotations

from outbox.sqlite.coordination import SqliteCoordinationStore
from outbox.sqlite.operating import SqliteOperatingStore
from outbox.sqlite.participant import SqliteStore

__all__ = ["SqliteCoordinationStore", "SqliteOperatingStore", "SqliteStore"]
