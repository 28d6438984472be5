from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from saga._core.audit import AuditRow
from saga._core.bodies import RefusalData
from saga._core.inspecting import InstancePlace
from saga._core.instance import Instance, Phase
from saga._core.letters import LetterFilter
from saga._core.overview import Minute
from saga._core.queues import AuditFilter
from saga._core.rows import Changes, CoordinatorChanges, Cursor, DeliveryRow, InstanceRow, PlanRow
from saga._core.sagas import Held, SagaFilter, SagaLine, SagaQuery, line_place
from saga._core.stored_instance import instance_row
from saga._core.words import Cause, Mark, Reason
from saga.ports import CoordinationStore, Store
from saga.ports.overseeing import OverseeingStore, Side
from tests.contracts.operating_contract import STEP, dead
from tests.contracts.store_rows import NOW, OTHER, gate, outgoing, put, run, waiting

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class OverseeingBench(Protocol):
    """What the contract needs of an adapter: one migrated database of a service and a coordinator, and a view of it."""

    @property
    def store(self) -> Store: ...
    @property
    def coordination(self) -> CoordinationStore: ...
    @property
    def view(self) -> OverseeingStore: ...

    async def on_a_service(self) -> OverseeingStore:
        """Return a view of a database that only a service has migrated."""
        ...

    async def explained(self, query: SagaQuery, after: InstancePlace | None = None) -> Sequence[str]:
        """Return how the database would read a list, and count it, one text for each statement."""
        ...

    async def others_explained(self) -> Mapping[str, str]:
        """Return how the database would answer what else is asked of the instances, by query."""
        ...


def saga(
    number: int,
    *,
    name: str = "checkout",
    version: int = 1,
    tenant: str = "",
    plan: str = "h",
    started: datetime | None = None,
    **fields: Any,
) -> InstanceRow:
    """Return a saga that began `number` minutes after NOW."""
    instance = Instance(saga_id=f"{number:04d}-saga", expires_at=NOW + DAY)
    return instance_row(
        replace(instance, **fields),
        saga=name,
        version=version,
        plan=plan,
        tenant=tenant,
        partition=0,
        revision=0,
        started_at=started or NOW + number * MINUTE,
    )


async def keep(bench: OverseeingBench, *rows: InstanceRow) -> None:
    await bench.coordination.write(CoordinatorChanges(instances=rows))


async def kill(bench: OverseeingBench, *rows: DeliveryRow) -> None:
    await put(bench.store, Changes(insert_deliveries=rows))


async def found(bench: OverseeingBench, query: SagaQuery | None = None, limit: int = 100, **wanted: Any) -> list[int]:
    """Return the numbers of the sagas in a list, read two at a time, and hold the count against it."""
    query = query or SagaQuery(wanted=SagaFilter(**wanted))
    lines: list[SagaLine] = []
    after: InstancePlace | None = None
    while page := await bench.view.lines(query, after=after, limit=2):
        lines += page
        after = line_place(page[-1])
    assert sum((await bench.view.count(query, cap=1000)).values()) == len(lines)
    assert [line.saga_id for line in await bench.view.lines(query, limit=limit)] == [line.saga_id for line in lines]
    return [int(line.saga_id.partition("-")[0]) for line in lines]


REFUSED: dict[str, Any] = {
    "cause": Cause.REFUSED,
    "detail": "payment.capture",
    "refusal": RefusalData(type="card.declined.v1", data=b'{"card":"4111"}'),
}
COMPENSATED: dict[str, Any] = {**REFUSED, "phase": Phase.COMPENSATED}
STUCK: dict[str, Any] = {
    "phase": Phase.CLOSING,
    "stuck": Cause.UNDO_FAILED,
    "stuck_detail": "stock.release/2of5: ConnectionError: Warehouse 7 is away",
    "cause": Cause.CANCELLED,
}


