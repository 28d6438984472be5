"""Be a participant's and a coordinator's database on an engine of SQLAlchemy's."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.postgres.driver import Link
from outbox.postgres.unit import PostgresUnit
from outbox.sqlalchemy.pool import EngineLink, engine_pool
from outbox.sqlalchemy.unit import SqlAlchemyUnit


class SqlAlchemyStore(PostgresStore):
    """Keep a participant's rows next to its business tables; see `saga.ports.Store`.

    Everything is `PostgresStore`'s but where the connections come from, and `run.session`. The engine stays its
    owner's: it is not disposed of. Of the settings, `pool_size` and `pgbouncer` belong to the engine instead.
    """

    def __init__(self, engine: AsyncEngine, *, settings: PostgresSettings | None = None) -> None:
        """Take connections from `engine`, which is for postgresql+asyncpg; raises SettingsError."""
        pool = engine_pool(engine, settings)
        super().__init__(pool.url, settings=settings, pool=pool)

    def unit_on(self, link: Link, service: str) -> PostgresUnit:
        """Return the inside of an open transaction, with sessions where the connection is the engine's."""
        if isinstance(link, EngineLink):
            return SqlAlchemyUnit(link, self._composer, service)
        return super().unit_on(link, service)  # somebody's own connection has somebody's own sessions


class SqlAlchemyCoordinationStore(PostgresCoordinationStore):
    """Keep instances, cursors and plans; see `saga.ports.CoordinationStore` and `SqlAlchemyStore`."""

    def __init__(self, engine: AsyncEngine, *, settings: PostgresSettings | None = None) -> None:
        """Take connections from `engine`, which is for postgresql+asyncpg; raises SettingsError."""
        pool = engine_pool(engine, settings)
        super().__init__(pool.url, settings=settings, pool=pool)
