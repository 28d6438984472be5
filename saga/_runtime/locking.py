"""Lend a step the entities that its saga can hold, and keep as a row what has to wait for one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

from saga._core import locks
from saga._core.bodies import Outcome
from saga._core.locks import EntityLock, LockRequest, Otherwise
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga._runtime.items import StepItem
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.errors import LockHeld, StoreError
from saga.ports import UnitOfWork


class LockWaits(Exception):
    """Leave a step because its saga waits for an entity; `changes` counts what the step has written by then."""

    def __init__(self, request: LockRequest, verdict: locks.Waits, changes: int) -> None:
        self.request = request
        self.verdict = verdict
        self.changes = changes
        super().__init__(f"waits for {request.kind} {request.entity}, held by saga {verdict.by}"[:500])


class Locking:
    """Be the door of one step's turn to the entities of its service."""

    def __init__(
        self,
        unit: UnitOfWork,
        *,
        saga_id: str,
        step: str,
        message_id: str,
        expires_at: datetime,
        poll_seconds: Callable[[], float],
        before: int | None = None,
    ) -> None:
        """Take entities in `unit` for a saga until it expires; `poll_seconds` draws when to look again unasked.

        `before` is how much had been written when the step began, None when it begins now.
        """
        self._unit = unit
        self._saga_id = saga_id
        self._step = step
        self._message_id = message_id
        self._expires_at = expires_at
        self._poll_seconds = poll_seconds
        self._before = unit.writes if before is None else before
        self._taken = 0
        self._waits: LockWaits | None = None
        self._met: StoreError | None = None

    @property
    def changes(self) -> int:
        """Return how much the step has written so far, entities taken among it."""
        return self._unit.writes - self._before + self._taken

    async def take(self, lock: EntityLock, entity: str, otherwise: Otherwise, timeout: timedelta | None) -> None:
        """Take an entity, or note that the step waits for it; see `Run.lock`."""
        locks.check_request(lock, entity, self._step.partition(".")[0], timeout)
        request = LockRequest(
            kind=lock.kind,
            entity=entity,
            saga_id=self._saga_id,
            step=self._step,
            message_id=self._message_id,
            otherwise=otherwise,
            timeout=timeout,
            expires_at=self._expires_at,
        )
        try:
            by = await self._by(request)
        except StoreError as error:
            self._met = error
            raise
        if by:
            msg = f"{self._step} of {self._saga_id}: {lock} {entity} is held by saga {by}"
            raise LockHeld(msg, entity=entity, held_by=by)

    async def _by(self, request: LockRequest) -> str:
        """Return the saga that keeps this one from the entity, "" when it has it now."""
        view = await self._unit.see_lock(request)
        verdict = locks.decide_lock(view, request, self._poll_seconds())
        match verdict:
            case locks.Mine():
                return ""
            case locks.Granted():
                await self._unit.take_lock(request)
                self._taken += 1
                return ""
            case locks.Waits(by=by):
                self._waits = self._waits or LockWaits(request, verdict, self.changes)
                return by
            case locks.Held(by=by):
                return by
            case _:
                assert_never(verdict)

    def check(self, trouble: HandlerTrouble | None = None) -> None:
        """Raise LockWaits if the step waits, whatever its handler has made of it; never for the database's trouble."""
        if trouble is not None and trouble.met is None:
            trouble.met = self._met
        if self._waits is not None and self._met is None:
            raise LockWaits(self._waits.request, self._waits.verdict, self.changes)


def locking_of(context: ServiceContext, unit: UnitOfWork, item: StepItem, expires_at: datetime, before: int) -> Locking:
    """Return the door for an item's turn; `before` is how much had been written when it began."""
    return Locking(
        unit,
        saga_id=item.envelope.saga_id,
        step=item.step.name,
        message_id=item.envelope.id,
        expires_at=expires_at,
        poll_seconds=lambda: poll_seconds(context),
        before=before,
    )


def poll_seconds(context: ServiceContext) -> float:
    """Draw when to look at an entity again that nobody has told to be free."""
    return context.tuning.lock_poll_seconds * (0.75 + context.rng.random() / 2)


async def wait_in_row(
    context: ServiceContext, unit: UnitOfWork, writing: Writing, item: StepItem, waits: LockWaits
) -> None:
    """Keep an item as a row that becomes due when the entity it has seen held is free; no attempt is counted."""
    await unit.wait_for_lock(waits.request)
    _set_aside(context, writing, item, waits, waits.verdict.again_seconds)


async def look_again(
    context: ServiceContext, unit: UnitOfWork, writing: Writing, item: StepItem, waits: LockWaits
) -> None:
    """Keep an item that was rolled back as a row; it is due at once if it need not wait any more.

    The entity may have become free since, and then nobody would wake who was not there yet.
    """
    view = await unit.see_lock(waits.request)
    verdict = locks.decide_lock(view, waits.request, poll_seconds(context))
    if isinstance(verdict, locks.Waits):
        await wait_in_row(context, unit, writing, item, LockWaits(waits.request, verdict, 0))
    else:
        _set_aside(context, writing, item, waits, 0.0)


def _set_aside(
    context: ServiceContext, writing: Writing, item: StepItem, waits: LockWaits, delay_seconds: float
) -> None:
    context.count("locked")
    tried = item.row.attempt if item.row is not None else 0
    writing.set_aside(context, item, Reason.LOCKED, attempt=tried, error=str(waits), delay_seconds=delay_seconds)


async def let_go(context: ServiceContext, unit: UnitOfWork, writing: Writing, saga_id: str, outcome: Outcome) -> None:
    """Free what a saga holds at this service, if it has ended for good."""
    if context.definition.locks and locks.frees(outcome):
        writing.freed += await unit.release_locks(saga_id)
