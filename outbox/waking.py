"""Wake a task of an event loop from any thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any


def waker(wake: Callable[[], None]) -> Callable[[], None]:
    """Return what calls `wake` in the loop that runs here, soon, from whichever thread; it does not block.

    Once the loop has ended it does nothing.
    """
    here = threading.get_ident()
    soon = _soon()

    def call() -> None:
        if threading.get_ident() == here:
            wake()
            return
        try:
            soon(wake)
        except RuntimeError:  # the loop has ended
            return

    return call


def _soon() -> Callable[[Callable[[], None]], object]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio: Any = sys.modules["trio"]  # whose loop it must be then
        return trio.lowlevel.current_trio_token().run_sync_soon  # type: ignore[no-any-return]