class OverseeingContract:
    """What every database answers a console; run by each adapter."""

    # --- lists ------------------------------------------------------------------------------------------------

    async def test_a_line_says_what_is_in_the_row(self, bench: OverseeingBench) -> None:
        ended = NOW + timedelta(hours=1)
        held: dict[str, Any] = {"mark": Mark.HELD, "due_at": NOW + DAY}
        await keep(bench, saga(1, tenant="acme", **COMPENSATED, ended_at=ended), saga(2, **held))
        free, done = await bench.view.lines(SagaQuery())
        assert done == SagaLine(
            saga_id="0001-saga",
            saga="checkout",
            version=1,
            plan="h",
            tenant="acme",
            phase="compensated",
            step="payment.capture",
            error="refused: payment.capture: card.declined.v1",
            held=Held.FREE,
            due_at=None,
            started_at=NOW + MINUTE,
            ended_at=ended,
            revision=1,
        )
        assert (free.held, free.due_at, free.step, free.error) == (Held.HELD, NOW + DAY, "", "")

    async def test_lists_are_newest_first_with_unknown_starts_on_top(self, bench: OverseeingBench) -> None:
        unknown = [replace(saga(n), started_at=None) for n in (8, 9)]
        same = [saga(n, started=NOW) for n in (5, 3, 4)]
        await keep(bench, *(saga(n) for n in (1, 2, 6)), *unknown, *same)
        assert await found(bench) == [9, 8, 6, 2, 1, 5, 4, 3]
        assert await found(bench, saga="checkout") == [9, 8, 6, 2, 1, 5, 4, 3]
        assert await found(bench, phases=("running",)) == [9, 8, 6, 2, 1, 5, 4, 3]

    async def test_every_field_of_a_filter_counts(self, bench: OverseeingBench) -> None:
        ended = [NOW + timedelta(hours=n) for n in range(8)]
        await keep(
            bench,
            saga(1, name="refund", phase=Phase.COMPLETED, ended_at=ended[1]),
            saga(2, version=2, tenant="acme"),
            saga(3, **COMPENSATED, ended_at=ended[3]),
            saga(4, **STUCK),
            saga(5, cause=Cause.FAILED, detail="stock.reserve: TimeoutError: no answer", phase=Phase.CLOSING),
            saga(6, phase=Phase.COMPLETED, ended_at=ended[6]),
            replace(saga(7), started_at=None),
        )
        assert await found(bench, saga="refund") == [1]
        assert await found(bench, saga="checkout", version=2) == [2]
        assert await found(bench, tenant="acme") == [2]
        assert await found(bench, phases=("stuck",)) == [4]
        assert await found(bench, phases=("stuck", "closing")) == [5, 4]
        assert await found(bench, phases=("stuck", "completed")) == [6, 4, 1]
        assert await found(bench, phases=("compensated",)) == [3]
        assert await found(bench, phases=("compensated", "stuck")) == [4, 3]
        assert await found(bench, phases=("completed",), saga="checkout") == [6]
        assert await found(bench, step="payment.capture") == [3]
        assert await found(bench, step="stock.release") == [4]
        assert await found(bench, error="warehouse 7") == [4]
        assert await found(bench, error="%") == []
        assert await found(bench, started_from=NOW + 3 * MINUTE, started_before=NOW + 5 * MINUTE) == [4, 3]
        assert await found(bench, started_from=NOW + 6 * MINUTE) == [6]
        assert await found(bench, ended_from=ended[1], ended_before=ended[6]) == [3, 1]
        assert await found(bench, ended_from=ended[3]) == [6, 3]
        assert await found(bench, ended_before=ended[3]) == [1]
        assert await found(bench, saga_id="0004") == [4]
        assert await found(bench, saga_id="0004-saga", phases=("completed",)) == []
        assert await found(bench, saga="nothing") == []

    async def test_keys_are_looked_for_by_the_ids_they_make(self, bench: OverseeingBench) -> None:
        await keep(bench, *(saga(n) for n in (1, 2, 3)))
        key = SagaFilter(key="k")
        assert await found(bench, SagaQuery(wanted=key, ids=("0003-saga", "0001-saga", "nothing"))) == [3, 1]
        assert await found(bench, SagaQuery(wanted=key)) == []
        both = SagaFilter(key="k", text="0003")
        assert await found(bench, SagaQuery(wanted=both, ids=("0003-saga", "0001-saga"))) == [3]
        assert await found(bench, SagaQuery(wanted=both)) == []

    async def test_one_text_is_looked_for_everywhere_and_each_saga_found_once(self, bench: OverseeingBench) -> None:
        stuck = saga(4, phase=Phase.CLOSING, stuck=Cause.TOO_LATE, stuck_detail="stock.release: 0001-saga is there")
        await keep(bench, saga(1, **COMPENSATED), saga(2), saga(3, **COMPENSATED), stuck)

        def text(text: str, *ids: str, **others: Any) -> SagaQuery:
            return SagaQuery(wanted=SagaFilter(text=text, **others), text_ids=ids)

        assert await found(bench, text("0001")) == [4, 1]
        assert await found(bench, text(" payment.capture ")) == [3, 1]
        assert await found(bench, text("DECLINED")) == [3, 1]
        assert await found(bench, text("declined", "0002-saga", "0003-saga")) == [3, 2, 1]
        assert await found(bench, text("declined", phases=("stuck",))) == []
        assert await found(bench, text("' or 1=1 --")) == []

    async def test_counts_are_by_phase_and_stop_at_a_cap(self, bench: OverseeingBench) -> None:
        await keep(bench, *(saga(n) for n in range(1, 6)), saga(6, **STUCK))
        assert await bench.view.count(SagaQuery(), cap=100) == {"running": 5, "stuck": 1}
        assert sum((await bench.view.count(SagaQuery(), cap=4)).values()) == 4

    async def test_lists_and_counts_go_by_an_index(self, bench: OverseeingBench) -> None:
        rows = [saga(n, name=("refund" if n % 100 == 0 else "checkout"), **_fate(n)) for n in range(1, 3000)]
        for first in range(0, len(rows), 500):
            await keep(bench, *rows[first : first + 500])
        asked: list[dict[str, Any]] = [
            *({}, {"saga": "refund"}, {"tenant": "acme"}, {"phases": ("stuck",)}, {"phases": ("completed",)}),
            *({"phases": ("compensated",)}, {"step": "payment.capture"}, {"error": "warehouse"}, {"text": "warehouse"}),
            *({"saga_id": "0007"}, {"key": "k"}, {"started_from": NOW + DAY}, {"ended_from": NOW + DAY}),
            *({"ended_before": NOW - DAY}, {"phases": ("running", "stuck"), "saga": "refund"}),
        ]
        for fields in asked:
            query = SagaQuery(wanted=SagaFilter(**fields), ids=("0001-saga",), text_ids=("0001-saga",))
            for after in (None, (NOW + DAY, "0500-saga")):
                for plan in await bench.explained(query, after):
                    assert "saga_instance" in plan, plan
                    assert not reads_whole_table(plan), f"{fields}\n{plan}"
        for name, plan in (await bench.others_explained()).items():
            assert not reads_whole_table(plan), f"{name}\n{plan}"

    # --- everything at once -----------------------------------------------------------------------------------

    async def test_the_census_counts_what_is_open_and_finds_the_oldest(self, bench: OverseeingBench) -> None:
        done = saga(9, phase=Phase.COMPLETED, ended_at=NOW)
        await keep(bench, saga(1), saga(2, plan="i"), saga(3, **STUCK), saga(4, name="refund", version=2), done)
        census = await bench.view.census(oldest=2)
        assert [(one.saga, one.version, one.phase, one.sagas) for one in census.open] == [
            ("checkout", 1, "running", 2),
            ("checkout", 1, "stuck", 1),
            ("refund", 2, "running", 1),
        ]
        assert census.plans == {"h": 3, "i": 1}
        assert [line.saga_id for line in census.oldest] == ["0001-saga", "0002-saga"]

    async def test_minutes_are_half_open_and_capped(self, bench: OverseeingBench) -> None:
        at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        almost = MINUTE - timedelta(microseconds=1)
        await keep(
            bench,
            saga(1, started=at, phase=Phase.COMPLETED, ended_at=at + almost),
            saga(2, started=at + almost, **COMPENSATED, ended_at=at + MINUTE),
            saga(3, started=at + MINUTE),
            saga(5, started=at + DAY, phase=Phase.COMPLETED, ended_at=at + MINUTE),
            replace(saga(4), started_at=None),
        )
        minutes = await bench.view.minutes([at, at + MINUTE, at + DAY])
        assert list(minutes) == [
            Minute(at=at, started=2, completed=1),
            Minute(at=at + MINUTE, started=1, completed=1, compensated=1),
            Minute(at=at + DAY, started=1),
        ]
        assert [one.started for one in await bench.view.minutes([at], cap=1)] == [1]

    async def test_partitions_say_how_far_they_are_known(self, bench: OverseeingBench) -> None:
        now = await bench.view.now()
        until = now - timedelta(seconds=90)
        swaps = ((None, Cursor(partition=1, position=7, observed_until=until)), (None, Cursor(partition=0, position=3)))
        await bench.coordination.write(CoordinatorChanges(cursors=swaps))
        late = [replace(saga(n), partition=1, due_at=until + n * MINUTE) for n in range(3)]
        await keep(bench, *late, replace(saga(3), due_at=now + DAY), saga(4))
        ahead, behind = await bench.view.partitions()
        assert (ahead.partition, ahead.position, ahead.observed_until, ahead.next_due) == (0, 3, None, now + DAY)
        assert ahead.overdue_seconds == 0.0
        assert (behind.partition, behind.position, behind.observed_until, behind.next_due) == (1, 7, until, until)
        assert 90 <= behind.overdue_seconds < 120

    async def test_plans_come_with_their_time_newest_first(self, bench: OverseeingBench) -> None:
        plans = [
            PlanRow(saga=saga, version=version, revision=revision, hash=f"{saga}{version}{revision}", body=b"{}")
            for saga, version, revision in (("b", 1, 1), ("a", 1, 1), ("a", 1, 2), ("a", 2, 1))
        ]
        before = await bench.view.now()
        await bench.coordination.put_plans(plans)
        stored = await bench.view.stored_plans()
        assert [one.row.hash for one in stored] == ["a21", "a12", "a11", "b11"]
        assert all(before - MINUTE <= one.stored_at <= before + MINUTE for one in stored)

    # --- one saga ---------------------------------------------------------------------------------------------

    async def test_one_saga_is_read_whole_and_found_by_its_trace(self, bench: OverseeingBench) -> None:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        traced = saga(1, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        await keep(bench, traced, saga(2), saga(3))
        assert await bench.view.instance("0001-saga") == replace(traced, revision=1)
        assert await bench.view.instance("nothing") is None
        assert await bench.view.saga_of_trace(trace) == "0001-saga"
        assert await bench.view.saga_of_trace(trace, newest=2) == ""
        assert await bench.view.saga_of_trace("0" * 32) == ""

    async def test_a_mark_moves_with_everything_of_a_saga_and_nothing_else(self, bench: OverseeingBench) -> None:
        marks = [await bench.view.saga_mark("0001-saga")]
        assert marks == [""]

        async def moved(of: str = "0001-saga") -> bool:
            marks.append(await bench.view.saga_mark(of))
            return marks[-1] != marks[-2]

        one = saga(1)
        await keep(bench, one)
        assert await moved()
        await keep(bench, replace(saga(1), phase="closing", revision=1))
        assert await moved()
        await put(bench.store, Changes(insert_runs=(run("0001-saga"),)))
        assert await moved()
        await put(bench.store, Changes(gates=(gate("0001-saga"),)))
        assert await moved()
        await put(bench.store, Changes(insert_deliveries=(waiting("0001-saga", NOW, message_id="m"),)))
        assert await moved()
        await bench.coordination.write(CoordinatorChanges(audits=(_act("0001-saga"),)))
        assert await moved()
        await keep(bench, saga(2))
        await put(bench.store, Changes(insert_runs=(run("0002-saga"),)))
        assert not await moved()

    # --- either side ------------------------------------------------------------------------------------------

    async def test_a_database_says_whose_it_is(self, bench: OverseeingBench) -> None:
        assert await bench.view.sides() == {Side.COORDINATOR, Side.PARTICIPANT}
        async with await bench.on_a_service() as service:
            assert await service.sides() == {Side.PARTICIPANT}
            assert sorted(await service.marks()) == ["audits", "dead", "sent"]
            assert await service.saga_mark("s") == ""
            assert list(await service.dead_lines(LetterFilter())) == []

    async def test_dead_letters_are_listed_newest_first_without_their_messages(self, bench: OverseeingBench) -> None:
        await kill(bench, *(dead(n) for n in range(5)), dead(5, "other", OTHER, "payment.take", "s"))
        await kill(bench, waiting("s", NOW, Reason.PARKED))
        first = await bench.view.dead_lines(LetterFilter(), limit=4)
        rest = await bench.view.dead_lines(LetterFilter(), before_id=first[-1].id, limit=4)
        assert [line.offset for line in (*first, *rest)] == [5, 4, 3, 2, 1, 0]
        line = first[0]
        assert (line.service, line.saga_id, line.step, line.error) == (OTHER, "s", "payment.take", "other")
        assert (line.attempt, line.message_id, line.died_at, line.topic) == (7, "m5", NOW, "orders.events")
        assert (line.bytes, line.partition, line.database) == (3, 3, "")
        assert [one.offset for one in await bench.view.dead_lines(LetterFilter(step=STEP, error="e"))] == [
            4,
            3,
            2,
            1,
            0,
        ]
        assert [one.offset for one in await bench.view.dead_lines(LetterFilter(ids=(line.id,)))] == [5]
        assert [one.offset for one in await bench.view.dead_lines(LetterFilter(service=OTHER, saga_id="s"))] == [5]
        letters, oldest = await bench.view.count_dead(cap=4)
        assert letters == 4
        assert oldest >= 0.0

    async def test_nothing_is_dead_in_an_empty_database(self, bench: OverseeingBench) -> None:
        assert await bench.view.count_dead(cap=10) == (0, 0.0)

    async def test_acts_are_listed_newest_first_by_every_field(self, bench: OverseeingBench) -> None:
        acts = [_act("a", "ann", "retry"), _act("b", "bob", "retry"), _act("a", "bob", "cancel")]
        await bench.coordination.write(CoordinatorChanges(audits=tuple(acts)))
        listed = await bench.view.acts(AuditFilter())
        assert [replace(act, id=0) for act in listed] == acts[::-1]
        assert list(await bench.view.acts(AuditFilter(), before_id=listed[0].id, limit=1)) == [listed[1]]

        async def places(**fields: str) -> list[int]:
            return [listed.index(act) for act in await bench.view.acts(AuditFilter(**fields))]

        assert await places(saga_id="a") == [0, 2]
        assert await places(who="bob") == [0, 1]
        assert await places(verb="retry", who="ann") == [2]

    async def test_marks_move_when_there_is_something_new(self, bench: OverseeingBench) -> None:
        before = dict(await bench.view.marks())

        async def moved() -> set[str]:
            nonlocal before
            now = dict(await bench.view.marks())
            changed = {name for name in now if now[name] != before[name]}
            before = now
            return changed

        assert await moved() == set()
        await bench.coordination.write(CoordinatorChanges(cursors=((None, Cursor(partition=0, position=1)),)))
        assert await moved() == {"read"}
        seqs = await put(bench.store, Changes(outbox=(outgoing(),)))
        assert await moved() == {"sent"}
        await bench.store.delete(seqs)
        assert await moved() == {"sent"}
        await kill(bench, dead(1))
        assert await moved() == {"dead"}
        letters = await bench.view.list_dead(LetterFilter())
        await bench.view.discard([letters[0].id], who="ann", why="old")
        assert await moved() == {"dead", "audits"}
        plan = PlanRow(saga="a", version=1, revision=1, hash="h", body=b"{}")
        await bench.coordination.put_plans([plan])
        assert await moved() == {"plans"}


def reads_whole_table(plan: str) -> bool:
    """Return whether a plan of either database looks at every row of the instances themselves."""
    lines = [line.strip() for line in plan.splitlines()]
    return any(
        "Seq Scan on saga_instance" in line
        or (line.startswith("SCAN ") and "saga_instance" in line and "INDEX" not in line)
        for line in lines
    )


def _act(saga_id: str, who: str = "ann", verb: str = "retry") -> AuditRow:
    return AuditRow(at=NOW, who=who, why="because", verb=verb, saga_id=saga_id, target=saga_id)


def _fate(number: int) -> dict[str, Any]:
    if number % 50 == 0:
        return STUCK
    if number % 10 == 0:
        return {**COMPENSATED, "ended_at": NOW + number * MINUTE}
    return {} if number % 33 == 0 else {"phase": Phase.COMPLETED, "ended_at": NOW + number * MINUTE}
