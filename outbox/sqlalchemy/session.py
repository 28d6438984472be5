"""Be one handler's session on a transaction that somebody else begins and ends; this part knows no driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import anyio
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from saga.errors import StoreError

CLOSE_SECONDS = 5.0
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


class HandlerTurn:
    """Be one handler's session on a connection in a transaction; see `saga._core.run.SessionTurn`."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Begin a session on `connection`; nothing is sent."""
        self._ended = False
        self.is_open = True
        self.session = AsyncSession(
            connection,
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
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self.session.run_sync(Session.close)
            except SQLAlchemyError:
                self.broke()

    def broke(self) -> None:
        """Hear that the connection broke while the session was closed: it is not used by anybody else."""

    def meant(self, error: BaseException) -> StoreError | None:
        """Return what the driver has met in this session, None if nothing: an error may come from elsewhere too."""
        del error
        return None


@asynccontextmanager
async def sessions_around(turns: Sequence[HandlerTurn], savepoint: Any) -> AsyncGenerator[None]:
    """Open a savepoint below those of all sessions; rolled back, no session knows an object that came up inside.

    `turns` may grow meanwhile.
    """
    known = len(turns)
    async with AsyncExitStack() as stack:
        for turn in turns:
            if turn.is_open:
                # Its own savepoint writes what is pending first, and puts its objects back.
                await stack.enter_async_context(turn.session.begin_nested())
                await turn.session.connection()  # it is set with the first use only: now, around the one below
        await stack.enter_async_context(savepoint)
        try:
            yield
        except BaseException:
            for turn in turns[known:]:
                await turn.close()
            raise


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, innermost last."""
    seen: set[int] = set()
    each = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
