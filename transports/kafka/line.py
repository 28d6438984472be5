"""Be one client's line to the cluster: every wait is bounded, and a failure says its real reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from saga.errors import TransportError, TransportRefused
from transports.kafka.probe import Probe
from transports.kafka.settings import KafkaSettings
from transports.kafka.waits import Denied, Unreached, bounded, translated

T = TypeVar("T")


class Line:
    """Wait for one client of the library; `rights` says which ACL is missing, by the library's error."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, rights: Mapping[str, str]) -> None:
        self._probe = Probe(bootstrap, settings)
        self._rights = rights
        self._principal = f"User:{settings.user}" if settings.user else "the client (by its certificate, or anonymous)"

    async def bounded(self, what: str, call: Callable[[], Awaitable[T]], timeout_seconds: float) -> T:
        """Wait at most so long, and 5 s more to find out why nobody answered.

        Raises TransportUnavailable, TransportRefused, Revoked or PositionLost, with the reason.
        """
        try:
            return await bounded(what, call, timeout_seconds)
        except Unreached as error:
            raise await self.reason(what, error) from error
        except Denied as error:
            raise self._with_right(error) from error

    def translated(self, what: str, error: Exception) -> TransportError:
        """Return our error for one of the library's."""
        known = translated(what, error)
        return self._with_right(known) if isinstance(known, Denied) else known

    async def reason(self, what: str, error: TransportError) -> TransportError:
        """Return the error for what could not be done, with what a connection of one's own has found, in 5 s."""
        found = await self._probe.why()
        if found is None:
            return error
        return type(found)(f"{what}: {found}")

    def _with_right(self, error: Denied) -> TransportRefused:
        right = self._rights.get(error.kind)
        if right is None:
            return error
        return TransportRefused(f"{error}: {self._principal} has no right to it; grant {right} (kafka-acls --add)")
