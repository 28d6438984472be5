"""Hold the coordinator's store against plain dictionaries while two coordinators work with what each has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from saga._core.audit import AuditRow
from saga._core.rows import CoordinatorChanges, Cursor, DeliveryRow, InstanceRow, OutboxRow, PlanRow
from saga._core.words import Reason
from saga.errors import Conflict, Contended, PlanError
from saga.ports import CoordinationStore
from tests.contracts.store_rows import NOW, instance, outgoing, waiting
from tests.machines.adapters import Tables, postgres, sqlite
from tests.machines.driving import Driven, drive
from tests.machines.profiles import profile
from tests.machines.reference import seconds

SAGAS = ("saga-a", "saga-b", "saga-c")
PARTITIONS = (0, 1)
PHASES = ("running", "closing", "completed")
_NUMBERS = count(1)

hands = st.sampled_from([0, 1])
moments = st.none() | st.sampled_from([-30, 0, 1, 10, 60])


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Be what a coordinator makes of one saga."""

    saga: str
    phase: str
    partition: int
    due: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Be what a coordinator makes of one cursor; by 0 only the time moves."""

    partition: int
    by: int
    observed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    edits: list[Edit]
    moves: list[Move]
    rows: int
    dead: int
    audits: int


batches = st.builds(
    Batch,
    edits=st.lists(
        st.builds(
            Edit,
            saga=st.sampled_from(SAGAS),
            phase=st.sampled_from(PHASES),
            partition=st.sampled_from(PARTITIONS),
            due=moments,
        ),
        max_size=3,
        unique_by=lambda edit: edit.saga,
    ),
    moves=st.lists(
        st.builds(Move, partition=st.sampled_from(PARTITIONS), by=st.integers(0, 2), observed=moments),
        max_size=1,
        unique_by=lambda move: move.partition,
    ),
    rows=st.integers(0, 2),
    dead=st.integers(0, 1),
    audits=st.integers(0, 1),
)


@dataclass
class View:
    """Be what one coordinator has read and works with, however long ago."""

    instances: dict[str, InstanceRow] = field(default_factory=dict[str, InstanceRow])
    cursors: dict[int, Cursor] = field(default_factory=dict[int, Cursor])


@dataclass
class Books(View):
    """Be what the database should hold."""

    now: datetime = NOW
    outbox: list[str] = field(default_factory=list[str])
    dead: list[int] = field(default_factory=list[int])
    audits: list[str] = field(default_factory=list[str])
    plans: dict[tuple[str, int, int], PlanRow] = field(default_factory=dict[tuple[str, int, int], PlanRow])

    def copy(self) -> Books:
        return replace(
            self,
            instances=dict(self.instances),
            cursors=dict(self.cursors),
            outbox=list(self.outbox),
            dead=list(self.dead),
            audits=list(self.audits),
        )

    def refusals(self, changes: CoordinatorChanges) -> set[type[Exception]]:
        """Return the errors of which one must be told, none when all of it can be written."""
        for row in changes.instances:
            known = self.instances.get(row.saga_id)
            if (known.revision if known else 0) != row.revision:
                return {Conflict}
        for was, new in changes.cursors:
            stored = self.cursors.get(new.partition)
            if (was.position if was else None) != (stored.position if stored else None):
                return {Conflict}
        return set()

    def write(self, changes: CoordinatorChanges) -> None:
        """Change everything."""
        self.instances |= {row.saga_id: replace(row, revision=row.revision + 1) for row in changes.instances}
        self.cursors |= {new.partition: new for _, new in changes.cursors}
        self.outbox += [row.id for row in changes.outbox]
        self.dead += [row.raw.offset for row in changes.dead]
        self.audits += [row.why for row in changes.audits]

    def due(self, partitions: Sequence[int]) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        for row in self.instances.values():
            cursor = self.cursors.get(row.partition)
            seen = cursor.observed_until if cursor else None
            if row.partition in partitions and row.due_at is not None and seen is not None and row.due_at <= seen:
                found.append((row.due_at, row.saga_id))
        return sorted(found)

    def put_plans(self, plans: Sequence[PlanRow]) -> bool:
        """Return whether all could be stored."""
        fresh = {(row.saga, row.version, row.revision): row for row in plans}
        if any(key in self.plans and self.plans[key].hash != row.hash for key, row in fresh.items()):
            return False
        self.plans |= fresh
        return True


class CoordinationMachine(Driven):
    """Two coordinators read and write; who has read before the other wrote, writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.views = (View(), View())

    def store(self, hand: int) -> CoordinationStore:
        return (self.bench.coordination, self.bench.other_coordination)[hand]

    # --- reading --------------------------------------------------------------------------------------------------

    @rule(hand=hands, sagas=st.sets(st.sampled_from(SAGAS)), partitions=st.sets(st.sampled_from(PARTITIONS)))
    def look(self, hand: int, sagas: set[str], partitions: set[int]) -> None:
        view, store = self.views[hand], self.store(hand)
        loaded = self.do(store.load, [*sagas, "nobody"])
        assert loaded == {saga: row for saga, row in self.books.instances.items() if saga in sagas}
        cursors = self.do(store.cursors, [*partitions, 99])
        assert cursors == {number: row for number, row in self.books.cursors.items() if number in partitions}
        view.instances |= loaded
        view.cursors |= cursors

    @rule(hand=hands, partitions=st.sets(st.sampled_from(PARTITIONS)), limit=st.sampled_from([1, 2, 10]))
    def due(self, hand: int, partitions: set[int], limit: int) -> None:
        rows = self.do(self.store(hand).due, sorted(partitions), limit)
        known = self.books.due(sorted(partitions))
        assert [row.due_at for row in rows] == [at for at, _ in known[:limit]]
        assert len({row.saga_id for row in rows}) == len(rows)
        assert {row.saga_id for row in rows} <= {saga for _, saga in known}
        assert all(row == self.books.instances[row.saga_id] for row in rows)
        self.views[hand].instances |= {row.saga_id: row for row in rows}

    # --- writing --------------------------------------------------------------------------------------------------

    @rule(hand=hands, batch=batches)
    def write(self, hand: int, batch: Batch) -> None:
        changes = self._changes(self.views[hand], batch)
        after = self.books.copy()
        told, seqs = self.do(self._write, self.store(hand), changes)
        refusals = after.refusals(changes)
        if refusals:
            assert told in refusals
            self._read_again(hand, changes)
            return
        after.write(changes)
        assert told is None
        assert len(seqs) == len(changes.outbox)
        assert list(seqs) == sorted(set(seqs))
        self.books = after
        self._keep(hand, changes)

    @rule(one=batches, two=batches)
    def both_write_at_once(self, one: Batch, two: Batch) -> None:
        """Whatever comes of both is what comes of them one after the other, in one order or in the other."""
        both = [self._changes(view, batch) for view, batch in zip(self.views, (one, two), strict=True)]
        results = self.at_once(lambda: self._write(self.store(0), both[0]), lambda: self._write(self.store(1), both[1]))
        told = [kind for kind, _ in results]
        stored = self.do(self._stored)
        for order in ((0, 1), (1, 0)):
            after = self.books.copy()
            if self._replay(after, both, told, order) and self._is_stored(after, stored):
                self.books = after
                for number in order:
                    if told[number] is None:
                        self._keep(number, both[number])
                return
        raise AssertionError(f"{told} comes of no order of {both}")

    def _replay(
        self, after: Books, both: Sequence[CoordinatorChanges], told: Sequence[Any], order: tuple[int, int]
    ) -> bool:
        for number in order:
            if told[number] is Contended:
                continue
            refusals = after.refusals(both[number])
            if told[number] not in (refusals or (None,)):
                return False
            if not refusals:
                after.write(both[number])
        return True

    async def _write(
        self, store: CoordinationStore, changes: CoordinatorChanges
    ) -> tuple[type[Exception] | None, Sequence[int]]:
        try:
            return None, await store.write(changes)
        except (Conflict, Contended) as error:
            return type(error), ()

    def _keep(self, hand: int, changes: CoordinatorChanges) -> None:
        view = self.views[hand]
        view.instances |= {row.saga_id: replace(row, revision=row.revision + 1) for row in changes.instances}
        view.cursors |= {new.partition: new for _, new in changes.cursors}

    def _read_again(self, hand: int, changes: CoordinatorChanges) -> None:
        """Who has lost reads what it was about, and can win next time."""
        view, sagas = self.views[hand], [row.saga_id for row in changes.instances]
        view.instances |= self.do(self.store(hand).load, sagas)
        view.cursors |= self.do(self.store(hand).cursors, [new.partition for _, new in changes.cursors])

    def _at(self, offset: int | None) -> datetime | None:
        return None if offset is None else self.books.now + seconds(offset)

    def _changes(self, view: View, batch: Batch) -> CoordinatorChanges:
        rows: list[InstanceRow] = []
        for edit in batch.edits:
            row = view.instances.get(edit.saga, instance(edit.saga))
            rows.append(replace(row, phase=edit.phase, partition=edit.partition, due_at=self._at(edit.due)))
        swaps: list[tuple[Cursor | None, Cursor]] = []
        for move in batch.moves:
            was = view.cursors.get(move.partition)
            position = (was.position if was else 0) + move.by
            swaps.append(
                (was, Cursor(partition=move.partition, position=position, observed_until=self._at(move.observed)))
            )
        return CoordinatorChanges(
            instances=tuple(rows),
            cursors=tuple(swaps),
            outbox=tuple(outgoing() for _ in range(batch.rows)),
            dead=tuple(self._dead() for _ in range(batch.dead)),
            audits=tuple(self._audit() for _ in range(batch.audits)),
        )

    def _dead(self) -> DeliveryRow:
        row = waiting("", NOW, Reason.DEAD, message_id="always the same")
        return replace(row, raw=replace(row.raw, offset=next(_NUMBERS)))

    def _audit(self) -> AuditRow:
        return AuditRow(at=self.books.now, who="ann", why=f"{next(_NUMBERS)}", verb="hold", saga_id="", target="")

    # --- plans and time -------------------------------------------------------------------------------------------

    @rule(
        hand=hands,
        plans=st.lists(
            st.tuples(st.integers(1, 2), st.integers(1, 2), st.sampled_from("ab"), st.sampled_from("xy")),
            max_size=3,
            unique_by=lambda plan: plan[:2],
        ),
    )
    def put_plans(self, hand: int, plans: Sequence[tuple[int, int, str, str]]) -> None:
        rows = [
            PlanRow(saga="checkout", version=version, revision=revision, hash=hash_, body=body.encode())
            for version, revision, hash_, body in plans
        ]
        if self.books.put_plans(rows):
            stored = self.do(self.store(hand).put_plans, rows)
            assert list(stored) == [row for _, row in sorted(self.books.plans.items())]
        else:
            with pytest.raises(PlanError):
                self.do(self.store(hand).put_plans, rows)

    @rule(by=st.sampled_from([1, 10, 60]))
    def time_passes(self, by: int) -> None:
        self.books.now += seconds(by)
        self.do(self.bench.set_now, self.books.now)
        assert self.do(self.bench.coordination.now) == self.books.now

    @rule(pick=st.integers(0, 5))
    def publish(self, pick: int) -> None:
        rows: list[OutboxRow] = list(self.do(self.bench.tables).outbox)
        if rows:
            row = rows[pick % len(rows)]
            self.do(self.bench.coordination.delete, [row.seq])
            self.books.outbox.remove(row.id)

    # --- what holds always ----------------------------------------------------------------------------------------

    async def _stored(self) -> tuple[Any, Any, Tables, Sequence[AuditRow]]:
        store = self.bench.coordination
        tables, audits = await self.bench.tables(), await self.bench.audits()
        return await store.load(SAGAS), await store.cursors(PARTITIONS), tables, audits

    def _is_stored(self, books: Books, stored: tuple[Any, Any, Tables, Sequence[AuditRow]]) -> bool:
        instances, cursors, tables, audits = stored
        return bool(
            instances == books.instances
            and cursors == books.cursors
            and [row.id for row in tables.outbox] == books.outbox
            and sorted(row.raw.offset for row in tables.deliveries) == sorted(books.dead)
            and sorted(row.why for row in audits) == sorted(books.audits)
        )

    @invariant()
    def the_same_is_stored(self) -> None:
        stored = self.do(self._stored)
        assert self._is_stored(self.books, stored), (self.books, stored)
        plans = self.do(self.bench.other_coordination.put_plans, ())
        assert list(plans) == [row for _, row in sorted(self.books.plans.items())]
        assert self.do(self.bench.coordination.pending)[0] == len(self.books.outbox)


def test_a_coordinators_store_on_sqlite() -> None:
    drive(CoordinationMachine, sqlite(), profile(50))


@pytest.mark.postgres
def test_a_coordinators_store_on_postgres(database: str) -> None:
    drive(CoordinationMachine, postgres(database), profile(12))
