"""Lend handlers a session on the transaction of their step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from outbox.postgres.driver import Origin, translated
from outbox.postgres.parts import Composer
from outbox.postgres.unit import PostgresDatabase, PostgresUnit
from outbox.sqlalchemy.pool import NOTED, EngineLink, Noted
from outbox.sqlalchemy.session import HandlerTurn, chain, sessions_around
from saga.errors import StoreError


class SqlAlchemyTurn(HandlerTurn):
    """Be one handler's session on a transaction of PostgreSQL's."""

    def __init__(self, link: EngineLink, database: PostgresDatabase) -> None:
        self._link = link
        self._noted = Noted(database)
        lent = link.lent.sync_connection
        assert lent is not None
        lent.execution_options(**{NOTED: self._noted})
        super().__init__(link.lent)

    def broke(self) -> None:
        """Hear that the connection broke: it is not used by anybody else."""
        self._link.suspect = True

    def meant(self, error: BaseException) -> StoreError | None:
        """Return what the driver has met in this session, None if nothing: an error may come from elsewhere too."""
        for each in chain(self._noted.error):
            found = translated(each, Origin.USER, self._link.raw)
            if found is not None:
                found.__cause__ = error
                return found
        return None


class SqlAlchemyUnit(PostgresUnit):
    """Be one open transaction with sessions on it; see `saga.ports.UnitOfWork`."""

    def __init__(self, link: EngineLink, composer: Composer, service: str) -> None:
        super().__init__(link, composer, service)
        self._lent = link
        self._turns: list[SqlAlchemyTurn] = []

    def open_session(self) -> SqlAlchemyTurn:
        """Begin a session of its own on this transaction; nothing is sent."""
        turn = SqlAlchemyTurn(self._lent, self._database)
        self._turns.append(turn)
        return turn

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Open a savepoint; rolled back, no session knows an object that came up inside."""
        async with sessions_around(self._turns, super().savepoint()):
            yield
