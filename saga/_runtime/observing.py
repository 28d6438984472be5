"""Know up to when everything in a partition has been read: no deadline fires on what is merely unread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from saga._core.rows import Cursor


class Observer:
    """Hold, for each partition, a clock reading and the end offset taken after it.

    Once the position has passed that end, everything written before the reading has been read.
    """

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._looked: dict[int, tuple[datetime, int]] = {}
        self._observed: dict[int, datetime] = {}

    def forget(self, partitions: Iterable[int]) -> None:
        """Forget partitions whose position has been moved."""
        for partition in partitions:
            self._looked.pop(partition, None)
            self._observed.pop(partition, None)

    def look(self, now: datetime, ends: Mapping[int, int], positions: Mapping[int, int]) -> None:
        """Take in the clock and the ends read after it, and what the positions now prove."""
        for partition, end in ends.items():
            position = positions.get(partition)
            if position is None:
                continue
            earlier = self._looked.get(partition)
            if earlier is not None and position >= earlier[1]:
                self._observed[partition] = earlier[0]
            if position >= end:
                self._observed[partition] = now
            if earlier is None or position >= earlier[1]:
                self._looked[partition] = (now, end)

    def news(self, cursors: Mapping[int, Cursor | None]) -> bool:
        """Return whether something has been observed that no stored cursor says yet."""
        return any(
            observed != (cursor.observed_until if (cursor := cursors.get(partition)) is not None else None)
            for partition, observed in self._observed.items()
            if partition in cursors
        )

    def cursors(
        self, stored: Mapping[int, Cursor | None], positions: Mapping[int, int], reading: Mapping[int, int]
    ) -> tuple[tuple[Cursor | None, Cursor], ...]:
        """Return the cursors to swap: moved positions and newer observations, with what was stored before.

        `positions` are the moved ones; `reading` is where each partition is read, for one never stored.
        """
        swaps: list[tuple[Cursor | None, Cursor]] = []
        for partition, before in stored.items():
            observed = self._observed.get(partition, before.observed_until if before else None)
            position = positions.get(partition)
            if position is None and before is not None and observed == before.observed_until:
                continue
            if position is None:
                position = before.position if before else reading.get(partition)
            if position is None:
                continue
            after = Cursor(partition=partition, position=position, observed_until=observed)
            if after != before:
                swaps.append((before, after))
        return tuple(swaps)
