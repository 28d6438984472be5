"""Give handlers their context: what is being run, and the open transaction while there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from saga._core.events import Event, Refusal
from saga._core.locks import EntityLock, Otherwise
from saga._core.words import Cause, Ending, Purpose
from saga.errors import NotRunning


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


class LockDoor(Protocol):
    """Lead to the entities that a saga can hold in one open transaction."""

    async def take(self, lock: EntityLock, entity: str, otherwise: Otherwise, timeout: timedelta | None) -> None:
        """Take an entity; raises LockHeld."""
        ...


Refused = TypeVar("Refused", bound=Refusal)


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """Tell a handler what it runs for, and lend it the transaction its result will be stored in.

    `db` and `connection` are valid only during the handler's turn, and never in a handler declared
    with `calls=`. `idempotency_key` is the same for every attempt of one outside call. `attempt`
    counts from 1. `deadline` is when the saga is closed unless its pivot, or all of it, has run by then; None
    after the pivot and in everything that undoes, records or ends. `purpose` is RESOLVE when an earlier call was
    never answered and the truth is wanted.
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

    @property
    def db(self) -> Database:
        """Return the open transaction's database; raises NotRunning where no transaction is open."""
        return self._open("db").db

    @property
    def connection(self) -> Any:
        """Return the transaction's own driver connection; raises NotRunning where no transaction is open."""
        return self._open("connection").connection

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

    def end_turn(self) -> None:
        """Take the transaction away: `db`, `connection` and `lock` raise NotRunning from now on."""
        self.door = None
        self.locks = None

    def _open(self, what: str) -> Door:
        if self.door is None:
            msg = (
                f"{self.step}: run.{what} has no open transaction here. A handler declared "
                "with calls= runs without "
                "one (write its rows in a function marked @<step>.recorded); every other "
                "handler has it only "
                f"until it returns"
            )
            raise NotRunning(msg)
        return self.door


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
