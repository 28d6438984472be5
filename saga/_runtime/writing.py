"""Gather what one transaction writes, and act on it once it has committed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from saga._core.children import parent_of
from saga._core.frozen import builder, replace
from saga._core.rows import (
    Changes,
    DeliveryKey,
    DeliveryRow,
    InboxKey,
    InboxRow,
    OutboxRow,
    RunId,
    RunRow,
    Snapshot,
    numbered,
)
from saga._core.words import Ending, Reason
from saga._runtime.clock import Timer
from saga._runtime.context import ServiceContext
from saga._runtime.items import AsideItem, EndItem, StepItem
from saga._runtime.pending import PendingWork
from saga._runtime.tracing import Held

RunKind = tuple[str, int, str]
"""saga, version, step."""

_changes = builder(Changes)
_TIMED = (Reason.RETRY, Reason.DELAYED, Reason.LOCKED)


class Writing:
    """Be everything one batch transaction is going to write; `now` is its database clock.

    `timer` has the scope around all handlers of the batch, one after another. `untraced` is the ambient context, where
    no handler has a span to be recorded.
    `intents` are the inserted runs whose outside call this process makes as soon as they are committed. `freed` counts
    the entities that sagas let go of. `sets` are deliveries for steps that take a batch: they run after the others.
    """

    def __init__(
        self, *, now: datetime, held: Held | None = None, timer: Timer | None = None, untraced: str | None = None
    ) -> None:
        """Begin with nothing."""
        self.now = now
        self.held = Held() if held is None else held
        self.timer = Timer() if timer is None else timer
        self.untraced = untraced
        self.inserts: dict[RunId, RunRow] = {}
        self.updates: dict[RunId, RunRow] = {}
        self.outbox: list[OutboxRow] = []
        self.deliveries: list[DeliveryRow] = []
        self.used_rows: list[DeliveryRow] = []
        self.intents: list[RunRow] = []
        self.inbox: dict[InboxKey, InboxRow] = {}
        self.ended: dict[RunId, Ending] = {}
        self.sets: dict[RunKind, list[StepItem]] = {}
        self.freed = 0

    def run(self, run_id: RunId, seen: Snapshot) -> RunRow | None:
        """Return a run as this transaction will leave it."""
        return self.inserts.get(run_id) or self.updates.get(run_id) or seen.runs.get(run_id)

    def put(self, run: RunRow) -> None:
        """Insert a run, or update the one that was read; the next one of the same key takes its place."""
        rows = self.updates if run.revision else self.inserts
        rows[run.saga_id, run.step, run.branch] = run

    def changes(self) -> Changes:
        """Return it as one value, runs in the order of their key so that two batches cannot deadlock."""
        waiting = self._waiting() if self.deliveries else []
        kept = {row.id for row in waiting}
        return _changes(
            insert_runs=tuple(self.inserts[key] for key in sorted(self.inserts)),
            update_runs=tuple(self.updates[key] for key in sorted(self.updates)),
            outbox=tuple(self.outbox),
            insert_deliveries=tuple(row for row in waiting if not row.id),
            update_deliveries=tuple(row for row in waiting if row.id),
            delete_deliveries=tuple(row.id for row in self.used_rows if row.id not in kept),
            inbox=tuple(self.inbox[key] for key in sorted(self.inbox)) if self.inbox else (),
        )

    def _waiting(self) -> list[DeliveryRow]:
        """Return the rows to store, one for each key; under the key of a used row it is that row, with its ID."""
        used = {row.key: row.id for row in self.used_rows}
        keyed: dict[DeliveryKey, DeliveryRow] = {}
        for row in self.deliveries:
            if row.key is not None:
                known = keyed.get(row.key, row)
                keyed[row.key] = replace(row, id=used.get(row.key, 0), attempt=max(row.attempt, known.attempt))
        return [row for row in self.deliveries if row.key is None] + list(keyed.values())

    def set_aside(
        self,
        context: ServiceContext,
        item: StepItem | EndItem,
        reason: Reason,
        *,
        attempt: int,
        error: str,
        delay_seconds: float = 0.0,
        first_at: datetime | None = None,
    ) -> None:
        """Keep the item's delivery as a row: that of its step, or of the whole outcome."""
        aside = AsideItem(
            delivery=item.delivery,
            row=item.row,
            reason=reason,
            saga_id=item.envelope.saga_id,
            steps=(item.step.name if isinstance(item, StepItem) else "",),
            message_id=item.envelope.id,
            attempt=attempt,
            first_at=first_at if item.row is None else item.row.first_at or first_at,
            error=error,
            delay_seconds=delay_seconds,
        )
        self.put_aside(context, aside)

    def put_aside(self, context: ServiceContext, item: AsideItem) -> None:
        """Keep a delivery as the rows that the item says, timed by the database."""
        reason, error = item.reason, item.error
        if reason is None:
            return
        if item.expires_at is not None and self.now >= item.expires_at:
            context.count("dead")
            reason, error = Reason.DEAD, f"expired while {reason}: {error}"
        for step in item.steps:
            row = DeliveryRow(
                service=context.service,
                saga_id=item.saga_id,
                due_at=self.now + timedelta(seconds=item.delay_seconds),
                reason=reason,
                attempt=item.attempt,
                first_at=item.first_at,
                error=error[:500],
                step=step,
                message_id=item.message_id,
                raw=item.delivery,
                id=_same_letter(item, reason, step),
            )
            self.deliveries.append(row)


def _same_letter(item: AsideItem, reason: Reason, step: str) -> int:
    """Return the ID of the item's own row if that becomes a dead letter as it is, 0 if a row has to be written."""
    row = item.row
    if row is None or reason is not Reason.DEAD:
        return 0
    return row.id if (row.saga_id, row.step, row.message_id) == (item.saga_id, step, item.message_id) else 0


def after_commit(context: ServiceContext, pending: PendingWork, writing: Writing, seqs: Sequence[int]) -> None:
    """Hand rows to the relay, start outside calls and wake who waits; only after COMMIT has returned."""
    if writing.outbox:
        context.hand_over(numbered(writing.outbox, seqs))
    for run in writing.intents:
        pending.take_on(replace(run, revision=run.revision + 1))
    if any(run.pending_at is not None and not run.owner for run in writing.updates.values()):
        context.pending_alarm.ring()
    for run_id, ending in writing.ended.items():
        row = writing.updates[run_id]
        # What a person gets moving ends again, and so does a child that is called back.
        context.endings.tell(row, final=ending is not Ending.STUCK and parent_of(row) is None)
    # Not for what is parked: whoever could not handle it must not be the first to look at it again.
    due = [row.due_at for row in writing.deliveries if row.reason in _TIMED]
    if writing.freed:
        context.waiting_alarm.ring()
    if due:
        context.waiting_alarm.ring(max(0.0, (min(due) - writing.now).total_seconds()))
