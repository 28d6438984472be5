"""Turn small drawn values into the changes of one write, by what the reference holds at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any

from hypothesis import strategies as st

from saga._core.envelope import Delivery
from saga._core.rows import Changes, DeliveryKey, DeliveryRow, GateRow, OutboxRow, RunId, RunRow
from saga._core.words import GateState, Mark, Priority, Reason, RunStatus, UndoStatus
from tests.contracts.store_rows import NOW
from tests.machines.reference import Reference, run_id, seconds

SERVICES = ("stock", "payment")
SAGAS = ("saga-a", "saga-b")
STEPS = ("reserve", "pack")
DAY = 86_400
KEYED = (Reason.RETRY, Reason.DELAYED, Reason.LOCKED, Reason.HELD)

_MESSAGES = count(1)

services = st.sampled_from([SERVICES[0], SERVICES[0], SERVICES[1]])
sagas = st.sampled_from(SAGAS)
steps = st.sampled_from(STEPS)
numbers = st.integers(0, 9)
offsets = st.sampled_from([0, -10, -1, 1, 10, 30, 3600])
ages = st.sampled_from([7 * DAY, 3600, -DAY, -2 * DAY, -2 * DAY])
lanes = st.sampled_from(list(Priority))


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRun:
    saga: str
    step: str
    branch: str
    status: RunStatus
    undo: UndoStatus
    pending: int | None
    lane: Priority
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRun:
    pick: int
    behind: int
    undo: UndoStatus
    pending: int | None
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutGate:
    saga: str
    state: GateState
    mark: Mark
    number: int
    keep: int | None
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    saga: str
    step: str
    message: str
    reason: Reason
    due: int
    attempt: int
    first: int | None
    lane: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDelivery:
    pick: int
    reason: Reason
    due: int
    attempt: int
    first: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDelivery:
    pick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    saga: str


Draft = InsertRun | UpdateRun | PutGate | Publish | Deliver | UpdateDelivery | DeleteDelivery | Release

inserts = st.builds(
    InsertRun,
    saga=sagas,
    step=steps,
    branch=st.sampled_from(["", "1of2"]),
    status=st.sampled_from(list(RunStatus)),
    undo=st.sampled_from(list(UndoStatus)),
    pending=st.none() | offsets,
    lane=lanes,
    expires=ages,
)
updates = st.builds(
    UpdateRun,
    pick=numbers,
    behind=st.sampled_from([0, 0, 0, 1, -1]),
    undo=st.sampled_from(list(UndoStatus)),
    pending=st.none() | offsets,
    attempt=numbers,
)
gates = st.builds(
    PutGate,
    saga=sagas,
    state=st.sampled_from(list(GateState)),
    mark=st.sampled_from(list(Mark)),
    number=numbers,
    keep=st.none() | ages,
    expires=ages,
)
deliveries = st.builds(
    Deliver,
    saga=sagas,
    step=st.sampled_from(["", "reserve"]),
    message=st.sampled_from(["m1", "m1", "m2", ""]),
    reason=st.sampled_from([*KEYED, *KEYED, Reason.HELD, Reason.HELD, Reason.PARKED, Reason.DEAD]),
    due=offsets,
    attempt=numbers,
    first=st.none() | offsets,
    lane=lanes,
)
delivery_updates = st.builds(
    UpdateDelivery,
    pick=numbers,
    reason=st.sampled_from([*KEYED, Reason.DEAD]),
    due=offsets,
    attempt=numbers,
    first=st.none() | offsets,
)
drafts: st.SearchStrategy[list[Draft]] = st.lists(
    st.one_of(
        inserts,
        updates,
        gates,
        st.builds(Publish, rows=st.integers(1, 3)),
        deliveries,
        delivery_updates,
        st.builds(DeleteDelivery, pick=numbers),
        st.builds(Release, saga=sagas),
    ),
    min_size=1,
    max_size=5,
)


@dataclass
class Composer:
    """Gather drafts into one `Changes`, leaving out what the port says may not stand together."""

    reference: Reference
    service: str
    runs: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    updated: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    gates: dict[str, GateRow] = field(default_factory=dict[str, GateRow])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    inserted: list[DeliveryRow] = field(default_factory=list[DeliveryRow])
    changed: list[DeliveryRow] = field(default_factory=list[DeliveryRow])
    deleted: list[int] = field(default_factory=list[int])
    released: set[str] = field(default_factory=set[str])
    keys: set[DeliveryKey | int] = field(default_factory=set[DeliveryKey | int])

    def compose(self, wanted: Sequence[Draft]) -> Changes:
        for draft in wanted:
            getattr(self, f"_{type(draft).__name__}")(draft)
        touched = {row.saga_id for row in (*self.inserted, *self.changed)}
        return Changes(
            insert_runs=tuple(self.runs.values()),
            update_runs=tuple(self.updated.values()),
            gates=tuple(self.gates.values()),
            outbox=tuple(self.outbox),
            insert_deliveries=tuple(self.inserted),
            update_deliveries=tuple(self.changed),
            delete_deliveries=tuple(self.deleted),
            release=tuple(sorted(self.released - touched)),
        )

    @property
    def _now(self) -> datetime:
        return self.reference.now

    def _at(self, offset: int | None) -> datetime | None:
        return None if offset is None else self._now + seconds(offset)

    def _InsertRun(self, draft: InsertRun) -> None:  # noqa: N802 - named by the draft
        row = RunRow(
            saga_id=draft.saga,
            step=f"{self.service}.{draft.step}",
            branch=draft.branch,
            plan="hash",
            status=draft.status,
            undo=draft.undo,
            pending_at=self._at(draft.pending),
            lane=draft.lane,
            expires_at=self._now + seconds(draft.expires),
            created_at=self._now,
        )
        if run_id(row) not in self.updated:
            self.runs.setdefault(run_id(row), row)

    def _UpdateRun(self, draft: UpdateRun) -> None:  # noqa: N802
        known = [row for row in self.reference.runs.values() if row.service == self.service]
        if not known:
            return
        row = known[draft.pick % len(known)]
        if run_id(row) in self.runs:
            return
        row = replace(
            row,
            revision=max(row.revision - draft.behind, 1),
            undo=draft.undo,
            pending_at=self._at(draft.pending),
            owner="" if draft.pending is None else row.owner,
            attempt=draft.attempt,
        )
        self.updated.setdefault(run_id(row), row)

    def _PutGate(self, draft: PutGate) -> None:  # noqa: N802
        self.gates[draft.saga] = GateRow(
            saga_id=draft.saga,
            service=self.service,
            plan="hash",
            state=draft.state,
            mark=draft.mark,
            mark_number=draft.number,
            keep_until=self._at(draft.keep),
            expires_at=self._now + seconds(draft.expires),
        )

    def _Publish(self, draft: Publish) -> None:  # noqa: N802
        for _ in range(draft.rows):
            number = next(_MESSAGES)
            self.outbox.append(
                OutboxRow(
                    id=f"row-{number}",
                    aggregatetype="stock.events",
                    aggregateid="saga-a",
                    type="stock.reserved",
                    payload=None if number % 3 == 0 else b"{}",
                    record=b"r" if number % 2 else None,
                    service=self.service,
                )
            )

    def _Deliver(self, draft: Deliver) -> None:  # noqa: N802
        topic = "orders.events.urgent" if draft.lane is Priority.URGENT else "orders.events"
        row = DeliveryRow(
            service=self.service,
            saga_id=draft.saga,
            due_at=self._now + seconds(draft.due),
            reason=draft.reason,
            attempt=draft.attempt,
            error=f"e{draft.attempt}",
            step=draft.step,
            message_id=draft.message,
            first_at=self._at(draft.first),
            raw=Delivery(topic=topic, partition=0, offset=next(_MESSAGES), key=b"k", value=b"{}", headers=()),
        )
        if row.key is None or self._is_free(row.key):
            self.inserted.append(row)

    def _picked(self, pick: int) -> tuple[int, DeliveryRow | None] | None:
        """Return the ID of a row that is there or has been, and the row."""
        numbers = sorted(self.reference.offsets)[-10:]
        if not numbers:
            return None
        number = numbers[pick % len(numbers)]
        return number, self.reference.deliveries.get(self.reference.offsets[number])

    def _is_free(self, key: DeliveryKey | int | None) -> bool:
        if key is None:
            return True
        fresh = key not in self.keys
        self.keys.add(key)
        return fresh

    def _UpdateDelivery(self, draft: UpdateDelivery) -> None:  # noqa: N802
        picked = self._picked(draft.pick)
        if picked is None:
            return
        number, row = picked
        if row is None:
            row = waiting_ghost(self.service)
        elif row.key is None and row.reason is not Reason.DEAD:
            return
        if not self._is_free(number) or not self._is_free(row.key):
            return
        row = replace(
            row,
            id=number,
            reason=draft.reason,
            due_at=self._now + seconds(draft.due),
            attempt=draft.attempt,
            error=f"e{draft.attempt}",
            first_at=self._at(draft.first),
        )
        self.changed.append(row)

    def _DeleteDelivery(self, draft: DeleteDelivery) -> None:  # noqa: N802
        picked = self._picked(draft.pick)
        if picked is None or not self._is_free(picked[0]) or not self._is_free(picked[1].key if picked[1] else None):
            return
        self.deleted.append(picked[0])

    def _Release(self, draft: Release) -> None:  # noqa: N802
        self.released.add(draft.saga)


def waiting_ghost(service: str) -> DeliveryRow:
    """Return what somebody holds in memory of a row that is gone."""
    raw = Delivery(topic="orders.events", partition=0, offset=0, key=b"k", value=b"{}", headers=())
    return DeliveryRow(service=service, saga_id="saga-a", due_at=NOW, reason=Reason.RETRY, raw=raw)


def compose(reference: Reference, service: str, wanted: Sequence[Draft]) -> Changes:
    """Return the changes that drafts come to now."""
    return Composer(reference, service).compose(wanted)


__all__: list[Any] = ["Draft", "compose", "drafts", "services"]
