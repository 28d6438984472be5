"""Lend a step what few steps ask for: the entities its saga can hold, and the way to the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from saga._core.events import Event
from saga._core.locks import EntityLock, Otherwise
from saga._core.rows import OutboxRow, RunRow
from saga._runtime.context import ServiceContext
from saga._runtime.items import StepItem
from saga._runtime.locking import Locking, locking_of
from saga._runtime.publishing import Publishing, publishing_of
from saga._runtime.trouble import HandlerTrouble
from saga.ports import UnitOfWork


class Lent:
    """Be both doors of one step's turn; what is behind them is made when it is asked for."""

    __slots__ = ("_before", "_context", "_item", "_locking", "_now", "_publishing", "_row", "_unit")

    def __init__(self, context: ServiceContext, unit: UnitOfWork, item: StepItem, row: RunRow, now: datetime) -> None:
        """Lend them for the run that begins as `row`, before its handler has written anything."""
        self._context = context
        self._unit = unit
        self._item = item
        self._row = row
        self._now = now
        self._before = unit.writes
        self._locking: Locking | None = None
        self._publishing: Publishing | None = None

    async def take(self, lock: EntityLock, entity: str, otherwise: Otherwise, timeout: timedelta | None) -> None:
        """Take an entity; see `Locking.take`."""
        if self._locking is None:
            self._locking = locking_of(self._context, self._unit, self._item, self._row.expires_at, self._before)
        await self._locking.take(lock, entity, otherwise, timeout)

    def add(self, event: Event, key: str | None, topic: str | None) -> str:
        """Take a plain event and return its ID; see `Run.publish`."""
        if self._publishing is None:
            cause = self._item.envelope.id
            self._publishing = publishing_of(self._context, self._row, "step", now=self._now, causation_id=cause)
        return self._publishing.add(event, key, topic)

    @property
    def rows(self) -> Sequence[OutboxRow]:
        """Return what the handler has published."""
        return self._publishing.rows if self._publishing is not None else ()

    @property
    def changes(self) -> int:
        """Return how much the step has written so far, entities taken among it."""
        return self._locking.changes if self._locking is not None else self._unit.writes - self._before

    def check(self, trouble: HandlerTrouble | None = None) -> None:
        """Raise LockWaits if the step waits; see `Locking.check`."""
        if self._locking is not None:
            self._locking.check(trouble)
