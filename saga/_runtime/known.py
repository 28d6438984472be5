"""Remember the open sagas that were stored last, so that they need not be read and decoded for each record."""

from __future__ import annotations

from collections.abc import Iterable

from saga._core.frozen import replace
from saga._core.instance import ENDED
from saga._runtime.folding import Folded

KEPT = 4096
"""How many sagas are remembered; each takes about three kilobytes."""


class Known:
    """Keep what this coordinator has stored, the oldest going first.

    Others may have changed it since: a write tells, by its revision, and whoever would write nothing has to look.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """Start knowing nothing."""
        self._kept = kept
        self._stored: dict[str, Folded] = {}
        self._held: set[str] = set()

    def get(self, saga_id: str) -> Folded | None:
        """Return what a saga was folded to, its row as it is stored, None where that is not known here."""
        return self._stored.get(saga_id)

    def take(self, written: Iterable[Folded]) -> None:
        """Remember what has just been written at the revisions of its rows; sagas that have ended are forgotten."""
        for each in written:
            row = each.bare
            self._stored.pop(row.saga_id, None)
            self._held.discard(row.saga_id)
            if each.instance.phase not in ENDED:
                stored = replace(row, state=b"", revision=row.revision + 1)
                self._stored[row.saga_id] = Folded(bare=stored, instance=each.instance, outbox=(), was=row.phase)
        while len(self._stored) - len(self._held) > self._kept:
            del self._stored[next(saga_id for saga_id in self._stored if saga_id not in self._held)]

    def hold(self, folded: Iterable[Folded]) -> None:
        """Go by what has been folded and not written yet, at the revisions that are stored."""
        for each in folded:
            saga_id = each.instance.saga_id
            self._stored.pop(saga_id, None)
            self._stored[saga_id] = each
            self._held.add(saga_id)

    def is_held(self, saga_id: str) -> bool:
        """Return whether more is known of a saga than is stored: nobody else can know it better."""
        return saga_id in self._held

    def clear(self) -> None:
        """Forget everything: somebody else has been at it."""
        self._stored.clear()
        self._held.clear()

    def clear_stored(self) -> None:
        """Forget what is stored and may have been changed by others, and keep what is not."""
        self._stored = {saga_id: self._stored[saga_id] for saga_id in self._held}
