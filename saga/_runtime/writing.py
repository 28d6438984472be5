"""Gather what one transaction writes, and act on it once it has committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from saga._core.rows import Changes, DeliveryRow, OutboxRow, RunId, RunRow
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga._runtime.items import EndItem, StepItem
from saga._runtime.pending import PendingWork


@dataclass(slots=True, kw_only=True)
class Writing:
    """Be everything one batch transaction is going to write; `now` is its database clock.

    `intents` are the inserted runs whose outside call this process makes as soon as they are committed.
    """

    now: datetime
    inserts: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    updates: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    deliveries: list[DeliveryRow] = field(default_factory=list[DeliveryRow])
    used_rows: list[int] = field(default_factory=list[int])
    intents: list[RunRow] = field(default_factory=list[RunRow])
    ended: list[str] = field(default_factory=list[str])

    def changes(self) -> Changes:
        """Return it as one value, runs in the order of their key so that two batches cannot deadlock."""
        return Changes(
            insert_runs=tuple(self.inserts[key] for key in sorted(self.inserts)),
            update_runs=tuple(self.updates[key] for key in sorted(self.updates)),
            outbox=tuple(self.outbox),
            insert_deliveries=tuple(self.deliveries),
            delete_deliveries=tuple(dict.fromkeys(self.used_rows)),
        )

    def set_aside(
        self,
        context: ServiceContext,
        item: StepItem | EndItem,
        reason: Reason,
        *,
        due_at: datetime,
        attempt: int,
        error: str,
    ) -> None:
        """Keep the item's delivery as a row."""
        row = DeliveryRow(
            service=context.service,
            saga_id=item.envelope.saga_id,
            due_at=due_at,
            reason=reason,
            attempt=attempt,
            error=error[:500],
            raw=item.delivery,
        )
        self.deliveries.append(row)


def after_commit(context: ServiceContext, pending: PendingWork, writing: Writing, seqs: Sequence[int]) -> None:
    """Hand rows to the relay, start outside calls and wake who waits; only after COMMIT has returned."""
    if writing.outbox:
        context.hand_over([replace(row, seq=seq) for row, seq in zip(writing.outbox, seqs, strict=True)])
    for run in writing.intents:
        pending.take_on(replace(run, revision=1))
    for saga_id in writing.ended:
        context.endings.tell(saga_id)
    due = [row.due_at for row in writing.deliveries if row.reason in (Reason.RETRY, Reason.PARKED)]
    if due:
        context.waiting_alarm.ring(max(0.0, (min(due) - writing.now).total_seconds()))
