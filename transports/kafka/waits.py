"""Bound every wait for the client library and turn its errors into ours, by name: no import of it in here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio

from saga.errors import PositionLost, Revoked, TransportError, TransportRefused, TransportUnavailable

T = TypeVar("T")

_REVOKED = {"CommitFailedError", "IllegalStateError"}
_UNREACHED = {"KafkaConnectionError", "NodeNotReadyError", "RequestTimedOutError", "KafkaTimeoutError"}
_FINAL = {
    "SaslAuthenticationFailed",
    "UnsupportedSaslMechanismError",
    "IllegalSaslStateError",
    "InvalidTopicError",
    "InvalidReplicationFactorError",
    "MessageSizeTooLargeError",
}


class Unreached(TransportUnavailable):
    """Report that nobody answered; a connection of one's own may tell why."""


class Denied(TransportRefused):
    """Report that the broker does not allow it; `kind` is the library's name of the error."""

    def __init__(self, message: str, *, kind: str) -> None:
        self.kind = kind
        super().__init__(message)


async def bounded(what: str, call: Callable[[], Awaitable[T]], timeout_seconds: float) -> T:
    """Wait at most so long; raises TransportUnavailable, TransportRefused, Revoked or PositionLost."""
    try:
        with anyio.fail_after(timeout_seconds):
            return await call()
    except TimeoutError as error:
        raise Unreached(f"{what}: no answer within {timeout_seconds:g} s") from error
    except asyncio.CancelledError as error:
        if not _unasked():
            raise
        raise Unreached(f"{what}: the client library cancelled it") from error
    except Exception as error:  # whatever else the library raises, callers can only treat it as ours
        raise translated(what, error) from error


def _unasked() -> bool:
    """Return whether nobody has asked for the cancellation just caught: the library let one of its own out.

    It would end the whole application, without a word.
    """
    return asyncio.current_task() is not None and not _asked()


def _asked() -> int:
    """Return how often the cancellation of this task has been asked for."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def translated(what: str, error: Exception) -> TransportError:
    """Return our error for one of the library's."""
    if isinstance(error, TransportError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    name, words = type(error).__name__, str(error)
    told = f"{what}: {words}" if name in words else f"{what}: {name}: {words}"
    denied = next((name for name in sorted(names) if name.endswith("AuthorizationFailedError")), None)
    if denied is not None:
        return Denied(told, kind=denied)
    if "FencedInstanceId" in words:  # as text only: the library wraps it
        return TransportRefused(f"{what}: another process has the same slot: give every process a slot of its own")
    if "OffsetOutOfRangeError" in names:
        return PositionLost(f"{what}: the position no longer exists on the broker: {error}")
    if names & _REVOKED:
        return Revoked(f"{what}: {error}")
    if "UnknownTopicOrPartitionError" in names:
        return TransportRefused(f"{what}: the topic does not exist; call ensure_topics first")
    if names & _FINAL:
        return TransportRefused(told)
    if names & _UNREACHED:
        return Unreached(told)
    return TransportUnavailable(told if "KafkaError" in names else f"{what}: unexpected {name}: {words}")


def cut_off(client: Any) -> None:
    """Have a client of the library make no new connection: some of its calls go on behind a cancelled caller."""

    async def none(*_: object, **__: object) -> None:
        return None

    client._get_conn = none  # noqa: SLF001 - see library.py


async def closed(call: Callable[[], Awaitable[object]], timeout_seconds: float) -> bool:
    """Close something even while being cancelled, within the time; returns whether it ended by itself."""
    asked = _asked()
    with anyio.move_on_after(timeout_seconds, shield=True):
        # What is broken anyway is closed as well as it goes: nothing is left to do with an error.
        try:
            with suppress(Exception):
                await call()
        except asyncio.CancelledError:
            # Whoever closes because it is cancelled is so from before: that says nothing of this one.
            if _asked() > asked:
                raise
        return True
    return False
