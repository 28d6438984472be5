"""Let callers wait for the end of their sagas in this process."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from saga._core.rows import RunRow

REMEMBERED = 10_000
REMEMBERED_BYTES = 4096
"""A larger row is not remembered: ten thousand of a megabyte would be the end of the process."""
PATIENCE_FIRST_SECONDS = 0.1
PATIENCE_CAP_SECONDS = 5.0
BETWEEN_SECONDS = 1.0
"""How long an end may be in the database before it is told here: the commit and the telling are not one."""


@dataclass(slots=True, eq=False)
class Waiting:
    """Be what everybody who waits for one saga waits for: `told`, and then the start row with its outcome."""

    told: anyio.Event = field(default_factory=anyio.Event)
    row: RunRow | None = None
    waiters: int = 0


class Endings:
    """Wake whoever waits for a saga, with the row that says how it ended.

    Of what this process has started it remembers the last ten thousand, so that nobody has to ask the database for
    what has just been written here; of the rest it keeps nothing that nobody waits for.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """Start with nobody waiting."""
        self._waiting: dict[str, Waiting] = {}
        self._here: dict[str, RunRow | None] = {}
        self._remembered = remembered
        self._patience_seconds = PATIENCE_FIRST_SECONDS
        self._found: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many sagas are waited for."""
        return len(self._waiting)

    @property
    def patience_seconds(self) -> float:
        """Return how long to wait to be told before the database is asked.

        An outcome reaches one replica of the service. The more are told here in a row, the longer the wait; the first
        that was not makes it a tenth of a second again.
        """
        return self._patience_seconds

    def found(self, saga_id: str, at_seconds: float) -> None:
        """Take note that the end of a saga was seen in the database, at the loop's time, before it was told here.

        Where it is not told a moment later either, others are the ones that are told, and waiting for it is in vain.
        """
        self._found.setdefault(saga_id, at_seconds)
        while self._is_in_vain(at_seconds):
            first = next(iter(self._found))
            del self._found[first]
            self._here.pop(first, None)
            self._patience_seconds = PATIENCE_FIRST_SECONDS

    def _is_in_vain(self, at_seconds: float) -> bool:
        first = next(iter(self._found.values()), at_seconds)
        return at_seconds - first >= BETWEEN_SECONDS or len(self._found) > self._remembered

    def began(self, saga_id: str) -> None:
        """Remember that a saga has just been started here, and so has not ended yet."""
        self._here[saga_id] = None
        if len(self._here) > self._remembered:
            del self._here[next(iter(self._here))]

    def is_open(self, saga_id: str) -> bool:
        """Return whether a saga was started here and nothing has been heard of its end: no proof that there is none."""
        return saga_id in self._here and self._here[saga_id] is None

    def wait_for(self, saga_id: str) -> Waiting:
        """Return what `tell` sets until `leave` is called; it is told at once of an end that is remembered."""
        waiting = self._waiting.get(saga_id)
        if waiting is None:
            waiting = self._waiting[saga_id] = Waiting()
        waiting.waiters += 1
        if (row := self._here.get(saga_id)) is not None:
            waiting.row = row
            waiting.told.set()
        return waiting

    def leave(self, saga_id: str) -> None:
        """Wait no longer, for each `wait_for` once."""
        waiting = self._waiting[saga_id]
        waiting.waiters -= 1
        if not waiting.waiters:
            del self._waiting[saga_id]

    def tell(self, row: RunRow, *, final: bool) -> None:
        """Wake everybody who waits for the saga of a start row that has its outcome; does not block.

        An ending that is not `final` may be followed by another one and is not remembered, nor is a large row.
        """
        self._found.pop(row.saga_id, None)
        if row.saga_id in self._here:
            if final and len(row.result or b"") <= REMEMBERED_BYTES:
                self._here[row.saga_id] = row
            else:
                del self._here[row.saga_id]
        waiting = self._waiting.get(row.saga_id)
        if waiting is not None:
            self._patience_seconds = min(PATIENCE_CAP_SECONDS, self._patience_seconds * 1.1)
            waiting.row = row
            waiting.told.set()
