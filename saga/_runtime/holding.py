"""Hold what has been folded and need not be stored at once: a saga in full swing is stored a few times a second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf

from saga._core.frozen import replace
from saga._core.instance import ENDED
from saga._core.rows import DeliveryRow, InstanceRow
from saga._runtime.folding import Folded, Told
from saga._runtime.reading import Work

HOLD_SECONDS = 0.25
"""How long something is held at most; a person sees a saga as old as that."""
FULL = 500
"""How many records are enough for a write."""
SOON = timedelta(seconds=1)


class Held:
    """Keep, between two writes, the records that have been read and what was folded out of them.

    The stored positions stay behind all of it: whoever reads on from there after a crash folds the same records
    again. Nothing that is to be sent waits here.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.positions: dict[int, int] = {}
        self.dead: list[DeliveryRow] = []
        self._reports: dict[str, list[Told]] = {}
        self._folded: dict[str, Folded] = {}
        self._records = 0
        self.until_seconds = inf
        self.is_folded = True

    def add(self, work: Work, positions: Mapping[int, int], at_seconds: float) -> None:
        """Take in a batch, read at the loop's time `at_seconds`, before it is folded."""
        if self.until_seconds == inf:
            self.until_seconds = at_seconds + HOLD_SECONDS
        reports = self._reports
        for saga_id, told in work.reports.items():
            if saga_id in reports:
                reports[saga_id] += told
            else:
                reports[saga_id] = list(told)
            self._records += len(told)
        self.dead.extend(work.dead)
        self.positions.update(positions)
        self.is_folded = False

    def take(self, folded: Iterable[Folded]) -> None:
        """Take in what a batch was folded to; it stands for everything held of these sagas."""
        self.is_folded = True
        for each in folded:
            saga_id = each.instance.saga_id
            earlier = self._folded.get(saga_id)
            if earlier is not None and earlier.was != each.was:
                self._folded[saga_id] = replace(each, was=earlier.was)
            else:
                self._folded[saga_id] = each

    def is_due(self, at_seconds: float) -> bool:
        """Return whether all of it is to be written now."""
        return at_seconds >= self.until_seconds or self._records >= FULL or bool(self.dead)

    def rest(self, pressing: Collection[str]) -> int:
        """Return how many sagas are held beside these."""
        return len(self._reports) - len(pressing)

    def folded(self, only: Collection[str] = ()) -> list[Folded]:
        """Return what was folded, of all sagas or of some."""
        return [self._folded[saga_id] for saga_id in only] if only else list(self._folded.values())

    def work(self, due: Sequence[InstanceRow] = ()) -> Work:
        """Return everything held as work, to fold it again by what is stored, with rows that are due."""
        return Work(reports=self._reports, due=due, dead=self.dead)

    def written(self, only: Collection[str] = ()) -> None:
        """Forget what has been stored: some sagas, or all that is held."""
        if only:
            for saga_id in only:
                del self._reports[saga_id], self._folded[saga_id]
        else:
            self.clear()

    def clear(self) -> None:
        """Forget everything; it is read again from the stored positions."""
        self.positions.clear()
        self.dead = []
        self._reports = {}
        self._folded = {}
        self._records = 0
        self.until_seconds = inf
        self.is_folded = True


def is_pressing(folded: Folded, now: datetime) -> bool:
    """Return whether something follows from a saga that may not wait: a message, its end, a deadline that is near."""
    due_at = folded.bare.due_at
    return bool(folded.outbox) or folded.instance.phase in ENDED or (due_at is not None and due_at <= now + SOON)
