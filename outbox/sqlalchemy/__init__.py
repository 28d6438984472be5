"""Keep sagas in PostgreSQL through an engine of SQLAlchemy's; needs the extra `[sqlalchemy]`."""

from __future__ import annotations

from outbox.sqlalchemy.pool import checked_engine
from outbox.sqlalchemy.stores import SqlAlchemyCoordinationStore, SqlAlchemyStore

__all__ = ["SqlAlchemyCoordinationStore", "SqlAlchemyStore", "checked_engine"]
