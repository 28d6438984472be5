"""Let events from outside into a saga: the object users call, bound to a running app by the runtime."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from saga._core.definition import Saga
from saga._core.events import Event
from saga._core.ids import saga_id_of
from saga._core.start import is_event
from saga.errors import DeclarationError, NotRunning

Received = TypeVar("Received", bound=Event)


class Receiver(Protocol):
    """Take events in for the `Receive` objects bound to it; the runtime has one for each service."""

    async def receive(self, receive: Receive[Any], event: Event, *, saga_id: str, tenant: str, connection: Any) -> None:
        """Write the run and its event; inside `connection`'s transaction when one is given."""
        ...


class Receive(Generic[Received]):
    """Be an event of a saga that comes from outside (an approval, a callback); calling it hands one in.

    `name` is the name of its run, such as `orders.receive_approval_given`.
    """

    def __init__(self, *, service: str, saga: Saga, event: type[Received]) -> None:
        if not is_event(event):
            msg = (
                f"{service}.receives({saga}): {event!r} is not an Event class; "
                "write `class Approved(Event, name=..., version=1)`"
            )
            raise DeclarationError(msg)
        self.event = event
        self.service = service
        self.saga = saga
        self.name = f"{service}.receive_{event.wire_name.replace('.', '_').replace('-', '_')}"
        self._receivers: list[Receiver] = []

    def bind(self, receiver: Receiver) -> None:
        """Let calls go to `receiver` from now on."""
        self._receivers.append(receiver)

    def unbind(self, receiver: Receiver) -> None:
        """Forget `receiver`; does nothing when it is not bound."""
        self._receivers = [bound for bound in self._receivers if bound is not receiver]

    async def __call__(
        self,
        event: Received,
        *,
        saga_id: str | None = None,
        key: str | None = None,
        tenant: str = "",
        connection: Any = None,
    ) -> None:
        """Hand `event` to the saga with this ID, or to the one started under this business key.

        Returns once it is stored; it may come before the saga asks for it. Handing in the same event again
        changes nothing; another one for the same saga raises KeyConflict. With a `connection` it is part of the
        transaction open there. Raises NotRunning outside of a running app.
        """
        if type(event) is not self.event:
            msg = f"{self.name} ({self.saga}): takes {self.event.__qualname__}, not {type(event).__qualname__}"
            raise DeclarationError(msg)
        if (saga_id is None) == (key is None):
            msg = f"{self.name} ({self.saga}): say which saga: saga_id=... or the key= it was started with, one of them"
            raise DeclarationError(msg)
        if not self._receivers:
            msg = f"{self.name} ({self.saga}): no app is running this service; call it inside `async with app:`"
            raise NotRunning(msg)
        found = saga_id if saga_id is not None else saga_id_of(self.saga.name, tenant, key or "")
        await self._receivers[-1].receive(self, event, saga_id=found, tenant=tenant, connection=connection)

    def __repr__(self) -> str:
        """Name the received event."""
        return f"<receive {self.name} ({self.saga})>"
