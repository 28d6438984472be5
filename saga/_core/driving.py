"""Run asynchronous code that never waits, from code that is not asynchronous."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_driving: ContextVar[object] = ContextVar("saga_driving", default=None)


def driven(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return what `coroutine` returns, in this thread and without an event loop; raises what it raises.

    Everything it awaits must be done at once, as over a driver that blocks. One that waits after all is closed and
    reported as a RuntimeError: that is a mistake of ours and not the caller's.
    """
    token = _driving.set(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        _driving.reset(token)
    coroutine.close()
    msg = f"{coroutine!r} waits, and nobody is there to wake it"
    raise RuntimeError(msg)


def is_driven() -> bool:
    """Return whether the running code is inside of `driven` and must not wait for anything."""
    return _driving.get() is not None
