"""Bound every wait for the client library and turn its errors into ours, by name: no import of it in here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import anyio

from saga.errors import PositionLost, Revoked, TransportError, TransportRefused, TransportUnavailable
from transports.kafka.logs import failure, overheard

T = TypeVar("T")

_REVOKED = {"CommitFailedError", "IllegalStateError"}
_CONNECTING = {"KafkaConnectionError", "NodeNotReadyError"}


async def bounded(what: str, call: Callable[[], Awaitable[T]], timeout_seconds: float) -> T:
    """Wait at most so long; raises TransportUnavailable, TransportRefused, Revoked or PositionLost, with the reason."""
    with overheard() as reasons:
        try:
            with anyio.fail_after(timeout_seconds):
                return await call()
        except TimeoutError as error:
            raise failure(what, [*reasons, f"no answer within {timeout_seconds:g} s"]) from error
        except asyncio.CancelledError as error:
            if not _unasked():
                raise
            raise failure(what, [*reasons, "the client library cancelled it"]) from error
        except Exception as error:  # whatever else the library raises, callers can only treat it as ours
            raise translated(what, error, reasons) from error


def _unasked() -> bool:
    """Return whether nobody has asked for the cancellation just caught: the library let one of its own out.

    It would end the whole application, without a word.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


def translated(what: str, error: Exception, reasons: Sequence[str] = ()) -> TransportError:
    """Return our error for one of the library's."""
    if isinstance(error, TransportError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    known: TransportError | None = None
    if "OffsetOutOfRangeError" in names:
        known = PositionLost(f"{what}: the position no longer exists on the broker: {error}")
    elif names & _REVOKED:
        known = Revoked(f"{what}: {error}")
    elif "UnknownTopicOrPartitionError" in names:
        known = TransportRefused(f"{what}: the topic does not exist; call ensure_topics first")
    elif "KafkaError" not in names:
        known = TransportUnavailable(f"{what}: unexpected {type(error).__name__}: {error}")
    heard = reasons if names & _CONNECTING else [f"{type(error).__name__}: {error}"]
    return known or failure(what, heard, error)


async def closed(call: Callable[[], Awaitable[object]], timeout_seconds: float) -> bool:
    """Close something even while being cancelled, within the time; returns whether it ended by itself."""
    with anyio.move_on_after(timeout_seconds, shield=True):
        # What is broken anyway is closed as well as it goes: nothing is left to do with an error.
        try:
            with suppress(Exception):
                await call()
        except asyncio.CancelledError:
            if not _unasked():
                raise
        return True
    return False
