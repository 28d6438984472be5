from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import anyio
import orjson
import pytest

from saga._core.audit import AuditRow
from saga._core.backlog import Backlog
from saga._core.emit import COORDINATOR
from saga._core.inspecting import InstanceCount, InstanceFilter, SagaRows, place_of
from saga._core.letters import LetterFilter, LetterGroup
from saga._core.rows import Changes, CoordinatorChanges, DeliveryRow, InstanceRow
from saga._core.words import Reason
from saga.errors import Contended, Gone, SettingsError
from saga.ports import CoordinationStore, OperatingStore, Store
from saga.ports.backlog import Backlogged
from tests.contracts.store_rows import (
    NOW,
    OTHER,
    SERVICE,
    full_run,
    gate,
    instance,
    outgoing,
    put,
    run,
    saga_id,
    waiting,
)

ALL = LetterFilter()
STEP = "stock.reserve"


class OperatingBench(Protocol):
    """What the contract needs of an adapter: one migrated database of a service and a coordinator, and doors to it."""

    @property
    def store(self) -> Store: ...
    @property
    def coordination(self) -> CoordinationStore: ...
    @property
    def desk(self) -> OperatingStore: ...
    @property
    def other(self) -> OperatingStore: ...

    async def now(self) -> datetime: ...

    async def pass_time(self, seconds: float) -> None: ...

    def on_nothing(self) -> OperatingStore:
        """Return a door to a database without tables."""
        ...

    async def on_a_service(self) -> OperatingStore:
        """Return a door to a database that only a service has migrated."""
        ...


def dead(n: int, error: str = "e", service: str = SERVICE, step: str = STEP, saga: str = "") -> DeliveryRow:
    row = waiting(saga or f"s{n}", NOW, Reason.DEAD, service, attempt=7, step=step, message_id=f"m{n}")
    return replace(row, error=error, raw=replace(row.raw, offset=n, value=b"\x00\xff%d" % n))


def untold(saga: str, attempt: int, service: str = SERVICE) -> DeliveryRow:
    """Return an outcome whose handler has failed so many times."""
    row = replace(dead(1, "SMTPError", service=service, step="", saga=saga), reason=Reason.RETRY, attempt=attempt)
    return replace(row, raw=replace(row.raw, topic="saga.outcomes"))


async def die(bench: OperatingBench, *rows: DeliveryRow) -> None:
    await put(bench.store, Changes(insert_deliveries=rows))


async def ids(desk: OperatingStore, wanted: LetterFilter = ALL) -> list[int]:
    return [row.id for row in await desk.list_dead(wanted)]


async def replay(desk: OperatingStore, ids: Sequence[int]) -> int:
    return await desk.replay(ids, who="ann", why="mended")


