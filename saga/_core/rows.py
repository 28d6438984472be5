"""Hold the rows stores keep, the changes a transaction writes, and what it has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from saga._core.audit import AuditRow
from saga._core.envelope import Delivery
from saga._core.frozen import changer
from saga._core.words import GateState, Mark, Priority, Reason, RunKey, RunStatus, UndoStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """Be one run as its participant keeps it: inbox entry, barrier and undo record in one.

    `revision` is 0 in a row never stored; a stored row is only overwritten at the revision that was
    read. `pending_at` is set exactly while outside work is outstanding: whoever finds it in the past
    may take the run over. `attempt` counts calls of the action, or of the compensation once `undo` is
    not NONE; it is the fencing token of whoever owns the pending work. `input`/`result` are JSON
    payloads; a waiting join keeps what it has gathered in `input`. `fan_out` counts the elements of a result
    that is a list. `generation` counts the outside calls proven not to have happened; `first_called_at` and
    `called_at` are the first and the last call of this generation, None when nobody has called. `outcome` is
    set on start rows only.
    """

    saga_id: str
    step: str
    branch: str = ""
    plan: str
    tenant: str = ""
    status: RunStatus
    undo: UndoStatus = UndoStatus.NONE
    causes: tuple[RunKey, ...] = ()
    input_type: str = ""
    input: bytes | None = None
    result_type: str = ""
    result: bytes | None = None
    fan_out: int | None = None
    generation: int = 0
    first_called_at: datetime | None = None
    called_at: datetime | None = None
    attempt: int = 0
    owner: str = ""
    pending_at: datetime | None = None
    error: str = ""
    outcome: bytes | None = None
    traceparent: str = ""
    lane: Priority = Priority.NORMAL
    expires_at: datetime
    created_at: datetime
    done_at: datetime | None = None
    undone_at: datetime | None = None
    revision: int = 0

    @property
    def key(self) -> RunKey:
        """Return the run's key inside its saga."""
        return RunKey(step=self.step, branch=self.branch)

    @property
    def service(self) -> str:
        """Return the service that hosts the run."""
        return self.step.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRun:
    """Be a run as its new owner has it: `run.called_at` is the time it was taken at, on the database clock.

    `called_at` is what that was before: the last call made, None when nobody has called. `owner` is who had the
    run and has not been heard of, "" when nobody had it.
    """

    run: RunRow
    called_at: datetime | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """Say whether one saga may still run at one service; no row means open.

    `mark` says whether a person holds the saga; commands older than `mark_number` are ignored. `keep_until` is
    later than `expires_at` when the coordinator has asked for more time.
    """

    saga_id: str
    service: str
    plan: str
    state: GateState
    mark: Mark = Mark.FREE
    mark_number: int = 0
    keep_until: datetime | None = None
    expires_at: datetime
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """Be one row of the outbox: Debezium's five columns and ours; it may carry an event, its run record, or both.

    `seq` is 0 until stored. With `payload=None` there is no event and only the record is published.
    `headers` and `record_headers` are the complete Kafka headers of the two messages. The record goes to
    topic `saga.runs` under the same key. A row with a `shard` is a plain event with a key: it is published by the
    shard's owner alone, in the order of `seq`.
    """

    id: str
    aggregatetype: str
    aggregateid: str
    type: str
    payload: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    record: bytes | None = None
    record_headers: tuple[tuple[str, bytes], ...] = ()
    service: str
    shard: int | None = None
    seq: int = 0


_numbered = changer(OutboxRow, "seq")


def numbered(rows: Sequence[OutboxRow], seqs: Sequence[int]) -> list[OutboxRow]:
    """Return outbox rows with the `seq`s they have been stored under, in the same order."""
    return [_numbered(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)]


DeliveryKey = tuple[str, str, str, str]
"""service, saga ID, step, message ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """Be one delivery that waits in the database instead of in the log (retry, parked, held, dead).

    `id` is 0 until stored. `attempt` counts what has been tried, `first_at` is when that began, None before.
    `error` says why it lies here. `step` is the one step it waits for, "" when it stands for the whole delivery.
    `message_id` is the CloudEvents ID, "" when there is none to be read.
    """

    service: str
    saga_id: str
    due_at: datetime
    reason: Reason
    attempt: int = 0
    error: str = ""
    step: str = ""
    message_id: str = ""
    first_at: datetime | None = None
    raw: Delivery
    id: int = 0

    @property
    def key(self) -> DeliveryKey | None:
        """Return what no two rows that wait for an attempt or a gate may share; None: as many as there are."""
        if not self.message_id or self.reason not in (Reason.RETRY, Reason.DELAYED, Reason.LOCKED, Reason.HELD):
            return None
        return (self.service, self.saga_id, self.step, self.message_id)


InboxKey = tuple[date, str, str]
"""day, message, subscriber."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """Say that a subscriber has taken a plain event from the log; `day` is that of the event's own time, in UTC."""

    service: str
    day: date
    message_id: str
    subscriber: str

    @property
    def key(self) -> InboxKey:
        """Return what names the entry inside its service."""
        return (self.day, self.message_id, self.subscriber)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Hold everything one participant transaction writes; stored in one statement, all or nothing.

    `insert_deliveries` with a key that is stored are merged into that row. `update_deliveries` are waiting rows, by
    ID, that go on waiting or become dead; no key may be inserted together with the deletion or the update of its row.
    `release` names sagas whose HELD and LOCKED deliveries, and those between two attempts, become due at once: RETRY.
    """

    insert_runs: tuple[RunRow, ...] = ()
    update_runs: tuple[RunRow, ...] = ()
    gates: tuple[GateRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    insert_deliveries: tuple[DeliveryRow, ...] = ()
    update_deliveries: tuple[DeliveryRow, ...] = ()
    delete_deliveries: tuple[int, ...] = ()
    release: tuple[str, ...] = ()
    inbox: tuple[InboxRow, ...] = ()


RunId = tuple[str, str, str]
"""saga ID, step, branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Hold what a transaction read after its locks were granted; `now` is the database clock."""

    now: datetime
    gates: Mapping[str, GateRow] = field(default_factory=dict[str, GateRow])
    runs: Mapping[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    inbox: frozenset[InboxKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """Be one saga as the coordinator keeps it; `state` is the JSON of everything not in a column.

    `step` and `error` say what has stopped or undone it, for those who look for that. `revision` is 0 in a row never
    stored. `partition` is the saga's partition of `saga.runs`, which
    decides whose `observed_until` its `due_at` is held against. `due_at=None` means nothing is owed.
    """

    saga_id: str
    saga: str
    version: int
    plan: str
    tenant: str = ""
    phase: str
    partition: int
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    state: bytes
    step: str = ""
    error: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Say up to where one partition of `saga.runs` is part of the instances.

    `position` is the offset to read next. Everything that reached the partition before
    `observed_until` (database clock) has been read.
    """

    partition: int
    position: int
    observed_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorChanges:
    """Hold everything one coordinator transaction writes, all or nothing.

    `cursors` pairs the cursor as read (`None`: there was no row) with the one to store; the swap
    happens only if the stored position is still the one read. `dead` are records that could not be
    read; they are kept in the coordinator's own `saga_delivery`. `audits` say what people did.
    """

    instances: tuple[InstanceRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    cursors: tuple[tuple[Cursor | None, Cursor], ...] = ()
    dead: tuple[DeliveryRow, ...] = ()
    audits: tuple[AuditRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """Be one plan as the coordinator keeps it: the file's JSON, its hash and its revision."""

    saga: str
    version: int
    revision: int
    hash: str
    body: bytes
