"""Give a process that does nothing else the event loop and the collector that suit it."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec

import anyio

from saga._runtime.supervise import bare

log = logging.getLogger("saga")

GC_THRESHOLDS = (50_000, 20, 20)
"""A batch makes thousands of objects and hardly a cycle: to look for one after every 700 costs much of the time."""


def serve(run: Callable[[], Awaitable[None]]) -> None:
    """Run until it returns, on uvloop where that is installed (the extra [fast]); blocks."""
    gc.set_threshold(*GC_THRESHOLDS)
    anyio.run(run, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def until_told(life: AbstractAsyncContextManager[object], began: Callable[[], None] = lambda: None) -> None:
    """Enter a context, call `began`, stay until SIGTERM or SIGINT, and leave.

    For processes with more in them than an app: `life` is a context manager of yours around it. Told while it is still
    being entered, it gives that up at once: whatever is waited for there may never come. Raises what `life` raises.
    """
    told, is_up = anyio.Event(), False

    async def listen(signals: AsyncIterator[signal.Signals], around: anyio.CancelScope) -> None:
        async for number in signals:
            told.set()
            if not is_up:
                log.info("%s came before all was up: ending", number.name)
                around.cancel()
            return

    with bare(), anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, signals, tasks.cancel_scope)
            async with life:
                is_up = True
                began()
                await told.wait()
            tasks.cancel_scope.cancel()
