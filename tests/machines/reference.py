"""Be what a participant's store should do, in plain dictionaries, written from the words of its port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saga._core.rows import Changes, DeliveryRow, GateRow, OutboxRow, RunId, RunRow
from saga._core.words import Priority, Reason, UndoStatus
from saga.errors import Conflict, Gone
from saga.ports import Beat
from tests.contracts.store_rows import NOW

TAKEN = (Reason.RETRY, Reason.DELAYED, Reason.LOCKED, Reason.PARKED)
RELEASED = (Reason.RETRY, Reason.LOCKED, Reason.HELD)


def run_id(row: RunRow) -> RunId:
    return (row.saga_id, row.step, row.branch)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@dataclass
class Reference:
    """Hold the same rows; a delivery is known by the offset of its message, which no merge changes."""

    now: datetime = NOW
    runs: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    gates: dict[tuple[str, str], GateRow] = field(default_factory=dict[tuple[str, str], GateRow])
    deliveries: dict[int, DeliveryRow] = field(default_factory=dict[int, DeliveryRow])
    outbox: dict[str, tuple[OutboxRow, datetime]] = field(default_factory=dict[str, tuple[OutboxRow, datetime]])
    lease: tuple[str, datetime] | None = None
    things: set[str] = field(default_factory=set[str])
    offsets: dict[int, int] = field(default_factory=dict[int, int])
    """Of the delivery rows ever seen, by ID."""

    def copy(self) -> Reference:
        return replace(
            self,
            runs=dict(self.runs),
            gates=dict(self.gates),
            deliveries=dict(self.deliveries),
            outbox=dict(self.outbox),
            things=set(self.things),
        )

    def become(self, other: Reference) -> None:
        self.__dict__.update(other.copy().__dict__)

    # --- one write ------------------------------------------------------------------------------------------------

    def refusals(self, changes: Changes) -> set[type[Conflict]]:
        """Return the errors of which one must be told, none when all of it can be written."""
        told: set[type[Conflict]] = set()
        if any(run_id(row) in self.runs for row in changes.insert_runs):
            told.add(Conflict)
        for row in changes.update_runs:
            known = self.runs.get(run_id(row))
            if known is None or known.revision != row.revision:
                told.add(Conflict)
        deleted = [self._waiting(number) for number in changes.delete_deliveries]
        changed = [self._waiting(row.id) for row in changes.update_deliveries]
        if None in (*deleted, *changed) or any(row.reason is Reason.DEAD for row in changed if row is not None):
            told.add(Gone)
        return told

    def write(self, service: str, changes: Changes) -> None:
        """Change everything; nothing refuses it."""
        self.runs |= {run_id(row): replace(row, revision=1) for row in changes.insert_runs}
        self.runs |= {run_id(row): replace(row, revision=row.revision + 1) for row in changes.update_runs}
        self.gates |= {(row.saga_id, row.service): row for row in changes.gates}
        self.outbox |= {row.id: (row, self.now) for row in changes.outbox}
        for number in changes.delete_deliveries:
            del self.deliveries[self.offsets[number]]
        for row in changes.update_deliveries:
            self._merge(self.deliveries[self.offsets[row.id]], row)
        for row in changes.insert_deliveries:
            self._insert(row)
        for offset, known in list(self.deliveries.items()):
            if known.service == service and known.saga_id in changes.release and known.reason in RELEASED:
                self.deliveries[offset] = replace(known, reason=Reason.RETRY, due_at=self.now)

    def _waiting(self, number: int) -> DeliveryRow | None:
        return self.deliveries.get(self.offsets.get(number, -1))

    def _insert(self, row: DeliveryRow) -> None:
        known = [each for each in self.deliveries.values() if row.key is not None and each.key == row.key]
        if known:
            self._merge(known[0], row)
        else:
            self.deliveries[row.raw.offset] = replace(row, id=0)

    def _merge(self, known: DeliveryRow, row: DeliveryRow) -> None:
        """An attempt never counts down, and its beginning stays."""
        self.deliveries[known.raw.offset] = replace(
            known,
            due_at=row.due_at,
            reason=row.reason,
            error=row.error,
            attempt=max(known.attempt, row.attempt),
            first_at=known.first_at or row.first_at,
        )

    # --- taking ---------------------------------------------------------------------------------------------------

    def due_deliveries(self, service: str) -> list[tuple[tuple[object, ...], int]]:
        """Return what may be taken with what it is ordered by."""
        found = [
            ((not row.raw.topic.endswith(".urgent"), row.due_at), offset)
            for offset, row in self.deliveries.items()
            if row.service == service and row.reason in TAKEN and row.due_at <= self.now
        ]
        return sorted(found)

    def take_delivery(self, offset: int, lease_seconds: float) -> DeliveryRow:
        row = replace(self.deliveries[offset], due_at=self.now + seconds(lease_seconds))
        self.deliveries[offset] = row
        return row

    def due_runs(self, service: str) -> list[tuple[tuple[object, ...], RunId]]:
        found = [
            ((row.lane is not Priority.URGENT, row.pending_at), key)
            for key, row in self.runs.items()
            if row.service == service and row.pending_at is not None and row.pending_at <= self.now
        ]
        return sorted(found)

    def take_run(self, key: RunId, owner: str, lease_seconds: float) -> tuple[RunRow, datetime | None, str]:
        """Return the run as its new owner has it, the last call before, and who had it."""
        was = self.runs[key]
        row = replace(
            was,
            owner=owner,
            pending_at=self.now + seconds(lease_seconds),
            called_at=self.now,
            first_called_at=was.first_called_at or self.now,
            revision=was.revision + 1,
        )
        self.runs[key] = row
        return row, was.called_at, was.owner

    def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        kept: set[RunId] = set()
        for row in runs:
            known = self.runs.get(run_id(row))
            if known is None or known.pending_at is None or (known.owner, known.revision) != (owner, row.revision):
                continue
            kept.add(run_id(row))
            self.runs[run_id(row)] = replace(known, pending_at=self.now + seconds(lease_seconds))
        soon = self.now + seconds(lease_seconds / 3)
        silent = {
            key: row.owner
            for key, row in self.runs.items()
            if row.service == service
            and row.owner not in ("", owner)
            and row.pending_at is not None
            and row.pending_at < soon
        }
        return Beat(kept=frozenset(kept), silent=silent)

    # --- the outbox -----------------------------------------------------------------------------------------------

    def sweep(self, owner: str, older_seconds: float, limit: int, hand: frozenset[int], lease: float) -> list[int]:
        old = self.now - seconds(older_seconds)
        seqs = sorted(row.seq for row, at in self.outbox.values() if at < old and row.seq not in hand)[:limit]
        if not seqs:
            return []
        if self.lease is not None and self.lease[0] != owner and self.lease[1] >= self.now:
            return []
        self.lease = (owner, self.now + seconds(lease))
        return seqs

    def pending(self) -> tuple[int, float]:
        ages = [(self.now - at).total_seconds() for _, at in self.outbox.values()]
        return len(ages), max(ages, default=0.0)

    # --- ageing ---------------------------------------------------------------------------------------------------

    def _is_kept(self, saga_id: str, service: str, expires_at: datetime, grace_seconds: float) -> bool:
        gate = self.gates.get((saga_id, service))
        ends = [expires_at] if gate is None or gate.keep_until is None else [expires_at, gate.keep_until]
        return max(ends) >= self.now - seconds(grace_seconds)

    def old_runs(self, grace_seconds: float) -> list[tuple[datetime, RunId]]:
        """Return what nobody can ask for any more and that owes nothing, oldest first."""
        return sorted(
            (row.expires_at, key)
            for key, row in self.runs.items()
            if not self._is_kept(row.saga_id, row.service, row.expires_at, grace_seconds)
            and row.pending_at is None
            and row.undo not in (UndoStatus.WANTED, UndoStatus.INTENT)
        )

    def old_gates(self, grace_seconds: float) -> list[tuple[datetime, tuple[str, str]]]:
        """Return the gates that can go, once their runs have."""
        hosts = {(row.saga_id, row.service) for row in self.runs.values()}
        return sorted(
            (row.expires_at, key)
            for key, row in self.gates.items()
            if key not in hosts and not self._is_kept(*key, row.expires_at, grace_seconds)
        )

    # --- what is stored -------------------------------------------------------------------------------------------

    def learn(self, deliveries: Iterable[DeliveryRow], outbox: Iterable[OutboxRow]) -> None:
        """Take over what only the database knows: the numbers it has given."""
        for row in deliveries:
            self.offsets[row.id] = row.raw.offset
        for out in outbox:
            known = self.outbox.get(out.id)
            if known is not None and not known[0].seq:
                self.outbox[out.id] = (replace(known[0], seq=out.seq), known[1])

    def numbered(self) -> Mapping[int, DeliveryRow]:
        """Return the deliveries with their IDs."""
        ids = {offset: number for number, offset in self.offsets.items()}
        return {offset: replace(row, id=ids.get(offset, 0)) for offset, row in self.deliveries.items()}
