"""Lend handlers a session on the transaction of their step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NoReturn

import anyio
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from outbox.postgres.driver import Origin, translated
from outbox.postgres.parts import Composer
from outbox.postgres.unit import ROLLBACK_SECONDS, PostgresDatabase, PostgresUnit
from outbox.sqlalchemy.pool import NOTED, EngineLink, Noted, chain
from saga.errors import StoreError

ENDED = (
    "the transaction of run.session is the step's: a handler must not commit, roll back, close or begin it; "
    "leave it open, and use `async with run.session.begin_nested():` for a part that can be taken back"
)
BROKEN = (
    "a flush of run.session failed and the handler went on: let the error out of the handler, or flush inside "
    "`async with run.session.begin_nested():`"
)


class HandlerSession(Session):
    """Be a session that leaves the transaction to the store."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise StoreError(ENDED)

    commit = rollback = close = reset = invalidate = prepare = _refuse

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002 - SQLAlchemy's own signature
        """Open a savepoint; raises StoreError for a transaction."""
        return super().begin(nested=True) if nested else self._refuse()


class SqlAlchemyTurn:
    """Be one handler's session; see `saga._core.run.SessionTurn`."""

    def __init__(self, link: EngineLink, database: PostgresDatabase) -> None:
        self._link = link
        self._noted = Noted(database)
        self._ended = False
        self.is_open = True
        lent = link.lent.sync_connection
        assert lent is not None
        lent.execution_options(**{NOTED: self._noted})
        self.session = AsyncSession(
            link.lent,
            sync_session_class=HandlerSession,
            expire_on_commit=False,
            join_transaction_mode="rollback_only",  # else its end would take back what it wrote inside a savepoint
            close_resets_only=False,  # a session that a handler has kept must not come alive in somebody else's turn
        )
        event.listen(self.session.sync_session, "after_transaction_end", self._note_end)

    def _note_end(self, _session: Session, transaction: SessionTransaction) -> None:
        self._ended = self._ended or transaction.parent is None

    async def flush(self) -> None:
        """Write what is new or changed; raises SQLAlchemy's error, StoreError if the handler has ended the session."""
        self._check()
        await self.session.flush()

    def _check(self) -> None:
        if self._ended:
            raise StoreError(ENDED)
        if not self.session.is_active:
            raise StoreError(BROKEN)

    async def close(self) -> None:
        """Forget all objects and end the session; what was not written is dropped."""
        self.is_open = False
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True):
            try:
                await self.session.run_sync(Session.close)
            except SQLAlchemyError:
                self._link.suspect = True  # the connection broke: it is not used by anybody else

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
        known = len(self._turns)
        async with AsyncExitStack() as stack:
            for turn in self._turns:
                if turn.is_open:
                    # Its own savepoint writes what is pending first, and puts its objects back.
                    await stack.enter_async_context(turn.session.begin_nested())
                    await turn.session.connection()  # it is set with the first use only: now, around the one below
            await stack.enter_async_context(super().savepoint())
            try:
                yield
            except BaseException:
                for turn in self._turns[known:]:
                    await turn.close()
                raise