class OperatingContract:
    """What every database lets people see and do; run by each adapter."""

    # --- dead letters -----------------------------------------------------------------------------------------

    async def test_letters_are_listed_page_by_page_and_nothing_else_is(self, bench: OperatingBench) -> None:
        rows = [dead(n) for n in range(5)]
        await die(bench, *rows, waiting("s", NOW, message_id="1"), waiting("s", NOW, Reason.PARKED))
        first = await bench.desk.list_dead(ALL, limit=3)
        rest = await bench.desk.list_dead(ALL, after_id=first[-1].id, limit=3)
        assert [replace(row, id=0) for row in (*first, *rest)] == rows
        assert [row.id for row in (*first, *rest)] == sorted(row.id for row in (*first, *rest))
        assert await bench.desk.last_dead() == rest[-1].id
        assert await bench.desk.list_dead(LetterFilter(up_to_id=first[1].id)) == first[:2]
        assert await bench.other.show_dead(first[1].id) == first[1]

    async def test_every_field_of_a_filter_counts(self, bench: OperatingBench) -> None:
        rows = (
            dead(0, "payload: 100% _wrong_"),
            dead(1, "payload: other"),
            dead(2, service=OTHER, step="payment.take"),
            dead(3, step="", saga="s2"),
        )
        await die(bench, *rows)
        found = await ids(bench.desk)

        async def places(wanted: LetterFilter) -> list[int]:
            return [found.index(id_) for id_ in await ids(bench.desk, wanted)]

        assert await places(LetterFilter(service=SERVICE)) == [0, 1, 3]
        assert await places(LetterFilter(saga_id="s2")) == [2, 3]
        assert await places(LetterFilter(step=STEP)) == [0, 1]
        assert await places(LetterFilter(error="100% _w")) == [0]
        assert await places(LetterFilter(error="%")) == [0]
        assert await places(LetterFilter(error="Payload")) == []
        assert await places(LetterFilter(ids=(found[3], found[1], 999_999))) == [1, 3]
        assert await places(LetterFilter(service=SERVICE, saga_id="s2")) == [3]

    async def test_nothing_is_dead_in_an_empty_database(self, bench: OperatingBench) -> None:
        assert await bench.desk.last_dead() == 0
        assert await bench.desk.show_dead(1) is None
        assert await bench.desk.group_dead() == []
        assert await replay(bench.desk, [1, 2]) == 0
        assert await replay(bench.desk, []) == 0
        assert await bench.desk.discard([], who="ann", why="old") == 0
        assert await bench.desk.audits(None) == []

    async def test_a_replayed_letter_waits_in_its_own_row_and_once(self, bench: OperatingBench) -> None:
        await die(bench, dead(1), dead(2), dead(3))
        one, two, three = await ids(bench.desk)
        assert await replay(bench.desk, [one, three, 999_999]) == 2
        assert await replay(bench.other, [one, three]) == 0
        assert await ids(bench.desk) == [two]
        taken = await bench.store.take_deliveries(SERVICE, 10, 30.0)
        now = await bench.now()
        assert [(row.id, row.attempt, row.reason) for row in taken] == [
            (one, 0, Reason.RETRY),
            (three, 0, Reason.RETRY),
        ]
        assert [replace(row, id=0, due_at=NOW, attempt=7, reason=Reason.DEAD) for row in taken] == [dead(1), dead(3)]
        assert all(row.due_at > now + timedelta(seconds=20) for row in taken), "taken under a lease: it was due"

    async def test_a_letter_whose_message_waits_already_becomes_one_with_it(self, bench: OperatingBench) -> None:
        later = await bench.now() + timedelta(days=1)
        again = waiting("s1", later, attempt=3, step=STEP, message_id="m1")
        await die(bench, dead(1), dead(2), dead(2), dead(3), again)
        before = await ids(bench.desk)
        assert await replay(bench.desk, before) == 4
        assert await ids(bench.desk) == []
        assert [row.message_id for row in await bench.store.take_deliveries(SERVICE, 10, 30.0)] == ["m2", "m3"]
        trail = await bench.desk.audits(None)
        assert ["merged" in orjson.loads(row.after) for row in reversed(trail)] == [True, False, True, False]

    async def test_letters_that_cannot_be_told_apart_are_all_replayed(self, bench: OperatingBench) -> None:
        unread = replace(dead(1), saga_id="", step="", message_id="")
        await die(bench, unread, unread)
        assert await replay(bench.desk, await ids(bench.desk)) == 2
        assert len(await bench.store.take_deliveries(SERVICE, 10, 30.0)) == 2

    async def test_people_and_services_at_once_do_each_letter_once(self, bench: OperatingBench) -> None:
        await die(bench, *(dead(n) for n in range(40)))
        found = await ids(bench.desk)
        done: list[int] = []

        async def act(desk: OperatingStore, some: list[int], *, keep: bool) -> None:
            for _ in range(5):
                try:
                    done.append(await (replay(desk, some) if keep else desk.discard(some, who="bob", why="old")))
                except Contended:
                    continue
                return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: act(bench.desk, found[:30], keep=True))
            tasks.start_soon(lambda: act(bench.other, found[10:][::-1], keep=False))
            tasks.start_soon(lambda: act(bench.other, found, keep=True))
        assert sum(done) == 40
        assert len(await bench.desk.audits(None)) == 40

    async def test_a_coordinators_record_is_published_again(self, bench: OperatingBench) -> None:
        record = replace(dead(1, service=COORDINATOR, step="", saga=""), saga_id="", message_id="")
        good = replace(record, raw=replace(record.raw, topic="saga.runs", key="sägä".encode()))
        tombstone = replace(good, raw=replace(good.raw, value=None))
        odd = replace(good, raw=replace(good.raw, key=b"\xff\x00", offset=2))
        await bench.coordination.write(CoordinatorChanges(dead=(good, tombstone, odd)))
        kept = (await ids(bench.desk))[1]
        assert await replay(bench.desk, await ids(bench.desk)) == 2
        assert await ids(bench.desk) == [kept], "what has no value can never be read"
        assert await bench.store.take_deliveries(COORDINATOR, 10, 30.0) == []
        await bench.pass_time(6)
        first, second = await bench.coordination.sweep(
            "me", older_than_seconds=5, limit=10, in_hand=frozenset(), lease_seconds=30
        )
        assert (first.aggregatetype, first.aggregateid) == ("saga.runs", "sägä")
        assert (first.payload, first.headers, first.record) == (good.raw.value, good.raw.headers, None)
        assert second.id != first.id
        assert second.aggregateid == "\ufffd\ufffd"

    async def test_a_discarded_letter_is_gone_and_a_waiting_row_is_not(self, bench: OperatingBench) -> None:
        await die(bench, dead(1), dead(2), waiting("s", NOW, message_id="1"))
        (row,) = await bench.store.take_deliveries(SERVICE, 10, 0.0)
        one, two = await ids(bench.desk)
        assert await bench.desk.discard([one, row.id, 999_999], who="ann", why="old") == 1
        assert await bench.desk.discard([one], who="ann", why="old") == 0
        assert await ids(bench.desk) == [two]
        assert len(await bench.store.take_deliveries(SERVICE, 10, 0.0)) == 1

    async def test_every_act_leaves_a_trail_without_the_payload(self, bench: OperatingBench) -> None:
        await die(bench, dead(1), dead(2))
        one, two = await ids(bench.desk)
        await bench.desk.replay([one], who="ann\x00", why="mended")
        await bench.desk.discard([two], who="bob", why="old")
        last, first = await bench.desk.audits(None)
        assert (first.who, first.why, first.verb, first.saga_id) == ("ann\ufffd", "mended", "replay", "s1")
        assert (last.who, last.why, last.verb, last.target) == ("bob", "old", "discard", f"dead letter {two}")
        assert orjson.loads(last.before) == {
            "service": SERVICE,
            "step": STEP,
            "message": "m2",
            "reason": "dead",
            "attempt": 7,
            "error": "e",
            "topic": "orders.events",
            "partition": 3,
            "offset": 2,
            "bytes": 3,
        }
        assert orjson.loads(first.after) == {"reason": "retry", "attempt": 0}
        assert last.after == b"null"
        assert abs(last.at - await bench.now()) < timedelta(seconds=60)
        assert await bench.desk.audits("s1") == [first]
        assert await bench.desk.audits(None, limit=1) == [last]

    @pytest.mark.parametrize("reason", [Reason.RETRY, Reason.PARKED, Reason.HELD])
    async def test_a_waiting_row_dies_in_its_place_and_once(self, bench: OperatingBench, reason: Reason) -> None:
        await put(bench.store, Changes(insert_deliveries=(waiting("s1", NOW, reason, attempt=2, message_id="m1"),)))
        (row,) = (await bench.desk.find_runs("s1")).deliveries
        died = replace(row, reason=Reason.DEAD, attempt=3, error="unreadable")
        await put(bench.store, Changes(update_deliveries=(died,)))
        assert await bench.desk.list_dead(ALL) == [died]
        with pytest.raises(Gone):
            await put(bench.store, Changes(update_deliveries=(replace(row, attempt=9),)))
        assert await bench.desk.list_dead(ALL) == [died]

    async def test_letters_are_counted_by_how_their_errors_begin(self, bench: OperatingBench) -> None:
        now = await bench.now()
        rows = [replace(dead(n, "x" * 80 + str(n)), due_at=now - timedelta(seconds=n)) for n in (10, 20, 30)]
        await die(bench, *rows, dead(9, service=OTHER), waiting("s", NOW, message_id="1"))
        first, second = await bench.desk.group_dead()
        assert replace(first, oldest_seconds=0.0) == LetterGroup(
            service=SERVICE, step=STEP, error="x" * 80, letters=3, oldest_seconds=0.0
        )
        assert 30 <= first.oldest_seconds < 60
        assert (second.service, second.letters) == (OTHER, 1)

    # --- what a coordinator knows ------------------------------------------------------------------------------

    async def test_sagas_are_found_newest_first_and_page_by_page(self, bench: OperatingBench) -> None:
        rows = [replace(instance(saga_id()), started_at=NOW + timedelta(seconds=n // 2)) for n in range(6)]
        unknown = replace(instance(saga_id()), started_at=None)
        await bench.coordination.write(CoordinatorChanges(instances=(*rows, unknown)))
        wanted = sorted(rows, key=lambda row: (row.started_at or NOW, row.saga_id), reverse=True)
        expected = [replace(row, revision=1) for row in (unknown, *wanted)]
        found: list[InstanceRow] = []
        while page := await bench.desk.find(InstanceFilter(), after=place_of(found[-1]) if found else None, limit=2):
            found += page
            assert len(found) <= len(expected)
        assert found == expected

    async def test_sagas_are_found_by_what_they_are(self, bench: OperatingBench) -> None:
        base = instance("s0")
        rows = (
            base,
            replace(base, saga_id="s1", phase="stuck", tenant="other"),
            replace(base, saga_id="s2", version=2, phase="completed"),
            replace(base, saga_id="s3", saga="refund", started_at=NOW + timedelta(days=1)),
            replace(base, saga_id="s4", saga="", version=0, phase="stuck", started_at=None),
        )
        await bench.coordination.write(CoordinatorChanges(instances=rows))

        async def found(wanted: InstanceFilter) -> list[str]:
            return sorted(row.saga_id for row in await bench.desk.find(wanted))

        assert await found(InstanceFilter(saga="checkout")) == ["s0", "s1", "s2"]
        assert await found(InstanceFilter(saga="checkout", version=2)) == ["s2"]
        assert await found(InstanceFilter(phases=("stuck",))) == ["s1", "s4"]
        assert await found(InstanceFilter(phases=("stuck", "completed"), tenant="acme")) == ["s2", "s4"]
        assert await found(InstanceFilter(started_from=NOW + timedelta(seconds=1))) == ["s3"]
        assert await found(InstanceFilter(started_from=NOW, started_before=NOW + timedelta(days=1))) == [
            "s0",
            "s1",
            "s2",
        ]
        assert await bench.desk.counts() == [
            InstanceCount(saga="", version=0, phase="stuck", sagas=1),
            InstanceCount(saga="checkout", version=1, phase="forward", sagas=1),
            InstanceCount(saga="checkout", version=1, phase="stuck", sagas=1),
            InstanceCount(saga="checkout", version=2, phase="completed", sagas=1),
            InstanceCount(saga="refund", version=1, phase="forward", sagas=1),
        ]

    async def test_a_coordinators_trail_is_part_of_its_write(self, bench: OperatingBench) -> None:
        act = AuditRow(at=NOW, who="ann", why="ü\n", verb="skip", saga_id="s1", target="a.b", before=b"{}", after=b"[]")
        await bench.coordination.write(CoordinatorChanges(instances=(instance("s1"),), audits=(act,)))
        await bench.coordination.write(CoordinatorChanges(audits=(replace(act, saga_id="s2"),)))
        (stored,) = await bench.desk.audits("s1")
        assert replace(stored, id=0) == act
        assert [row.saga_id for row in await bench.desk.audits(None)] == ["s2", "s1"]

    # --- what participants keep --------------------------------------------------------------------------------

    async def test_a_sagas_footprints_are_found_whatever_the_service(self, bench: OperatingBench) -> None:
        saga = saga_id()
        one, two = full_run(saga), run(saga, "payment.take")
        gates = (gate(saga, service=OTHER), gate(saga))
        rows = (dead(1, saga=saga), waiting(saga, NOW, service=OTHER, message_id="1"))
        changes = Changes(insert_runs=(one, two, run(saga_id())), gates=gates, insert_deliveries=(*rows, dead(2)))
        await put(bench.store, changes, saga)
        found = await bench.desk.find_runs(saga)
        assert found.runs == tuple(replace(row, revision=1) for row in (two, one))
        assert found.gates == gates
        assert tuple(replace(row, id=0) for row in found.deliveries) == rows
        assert await bench.desk.find_runs(saga_id()) == SagaRows()

    async def test_ends_whose_handler_fails_are_found_by_saga_or_all(self, bench: OperatingBench) -> None:
        ends = [untold(f"s{n}", n, service=SERVICE if n < 3 else OTHER) for n in (0, 1, 2, 3)]
        step = replace(untold("s4", 2), step=STEP)
        await put(bench.store, Changes(insert_deliveries=(*ends, step, dead(9), waiting("s1", NOW, message_id="x"))))
        found = await bench.desk.untold_ends()
        assert [(end.saga_id, end.service, end.attempt, end.error) for end in found] == [
            ("s3", OTHER, 3, "SMTPError"),
            ("s2", SERVICE, 2, "SMTPError"),
            ("s1", SERVICE, 1, "SMTPError"),
        ]
        assert [end.saga_id for end in await bench.desk.untold_ends(["s1", "s3", "s0", "none"])] == ["s3", "s1"]
        assert [end.saga_id for end in await bench.desk.untold_ends(limit=1)] == ["s3"]

    # --- the outbox --------------------------------------------------------------------------------------------

    async def test_a_backlog_is_counted_by_service_and_shard_with_who_is_at_it(self, bench: OperatingBench) -> None:
        assert isinstance(bench.desk, Backlogged)
        assert await bench.desk.backlog() == Backlog()
        plain, keyed = outgoing("k1"), replace(outgoing("k2"), shard=3, service=OTHER)
        await put(bench.store, Changes(outbox=(plain,)))
        await bench.pass_time(2.0)
        await put(bench.store, Changes(outbox=(keyed, replace(keyed, id="last"))))
        await bench.store.attend("me", 60.0)
        await bench.store.hold_shards("me", [3], 60.0)
        found = await bench.desk.backlog()
        assert (found.rows, [(one.service, one.rows) for one in found.services]) == (3, [(OTHER, 2), (SERVICE, 1)])
        assert [(one.shard, one.rows, one.owner) for one in found.shards] == [(3, 2, "me")]
        assert (found.relays, found.sweeper) == (("me",), "")
        assert found.oldest is not None
        assert (found.oldest.id, found.oldest.key, found.oldest.topic) == (plain.id, "k1", "stock.events")
        assert found.oldest_seconds == pytest.approx(found.oldest.age_seconds, abs=0.5)
        assert found.oldest_seconds > found.shards[0].oldest_seconds
        assert all(0 < one.seconds_left <= 60 for one in found.leases)

    # --- opening -----------------------------------------------------------------------------------------------

    async def test_a_database_without_tables_is_refused(self, bench: OperatingBench) -> None:
        with pytest.raises(SettingsError, match="has come up once"):
            async with bench.on_nothing():
                pass

    async def test_a_services_database_knows_no_sagas_of_a_coordinator(self, bench: OperatingBench) -> None:
        async with await bench.on_a_service() as desk:
            assert await desk.list_dead(ALL) == []
            with pytest.raises(SettingsError, match="Coordinator"):
                await desk.find(InstanceFilter())
            with pytest.raises(SettingsError, match="Coordinator"):
                await desk.counts()
