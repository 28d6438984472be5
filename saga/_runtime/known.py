"""Remember the open sagas that were stored last, so that they need not be read and decoded for each record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saga._core.frozen import replace
from saga._core.instance import ENDED, Instance
from saga._core.rows import InstanceRow

KEPT = 4096
"""How many sagas are remembered; each takes about three kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Hold a row as it is stored, and the instance in it; the row's own `state` may be left out."""

    row: InstanceRow
    instance: Instance


class Known:
    """Keep what this coordinator has stored, the oldest going first.

    Others may have changed it since: a write tells, by its revision, and whoever would write nothing has to look.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """Start knowing nothing."""
        self._kept = kept
        self._stored: dict[str, Stored] = {}
        self._held: set[str] = set()

    def get(self, saga_id: str) -> Stored | None:
        """Return what was stored of a saga, None where that is not known here."""
        return self._stored.get(saga_id)

    def take(self, written: Iterable[tuple[InstanceRow, Instance]]) -> None:
        """Remember what has just been written at the revisions of its rows; sagas that have ended are forgotten."""
        for row, instance in written:
            self._stored.pop(row.saga_id, None)
            self._held.discard(row.saga_id)
            if instance.phase not in ENDED:
                stored = replace(row, state=b"", revision=row.revision + 1)
                self._stored[row.saga_id] = Stored(row=stored, instance=instance)
        while len(self._stored) - len(self._held) > self._kept:
            del self._stored[next(saga_id for saga_id in self._stored if saga_id not in self._held)]

    def hold(self, folded: Iterable[tuple[InstanceRow, Instance]]) -> None:
        """Go by what has been folded and not written yet, at the revisions that are stored."""
        for row, instance in folded:
            self._stored.pop(row.saga_id, None)
            self._stored[row.saga_id] = Stored(row=row, instance=instance)
            self._held.add(row.saga_id)

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
