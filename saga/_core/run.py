"""Give handlers their context: what is being run, and the open transaction while there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

from saga._core.events import Event, Refusal
from saga._core.locks import EntityLock, Otherwise
from saga._core.words import Cause, Ending, Purpose
from saga.errors import NotRunning, SettingsError, StoreError


class Database(Protocol):
    """Run the user's SQL inside the open transaction; placeholders are `$1`, `$2`, … on every store."""

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows it touched."""
        ...

    async def fetch(self, sql: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows."""
        ...

    async def fetch_one(self, sql: str, *args: object) -> Mapping[str, Any] | None:
        """Run one statement and return its first row, or None."""
        ...


class Door(Protocol):
    """Lead into one open transaction; a unit of work is one."""

    @property
    def db(self) -> Database:
        """Return the user's door to the transaction."""
        ...

    @property
    def connection(self) -> Any:
        """Return the driver's own connection."""
        ...


class SessionTurn(Protocol):
    """Be one handler's own session of an object mapper, on the open transaction."""

    @property
    def session(self) -> Any:
        """Return the mapper's own session."""
        ...

    async def flush(self) -> None:
        """Write what the handler has left in the session; raises as the mapper, StoreError if it ended it."""
        ...

    async def close(self) -> None:
        """Forget all objects and end the session; what was not written is dropped."""
        ...

    def meant(self, error: BaseException) -> StoreError | None:
        """Return what an error that has passed through the mapper means to the runtime, None if nothing."""
        ...


@runtime_checkable
class SessionDoor(Protocol):
    """Lead to sessions on one open transaction; the units of work of some stores do."""

    def open_session(self) -> SessionTurn:
        """Begin a session of its own; nothing is sent."""
        ...


def session_of(door: object) -> SessionTurn:
    """Begin a session on a door's transaction; raises SettingsError where its store has none."""
    if isinstance(door, SessionDoor):
        return door.open_session()
    raise SettingsError(
        "run.session needs an engine of SQLAlchemy's with PostgreSQL: write "
        "App(…, store=create_async_engine('postgresql+asyncpg://…')), or use run.db, which every store has"
    )


class LockDoor(Protocol):
    """Lead to the entities that a saga can hold in one open transaction."""

    async def take(self, lock: EntityLock, entity: str, otherwise: Otherwise, timeout: timedelta | None) -> None:
        """Take an entity; raises LockHeld."""
        ...


class Outgoing(Protocol):
    """Take the plain events that are published in one open transaction."""

    def add(self, event: Event, key: str | None, topic: str | None) -> str:
        """Take an event and return its ID; raises what `Run.publish` does."""
        ...


