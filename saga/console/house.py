"""Hold what every view of one console shares."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from starlette.requests import Request

from saga._core.overview import Changes, Overview
from saga._core.whole import Payloads
from saga.console.people import Role, User
from saga.console.reading import Reader
from saga.console.rendering import Pages
from saga.console.visits import visit_of
from saga.desk import SagaDesk
from saga.errors import SagaError

T = TypeVar("T")

LISTED = 50


class NotHere(SagaError):
    """Say that there is nothing at this address; the sentence is for people."""


class NotAllowed(SagaError):
    """Say that the user's role is too small; the sentence is for people."""


class Shared(Generic[T]):
    """Read something for many at once: whoever asks within `seconds` of a reading gets that one."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = anyio.Lock()
        self._read_at = -seconds
        self._last: T | None = None

    async def get(self) -> T:
        """Return a reading that is at most `seconds` old; raises what reading raises."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._read_at >= self._seconds:
                self._last = await self._read()
                self._read_at = time.monotonic()
            return self._last


@dataclass(slots=True, kw_only=True)
class House:
    """Be one console: where it reads, how it acts, who may see payloads, and how many pages are live."""

    reader: Reader
    pages: Pages
    desk: SagaDesk
    payloads: Role | None
    streams: int
    tick_seconds: float
    overview: Shared[Overview]
    changes: Shared[Changes]
    live: int = 0
    closing: anyio.Event = field(default_factory=anyio.Event)

    def seen_by(self, user: User) -> Payloads:
        """Return whether a user may see payloads."""
        allowed = self.payloads is not None and user.may(self.payloads)
        return Payloads.ALLOWED if allowed else Payloads.HIDDEN


def need(request: Request, role: Role, what: str) -> User:
    """Return who asks; raises NotAllowed when the role is too small."""
    user = visit_of(request).user
    if not user.may(role):
        raise NotAllowed(f"{what} takes the role {role}: you have {user.role}")
    return user
