"""Start sagas: the object users call, bound to a running app by the runtime."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar

from saga._core.definition import Saga
from saga._core.events import Event
from saga._core.words import Priority
from saga.errors import DeclarationError, NotRunning

START: Final = "start"
"""The function part of a start run's name."""

Started = TypeVar("Started", bound=Event)


class WhenOpen(StrEnum):
    """Say what becomes of a start while the fleet leaves a dependency alone that its plan calls."""

    LET_THROUGH = "let_through"
    HOLD = "hold"
    REFUSE = "refuse"


class Starter(Protocol):
    """Start sagas for the `Start` objects bound to it; the runtime has one for each app."""

    async def start(
        self, start: Start[Any], event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> Any:
        """Write the start run and its event; inside `connection`'s transaction when one is given."""
        ...

    def start_here(
        self, start: Start[Any], event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> Any:
        """Do the same inside the transaction of a connection that blocks, in the calling thread."""
        ...


class Start(Generic[Started]):
    """Be how a service starts one saga; calling it starts a saga in the app bound last.

    `name` is the start run's name (`orders.start`). A held start waits for at most `hold_seconds`.
    """

    def __init__(
        self,
        *,
        name: str,
        service: str,
        saga: Saga,
        event: type[Started],
        when_open: WhenOpen = WhenOpen.LET_THROUGH,
        hold_seconds: float = 10.0,
    ) -> None:
        self.event = event
        if not 0 < hold_seconds < math.inf:
            msg = f"{name} ({saga}): hold_seconds={hold_seconds}; write how long a caller may wait, such as 10"
            raise DeclarationError(msg)
        if not is_event(event):
            msg = (
                f"{name} ({saga}): {event!r} is not an Event class; write `class "
                "OrderPlaced(Event, name=..., version=1)`"
            )
            raise DeclarationError(msg)
        self.name = name
        self.service = service
        self.saga = saga
        self.when_open = when_open
        self.hold_seconds = hold_seconds
        self._starters: list[Starter] = []

    def bind(self, starter: Starter) -> None:
        """Let calls go to `starter` from now on."""
        self._starters.append(starter)

    def unbind(self, starter: Starter) -> None:
        """Forget `starter`; calls go to the one bound before it. Does nothing when it is not bound."""
        self._starters = [bound for bound in self._starters if bound is not starter]

    async def __call__(
        self,
        event: Started,
        *,
        key: str | None = None,
        tenant: str = "",
        priority: Priority = Priority.NORMAL,
        connection: Any = None,
    ) -> Any:
        """Start a saga with `event` and return its handle.

        With a business `key` a repeated start finds the first saga. One with `priority=URGENT` does not queue behind
        those without, at any service. With a `connection` the start is part of
        the transaction open there. While a dependency is out that the plan calls, waits or raises Overloaded as
        `when_open` says; nobody waits inside of an open transaction, there HOLD refuses too. Raises NotRunning
        outside of a running app.
        """
        starter = self._starter_for(event)
        return await starter.start(self, event, key=key, tenant=tenant, priority=priority, connection=connection)

    def sync(
        self,
        event: Started,
        *,
        connection: Any,
        key: str | None = None,
        tenant: str = "",
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """Start a saga inside a synchronous transaction, without `await` and in any thread; return its handle.

        `connection` is a sync Session or Connection of SQLAlchemy, a sync one of psycopg, or one of sqlite3. All
        else is as for a call; the app that runs the service may run in another thread.
        """
        starter = self._starter_for(event)
        return starter.start_here(self, event, key=key, tenant=tenant, priority=priority, connection=connection)

    def _starter_for(self, event: Event) -> Starter:
        if type(event) is not self.event:
            msg = f"{self.name} ({self.saga}): starts with {self.event.__qualname__}, not {type(event).__qualname__}"
            raise DeclarationError(msg)
        if not self._starters:
            msg = f"{self.name} ({self.saga}): no app is running this service; start sagas inside `async with app:`"
            raise NotRunning(msg)
        return self._starters[-1]

    def __repr__(self) -> str:
        """Name the start."""
        return f"<start {self.name} ({self.saga})>"


def is_event(candidate: object) -> TypeGuard[type[Event]]:
    """Return whether `candidate` is an Event class with a wire name of its own."""
    return isinstance(candidate, type) and issubclass(candidate, Event) and candidate.wire_type != ""
