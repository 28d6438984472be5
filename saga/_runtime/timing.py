"""Measure what handlers take; only while somebody keeps metrics is anything in between."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Protocol

from saga._core.definition import Binding, Bindings, Handler
from saga._core.run import Run
from saga._runtime.clock import Timer
from saga._runtime.handlers import call_within

MOST_TIMES = 1_000
"""How many are remembered between two batches that were committed."""


class CallWithin(Protocol):
    """Call a handler, as `handlers.call_within` does."""

    async def __call__(
        self,
        timer: Timer,
        handler: Handler,
        bindings: Bindings,
        values: Mapping[Binding | int, Any],
        run: Run,
        timeout_seconds: float,
    ) -> Any:
        """Return what the handler returns; raises HandlerTrouble."""
        ...


class Stopwatch:
    """Call handlers of a service and remember what they take, until it is told with the next batch."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._took: list[tuple[str, float]] = []

    async def call_within(
        self,
        timer: Timer,
        handler: Handler,
        bindings: Bindings,
        values: Mapping[Binding | int, Any],
        run: Run,
        timeout_seconds: float,
    ) -> Any:
        """Call a handler as `handlers.call_within` does."""
        began = perf_counter()
        try:
            return await call_within(timer, handler, bindings, values, run, timeout_seconds)
        finally:
            self.took(run.step, perf_counter() - began)

    def took(self, step: str, seconds: float) -> None:
        """Remember a call."""
        if len(self._took) < MOST_TIMES:
            self._took.append((step, seconds))

    def take(self) -> list[tuple[str, float]]:
        """Return what each call since the last time took, by step, in seconds."""
        took, self._took = self._took, []
        return took
