"""Declare how the end of somebody else's transaction is watched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from saga._core.rows import OutboxRow


class Watch(Protocol):
    """Watch one open transaction without asking the database; from any thread."""

    @property
    def doubt_seconds(self) -> float:
        """Return after how long it is worth asking the database all the same."""
        ...

    def is_over(self) -> bool:
        """Return whether the transaction has ended, whichever way; cheap, does not block."""
        ...

    def drop(self) -> None:
        """Stop watching; called once."""
        ...


class _Unwatched:
    doubt_seconds = 0.0

    def is_over(self) -> bool:
        return True

    def drop(self) -> None:
        pass


def unwatched() -> Watch:
    """Return the watch of a transaction that has ended before anybody hears of its rows."""
    return _Unwatched()


@dataclass(frozen=True, slots=True)
class OpenRows:
    """Be rows written in a transaction that is still open; calling `watch` begins to watch for its end."""

    rows: Sequence[OutboxRow]
    watch: Callable[[], Watch]
