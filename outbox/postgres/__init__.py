"""Keep sagas in PostgreSQL; needs the extra `[postgres]`."""

from __future__ import annotations

from outbox.postgres.coordination import PostgresCoordinationStore
from outbox.postgres.operating import PostgresOperatingStore
from outbox.postgres.participant import PostgresStore
from outbox.postgres.settings import PostgresSettings

__all__ = ["PostgresCoordinationStore", "PostgresOperatingStore", "PostgresSettings", "PostgresStore"]
