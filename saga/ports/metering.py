"""Declare what the runtime asks of whoever keeps its metrics, and of a database that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from saga._core.measuring import Reading, StoreReading
from saga._core.metrics import Labels, Metric


class Meter(Protocol):
    """Keep metrics; from any thread, and without blocking."""

    @property
    def is_on(self) -> bool:
        """Return whether anybody keeps them now; asked once for each batch, and nothing is measured while not."""
        ...

    def add(self, metric: Metric, labels: Labels, count: int) -> None:
        """Add to a counter."""
        ...

    def record(self, metric: Metric, labels: Labels, values: Sequence[float]) -> None:
        """Add values to a histogram."""
        ...

    def hold(self, owner: object, readings: Sequence[Reading]) -> None:
        """Let gauges read this from now on, in the place of what this owner has read before; nothing to take it back.

        Of several owners' values for the same labels the greatest counts.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """Be a store that can say what there is in it."""

    async def measure(self) -> StoreReading:
        """Count in one query; raises StoreUnavailable."""
        ...
