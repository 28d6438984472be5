"""Give a process that does nothing else the event loop and the collector that suit it."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from importlib.util import find_spec

import anyio

GC_THRESHOLDS = (50_000, 20, 20)
"""A batch makes thousands of objects and hardly a cycle: to look for one after every 700 costs much of the time."""


def serve(run: Callable[[], Awaitable[None]]) -> None:
    """Run until it returns, on uvloop where that is installed (the extra [fast]); blocks."""
    gc.set_threshold(*GC_THRESHOLDS)
    anyio.run(run, backend_options={"use_uvloop": find_spec("uvloop") is not None})