Refused = TypeVar("Refused", bound=Refusal)


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """Tell a handler what it runs for, and lend it the transaction its result will be stored in.

    `db`, `connection` and `session` are valid only during the handler's turn, and never in a handler declared
    with `calls=`. `saga_id` is "" in a subscriber, which belongs to no saga. `idempotency_key` is the same for every
    attempt of one outside call. `attempt` counts from 1. `deadline` is when the saga is closed unless its pivot, or
    all of it, has run by then; None after the pivot and in everything that undoes, records or ends. `purpose` is
    RESOLVE when an earlier call was never answered and the truth is wanted.
    """

    saga_id: str
    step: str
    branch: str = ""
    attempt: int = 1
    purpose: Purpose = Purpose.ACT
    tenant: str = ""
    deadline: datetime | None = None
    idempotency_key: str = ""
    door: Door | None = field(default=None, repr=False)
    locks: LockDoor | None = field(default=None, repr=False)
    outgoing: Outgoing | None = field(default=None, repr=False)
    turn: SessionTurn | None = field(default=None, init=False, repr=False)

    @property
    def db(self) -> Database:
        """Return the open transaction's database; raises NotRunning where no transaction is open."""
        return self._open("db").db

    @property
    def connection(self) -> Any:
        """Return the transaction's own driver connection; raises NotRunning where no transaction is open."""
        return self._open("connection").connection

    @property
    def session(self) -> Any:
        """Return SQLAlchemy's `AsyncSession` on the open transaction; with an engine as the app's store, or SQLite.

        It is made at its first use, for this handler's turn alone: no other handler sees its objects. When the
        handler returns it is flushed, in the same transaction as the step's own rows, and closed; when it raises,
        what was not flushed is dropped. `commit`, `rollback`, `close` and `begin` raise StoreError, since the
        transaction is the step's; `begin_nested` is a savepoint. Raises NotRunning where no transaction is open,
        SettingsError with a store that has no sessions.
        """
        door = self._open("session")
        if self.turn is None:
            self.turn = session_of(door)
        return self.turn.session

    async def lock(
        self,
        lock: EntityLock,
        entity: str,
        *,
        otherwise: Otherwise = Otherwise.WAIT,
        timeout: timedelta | None = None,
    ) -> None:
        """Hold an entity for this saga until it has ended; a row written in the step's own transaction.

        Returns when the saga has the entity, at once where it has it already. Where another saga holds it, LockHeld is
        raised: with REFUSE for the step to catch; with WAIT and QUEUE to leave it, whatever it makes of it. Then the
        step holds and has written nothing, runs again once the entity is free, and no attempt is counted. Once it has
        waited for `timeout`, LockHeld is the step's own, as with REFUSE. Raises NotRunning outside of a step's
        transaction, DeclarationError for an entity that cannot be one.
        """
        if self.locks is None:
            msg = (
                f"{self.step}: run.lock works in a step that runs in a transaction, until it returns. A compensation "
                f"and what comes after a saga never wait for {lock}; for a step with calls= take the lock in a step "
                "before it"
            )
            raise NotRunning(msg)
        await self.locks.take(lock, entity, otherwise, timeout)

    async def publish(self, event: Event, *, key: str | None, topic: str | None = None) -> str:
        """Publish a plain event, one outside of any saga, if and when this transaction commits; returns its ID.

        Events of one `key` stay in order; None: the order does not matter. It goes to the events of this service, or
        to `topic`. An attempt that is made again publishes under the same IDs. What a refusal or an error leaves is
        never sent. Does not block. Raises NotRunning where no transaction is open, DeclarationError, Undecodable,
        SettingsError and TooLarge for what cannot be sent.
        """
        if self.outgoing is None:
            raise NotRunning(self._closed("publish"))
        return self.outgoing.add(event, key, topic)

    def end_turn(self) -> None:
        """Take the transaction away: `db` and whatever else needs one raise NotRunning from now on."""
        self.door = None
        self.locks = None
        self.outgoing = None

    def _open(self, what: str) -> Door:
        if self.door is None:
            raise NotRunning(self._closed(what))
        return self.door

    def _closed(self, what: str) -> str:
        return (
            f"{self.step}: run.{what} has no open transaction here. A handler declared with calls= runs without "
            "one (write its rows in a function marked @<step>.recorded); every other handler has it only "
            "until it returns"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Tell the starter how a saga ended; handed to `on_end` once for each ending.

    `cause` says why it was closed, None if it never was. `refusal` is the typed refusal where this
    process runs the step that returned it; elsewhere `refused_with` reads it. `refusal_type` is its wire
    type in any case, `""` when nothing refused. `detail` is text for people. `start` is the event the
    saga was started with.
    """

    ending: Ending
    saga_id: str
    start: Event
    cause: Cause | None = None
    refusal: Refusal | None = None
    refusal_type: str = ""
    refusal_json: bytes = field(default=b"", repr=False)
    detail: str = ""

    def refused_with(self, kind: type[Refused]) -> Refused | None:
        """Return the refusal as `kind`, None when the saga was not refused with that wire type.

        Works for refusals of services this process knows nothing else about. Raises pydantic's
        ValidationError when the payload does not fit `kind`.
        """
        return kind.model_validate_json(self.refusal_json) if self.refusal_type == kind.wire_type else None
