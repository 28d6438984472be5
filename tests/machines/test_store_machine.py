"""Hold a participant's store against the reference: any sequence of units, takes, beats, sweeps and prunings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from saga._core.keeping import Aging, Retention
from saga._core.rows import Changes
from saga.errors import Conflict, Contended
from saga.ports import Claim, Lock, Store, UnitOfWork
from saga.ports.keeping import Prunable
from tests.contracts.ageing import prune_expired
from tests.machines.adapters import postgres, sqlite
from tests.machines.drafts import SAGAS, Draft, compose, drafts, numbers, services
from tests.machines.driving import Driven, drive
from tests.machines.profiles import profile
from tests.machines.reference import Reference, seconds

LEASE_SECONDS = 30.0
GRACE_SECONDS = Retention().ages[Aging.RUNS]


class Way(StrEnum):
    """Say how a part of a unit is written."""

    PLAIN = "plain"
    SAVEPOINT = "savepoint"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPart:
    way: Way
    drafts: list[Draft]


class End(StrEnum):
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Stop(Exception):
    """Leave a unit without having written."""


class Expected(Exception):
    """Leave a unit whose write was refused as it should be."""


parts = st.lists(st.builds(UnitPart, way=st.sampled_from(Way), drafts=drafts), min_size=1, max_size=3)
ends = st.sampled_from([End.COMMIT, End.COMMIT, End.COMMIT, End.ROLLBACK])
limits = st.sampled_from([1, 2, 100])
owners = st.sampled_from(["ann", "bob"])


def claim_of(service: str, changes: Changes) -> Claim:
    """Return the claim as the runtime takes it: EXCLUSIVE to close, to release or to change a run."""
    alone = changes.gates or changes.release or changes.update_runs
    return Claim(service=service, sagas=SAGAS, lock=Lock.EXCLUSIVE if alone else Lock.SHARED)


def prunable(store: Store) -> Prunable:
    assert isinstance(store, Prunable)
    return store


class StoreMachine(Driven):
    """Do the same to a store and to the reference; whatever is stored is the same after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.reference = Reference()
        self.names = 0

    # --- units ----------------------------------------------------------------------------------------------------

    @rule(service=services, parts=parts, end=ends)
    def unit(self, service: str, parts: Sequence[UnitPart], end: End) -> None:
        after = self.reference.copy()
        try:
            self.do(self._unit, service, parts, end, after)
        except Stop:
            assert end is End.ROLLBACK
        except Expected:
            pass
        else:
            assert end is End.COMMIT
            self.reference.become(after)

    async def _unit(self, service: str, parts: Sequence[UnitPart], end: End, after: Reference) -> None:
        claim = Claim(service=service, sagas=SAGAS, lock=Lock.EXCLUSIVE)
        async with self.bench.store.unit(claim) as unit:
            await self._read(unit, service, after)
            for part in parts:
                await self._part(unit, service, part, after)
                await self._read(unit, service, after)
            if end is End.ROLLBACK:
                raise Stop

    async def _part(self, unit: UnitOfWork, service: str, part: UnitPart, after: Reference) -> None:
        match part.way:
            case Way.PLAIN:
                await self._write(unit, service, part.drafts, after)
            case Way.SAVEPOINT:
                inside = after.copy()
                try:
                    async with unit.savepoint():
                        await self._write(unit, service, part.drafts, inside)
                except Expected:
                    pass
                else:
                    after.become(inside)
            case Way.DROPPED:
                with pytest.raises((Stop, Expected)):  # noqa: PT012
                    async with unit.savepoint():
                        await self._write(unit, service, part.drafts, after.copy())
                        raise Stop
            case _:
                assert_never(part.way)

    async def _write(self, unit: UnitOfWork, service: str, wanted: Sequence[Draft], after: Reference) -> None:
        changes = compose(after, service, wanted)
        self.names += 1
        thing = f"thing-{self.names}"
        await unit.db.execute("insert into thing (name) values ($1)", thing)
        refusals = after.refusals(changes)
        if refusals:
            with pytest.raises(Conflict) as caught:
                await unit.write(changes)
            assert caught.type in refusals
            raise Expected
        after.write(service, changes)
        after.things.add(thing)
        seqs = await unit.write(changes)
        assert list(seqs) == sorted(set(seqs))
        assert len(seqs) == len(changes.outbox)
        known = [row.seq for row, _ in after.outbox.values()]
        assert not seqs or not known or min(seqs) > max(known)
        for row, seq in zip(changes.outbox, seqs, strict=True):
            after.outbox[row.id] = (replace(row, seq=seq), after.now)

    async def _read(self, unit: UnitOfWork, service: str, after: Reference) -> None:
        seen = await unit.read(SAGAS, [(saga, "", "") for saga in SAGAS])
        assert seen.now == after.now
        assert seen.gates == {saga: row for (saga, at), row in after.gates.items() if at == service}
        assert seen.runs == {key: row for key, row in after.runs.items() if row.service == service}

    @rule(service=services, other=services, one=drafts, two=drafts)
    def two_units_at_once(self, service: str, other: str, one: Sequence[Draft], two: Sequence[Draft]) -> None:
        """Whatever comes of both is what comes of them one after the other, in one order or in the other."""
        first, second = compose(self.reference, service, one), compose(self.reference, other, two)
        told = self.at_once(
            lambda: self._alone(self.bench.store, service, first), lambda: self._alone(self.bench.other, other, second)
        )
        stored = self.do(self.bench.tables)
        for order in ((0, 1), (1, 0)):
            after = self.reference.copy()
            if self._replay(after, ((service, first), (other, second)), told, order):
                after.learn(stored.deliveries, stored.outbox)
                if self._is_stored(after, stored):
                    self.reference.become(after)
                    return
        raise AssertionError(f"{told} comes of no order of {first} and {second}")

    async def _alone(self, store: Store, service: str, changes: Changes) -> type[Exception] | None:
        claim = claim_of(service, changes)
        try:
            async with store.unit(claim) as unit:
                await unit.read(SAGAS, [(saga, "", "") for saga in SAGAS])
                await unit.write(changes)
        except (Conflict, Contended) as error:
            return type(error)
        return None

    def _replay(self, after: Reference, both: Any, told: Sequence[Any], order: tuple[int, int]) -> bool:
        for number in order:
            service, changes = both[number]
            if told[number] is Contended:
                continue
            refusals = after.refusals(changes)
            if told[number] not in (refusals or (None,)):
                return False
            if not refusals:
                after.write(service, changes)
        return True

    # --- taking ---------------------------------------------------------------------------------------------------

    @rule(service=services, limit=limits)
    def take_deliveries(self, service: str, limit: int) -> None:
        due = self.reference.due_deliveries(service)
        taken = self.do(self.bench.store.take_deliveries, service, limit, LEASE_SECONDS)
        before = {offset: rank for rank, offset in due}
        offsets = [row.raw.offset for row in taken]
        assert [before.get(offset) for offset in offsets] == [rank for rank, _ in due[:limit]]
        assert len(set(offsets)) == len(offsets)
        for row in taken:
            assert replace(row, id=0) == self.reference.take_delivery(row.raw.offset, LEASE_SECONDS)

    @rule(service=services, owner=owners, limit=limits)
    def take_runs(self, service: str, owner: str, limit: int) -> None:
        due = self.reference.due_runs(service)
        taken = self.do(self.bench.store.take_runs, service, owner, limit, LEASE_SECONDS)
        before = {key: rank for rank, key in due}
        keys = [(each.run.saga_id, each.run.step, each.run.branch) for each in taken]
        assert [before.get(key) for key in keys] == [rank for rank, _ in due[:limit]]
        for key, each in zip(keys, taken, strict=True):
            assert (each.run, each.called_at, each.owner) == self.reference.take_run(key, owner, LEASE_SECONDS)

    @rule(service=services, limit=limits)
    def two_take_runs_at_once(self, service: str, limit: int) -> None:
        due = self.reference.due_runs(service)
        both = self.at_once(
            lambda: self.bench.store.take_runs(service, "ann", limit, LEASE_SECONDS),
            lambda: self.bench.other.take_runs(service, "bob", limit, LEASE_SECONDS),
        )
        taken = [(owner, each) for owner, rows in zip(("ann", "bob"), both, strict=True) for each in rows]
        keys = {(each.run.saga_id, each.run.step, each.run.branch): (owner, each) for owner, each in taken}
        assert len(keys) == len(taken), "a run has two owners"
        assert set(keys) <= {key for _, key in due}
        assert len(due) > limit or len(keys) == len(due), "a run was left"
        for key, (owner, each) in keys.items():
            assert (each.run, each.called_at, each.owner) == self.reference.take_run(key, owner, LEASE_SECONDS)

    @rule(service=services, owner=owners, picks=st.lists(numbers, max_size=3, unique=True), behind=st.integers(0, 1))
    def beat(self, service: str, owner: str, picks: Sequence[int], behind: int) -> None:
        known = [row for row in self.reference.runs.values() if row.service == service]
        rows = {known[pick % len(known)].step: known[pick % len(known)] for pick in picks} if known else {}
        given = [replace(row, revision=row.revision - behind) for row in rows.values()]
        beat = self.do(self.bench.other.beat, service, owner, given, LEASE_SECONDS)
        assert beat == self.reference.beat(service, owner, given, LEASE_SECONDS)

    # --- the outbox -----------------------------------------------------------------------------------------------

    @rule(owner=owners, older=st.sampled_from([0.0, 5.0, -60.0]), limit=limits, hand=st.sets(numbers, max_size=3))
    def sweep(self, owner: str, older: float, limit: int, hand: set[int]) -> None:
        in_hand = frozenset(self._seqs(hand))

        async def swept() -> list[Any]:
            rows = await self.bench.other.sweep(
                owner, older_than_seconds=older, limit=limit, in_hand=in_hand, lease_seconds=LEASE_SECONDS
            )
            return list(rows)

        rows = self.do(swept)
        known = {row.seq: row for row, _ in self.reference.outbox.values()}
        assert rows == [known[seq] for seq in self.reference.sweep(owner, older, limit, in_hand, LEASE_SECONDS)]

    @rule(picks=st.sets(numbers, max_size=3))
    def publish(self, picks: set[int]) -> None:
        seqs = [*self._seqs(picks), 10**9]
        self.do(self.bench.store.delete, seqs)
        self.reference.outbox = {key: each for key, each in self.reference.outbox.items() if each[0].seq not in seqs}

    def _seqs(self, picks: set[int]) -> list[int]:
        known = sorted(row.seq for row, _ in self.reference.outbox.values())
        return sorted({known[pick % len(known)] for pick in picks}) if known else []

    # --- time -----------------------------------------------------------------------------------------------------

    @rule(by=st.sampled_from([1, 10, 20, 30, 31, 3600, 86_400, 2 * 86_400]))
    def time_passes(self, by: int) -> None:
        self.reference.now += seconds(by)
        self.do(self.bench.set_now, self.reference.now)

    @rule()
    def prune(self) -> None:
        rows = self.do(prune_expired, prunable(self.bench.store), 1_000, GRACE_SECONDS)
        runs = self.reference.old_runs(GRACE_SECONDS)
        for _, key in runs:
            del self.reference.runs[key]
        gates = self.reference.old_gates(GRACE_SECONDS)
        for _, gate in gates:
            del self.reference.gates[gate]
        assert rows == len(runs) + len(gates)

    @rule()
    def prune_a_bite(self) -> None:
        old = self.reference.old_runs(GRACE_SECONDS)
        self.do(prune_expired, prunable(self.bench.other), 1, GRACE_SECONDS)
        stored = self.do(self.bench.tables)
        self._take_oldest(self.reference.runs, stored.runs, old)
        self._take_oldest(self.reference.gates, stored.gates, self.reference.old_gates(GRACE_SECONDS))

    def _take_oldest(self, known: dict[Any, Any], stored: Any, old: Sequence[tuple[datetime, Any]]) -> None:
        gone = [key for key in known if key not in stored]
        assert len(gone) == min(1, len(old))
        for key in gone:
            assert (old[0][0], key) in old, f"{key} is not the oldest that may go"
            del known[key]

    # --- what holds always ----------------------------------------------------------------------------------------

    @invariant()
    def the_same_is_stored(self) -> None:
        stored = self.do(self.bench.tables)
        self.reference.learn(stored.deliveries, stored.outbox)
        assert stored.runs == self.reference.runs
        assert stored.gates == self.reference.gates
        assert {row.raw.offset: row for row in stored.deliveries} == self.reference.numbered()
        assert stored.outbox == sorted((row for row, _ in self.reference.outbox.values()), key=lambda row: row.seq)
        assert set(stored.things) == self.reference.things
        seqs = [row.seq for row in stored.outbox]
        assert [row.seq for row in self.do(self.bench.other.committed, [*seqs, 10**9])] == seqs
        assert self.do(self.bench.other.pending) == pytest.approx(self.reference.pending())

    def _is_stored(self, reference: Reference, stored: Any) -> bool:
        return bool(
            stored.runs == reference.runs
            and stored.gates == reference.gates
            and {row.raw.offset: row for row in stored.deliveries} == reference.numbered()
            and {row.id: row for row in stored.outbox} == {key: row for key, (row, _) in reference.outbox.items()}
        )


def test_a_store_on_sqlite() -> None:
    drive(StoreMachine, sqlite(), profile(60))


@pytest.mark.postgres
def test_a_store_on_postgres(database: str) -> None:
    drive(StoreMachine, postgres(database), profile(12))
