"""Keep a loop running: errors are logged, paused after and tried again; what cannot mend ends the app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from random import Random

import anyio

from saga._runtime.trouble import said_of, unquoted
from saga.errors import (
    PlanError,
    PositionLost,
    SettingsError,
    StoreUnavailable,
    TransportRefused,
    TransportUnavailable,
)

log = logging.getLogger("saga")

FATAL = (PositionLost, TransportRefused, SettingsError, PlanError)
AWAY = (TransportUnavailable, StoreUnavailable)
PAUSE_FIRST_SECONDS = 0.1
PAUSE_CAP_SECONDS = 10.0
HEALTHY_SECONDS = 30.0


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            yield from leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error


def _unasked() -> bool:
    """Return whether nobody has asked for the cancellation just caught: a library let its own out.

    It would end every task of the app, without a word. On trio a cancellation always comes from a scope.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and not task.cancelling()


@contextmanager
def bare() -> Generator[None]:
    """Raise the one error inside an exception group as it is: callers catch what the docs name."""
    try:
        yield
    except BaseExceptionGroup as group:
        inside = list(leaves(group))
        if len(inside) == 1 and isinstance(inside[0], Exception):
            raise inside[0] from None
        raise


async def supervised(name: str, body: Callable[[], Awaitable[None]], rng: Random) -> None:
    """Run `body` until it returns; restart it after any error that retrying can mend.

    Pauses between restarts grow from 0.1 s to 10 s with jitter and start over after 30 healthy seconds.
    Raises what cannot be mended by retrying: a lost position, a refused credential, a wrong setting or plan.
    """
    failures = 0
    while True:
        began = anyio.current_time()
        try:
            await body()
        except (Exception, anyio.get_cancelled_exc_class()) as error:  # the top of a supervised loop
            if not isinstance(error, Exception) and not _unasked():
                raise
            if any(isinstance(leaf, FATAL) for leaf in leaves(error)):
                log.critical("%s cannot go on: %s", name, error)
                raise
            if anyio.current_time() - began > HEALTHY_SECONDS:
                failures = 0
            failures += 1
            cap = min(PAUSE_CAP_SECONDS, PAUSE_FIRST_SECONDS * 2.0 ** min(failures, 10))
            pause = cap * (0.5 + rng.random() / 2)
            reasons = "; ".join(said_of(leaf) for leaf in leaves(error))
            # Where an unforeseen error was raised is said once; whoever is away says it in the sentence.
            shows = failures == 1 and not all(isinstance(leaf, AWAY) for leaf in leaves(error))
            log.warning(
                "%s failed and starts again in %.1f s: %s",
                name,
                pause,
                reasons,
                exc_info=unquoted(error) if shows else None,
            )
            await anyio.sleep(pause)
        else:
            return
