"""Start sagas: the object users call, bound to a running app by the runtime."""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar

from saga._core.definition import Saga
from saga._core.events import Event
from saga.errors import DeclarationError, NotRunning

START: Final = "start"
"""The function part of a start run's name."""

Started = TypeVar("Started", bound=Event)


class Starter(Protocol):
    """Start sagas for the `Start` objects bound to it; the runtime has one for each app."""

    async def start(self, start: Start[Any], event: Event, *, key: str | None, tenant: str, connection: Any) -> Any:
        """Write the start run and its event; inside `connection`'s transaction when one is given."""
        ...


class Start(Generic[Started]):
    """Be how a service starts one saga; calling it starts a saga in the app bound last.

    `name` is the start run's name (`orders.start`).
    """

    def __init__(self, *, name: str, service: str, saga: Saga, event: type[Started]) -> None:
        self.event = event
        if not is_event(event):
            msg = (
                f"{name} ({saga}): {event!r} is not an Event class; write `class "
                "OrderPlaced(Event, name=..., version=1)`"
            )
            raise DeclarationError(msg)
        self.name = name
        self.service = service
        self.saga = saga
        self._starters: list[Starter] = []

    def bind(self, starter: Starter) -> None:
        """Let calls go to `starter` from now on."""
        self._starters.append(starter)

    def unbind(self, starter: Starter) -> None:
        """Forget `starter`; calls go to the one bound before it. Does nothing when it is not bound."""
        self._starters = [bound for bound in self._starters if bound is not starter]

    async def __call__(
        self, event: Started, *, key: str | None = None, tenant: str = "", connection: Any = None
    ) -> Any:
        """Start a saga with `event` and return its handle.

        With a business `key` a repeated start finds the first saga. With a `connection` the start is part of
        the transaction open there. Raises NotRunning outside of a running app.
        """
        if type(event) is not self.event:
            msg = f"{self.name} ({self.saga}): starts with {self.event.__qualname__}, not {type(event).__qualname__}"
            raise DeclarationError(msg)
        if not self._starters:
            msg = f"{self.name} ({self.saga}): no app is running this service; start sagas inside `async with app:`"
            raise NotRunning(msg)
        return await self._starters[-1].start(self, event, key=key, tenant=tenant, connection=connection)

    def __repr__(self) -> str:
        """Name the start."""
        return f"<start {self.name} ({self.saga})>"


def is_event(candidate: object) -> TypeGuard[type[Event]]:
    """Return whether `candidate` is an Event class with a wire name of its own."""
    return isinstance(candidate, type) and issubclass(candidate, Event) and candidate.wire_type != ""
