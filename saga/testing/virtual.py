"""Let time pass only when nothing else can happen: an hour of waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

import anyio

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When virtual time begins."""
PATIENCE_SECONDS: Final = 5.0
"""How long, in real time, a worker thread is waited for before time goes on without it."""
SOCKET_SECONDS: Final = 0.02
"""How long, in real time, open sockets are waited for before every jump."""

Returned = TypeVar("Returned")
Args = TypeVarTuple("Args")


class VirtualClock:
    """Tell the event loop's time as wall-clock time, beginning at `EPOCH`; see `saga.ports.Clock`."""

    def __init__(self) -> None:
        self._began = anyio.current_time()

    def now(self) -> datetime:
        """Return the loop's time."""
        return EPOCH + timedelta(seconds=anyio.current_time() - self._began)


class _Loop(Protocol):
    """Be what the selector asks of its loop."""

    def jump(self, seconds: float) -> None: ...

    def is_thread_busy(self) -> bool: ...


class _JumpingSelector(selectors.DefaultSelector):
    """Report what is ready; when nothing is, let the loop's clock jump instead of waiting."""

    loop: _Loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, at once if the loop only waits for time to pass."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(None)
        if self.loop.is_thread_busy():
            ready = super().select(PATIENCE_SECONDS)
        elif len(self.get_map()) > 1:  # more than the loop's own wake-up pipe
            ready = super().select(SOCKET_SECONDS)
        if not ready:
            self.loop.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Be an asyncio event loop whose clock jumps to the next timer whenever no task can run.

    Timers fire in the order they would in real time. The clock stands still while a worker thread of this
    loop (`run_in_executor`, `asyncio.to_thread`, `anyio.to_thread`) is busy, for at most `PATIENCE_SECONDS`
    of real time, so that a commit or a library's thread is not overtaken. Sockets get `SOCKET_SECONDS`.
    """

    def __init__(self) -> None:
        selector = _JumpingSelector()
        self._virtual = 0.0
        self._in_executor = 0
        super().__init__(selector)
        # The monotonic clock's nanosecond is less than a float can tell apart after a virtual year.
        self._clock_resolution = 1e-6
        selector.loop = self

    def time(self) -> float:
        """Return the virtual time in seconds, from 0."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let time pass; does not block."""
        self._virtual += seconds

    def is_thread_busy(self) -> bool:
        """Return whether a worker thread of this loop has something in hand."""
        return self._in_executor > 0 or any(_has_work(thread, self) for thread in threading.enumerate())

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], Returned], *args: *Args
    ) -> asyncio.Future[Returned]:
        """Call `func` in a thread, with the clock standing still."""
        future = super().run_in_executor(executor, func, *args)
        self._in_executor += 1
        future.add_done_callback(self._executed)
        return future

    def _executed(self, future: asyncio.Future[Any]) -> None:
        del future
        self._in_executor -= 1


def _has_work(thread: threading.Thread, loop: object) -> bool:
    """Return whether a worker thread of anyio's is busy: one of this loop that is not in its list of idle ones."""
    idle: Any = getattr(thread, "idle_workers", None)
    return idle is not None and getattr(thread, "loop", None) is loop and thread not in idle


ASYNCIO: Final = ("asyncio", {"loop_factory": VirtualLoop})
"""asyncio in virtual time, as pytest's `anyio_backend` fixture returns it."""


def trio_backend() -> tuple[str, dict[str, Any]]:
    """Return trio in virtual time, as pytest's `anyio_backend` fixture returns it; needs trio.

    Unlike `ASYNCIO` it does not wait for worker threads.
    """
    from trio.testing import MockClock  # noqa: PLC0415 - trio is optional

    return "trio", {"clock": MockClock(autojump_threshold=0)}


def run(function: Callable[[*Args], Awaitable[Returned]], *args: *Args) -> Returned:
    """Run an async function on asyncio in virtual time, as `asyncio.run` does in real time, and return its result."""
    name, options = ASYNCIO
    return anyio.run(function, *args, backend=name, backend_options=options)
