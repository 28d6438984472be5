from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from saga._core.audit import AuditRow
from saga._core.envelope import Headers
from saga._core.instance import Instance, Phase
from saga._core.keeping import Aging, OpenRows, RowCaps
from saga._core.rows import Changes, CoordinatorChanges, DeliveryRow, InstanceRow, PlanRow
from saga._core.stored_instance import instance_row
from saga._core.times import format_time
from saga._core.words import Reason
from tests.contracts.store_rows import SERVICE, claim, gate, outgoing, put, run, saga_id, waiting

DAY = timedelta(days=1)
MONTH_SECONDS = 30 * 86_400.0
TOLERANCE_SECONDS = 60.0


class KeepingBench(Protocol):
    """What the contract needs of an adapter: a participant's store on a migrated database, and its clock."""

    store: Any

    async def now(self) -> datetime: ...


class CoordinatorBench(Protocol):
    """The same of a coordinator's."""

    store: Any
    participant: Any


def letter(saga: str, died_at: datetime, expires: str = "", service: str = SERVICE) -> DeliveryRow:
    row = waiting(saga, died_at, Reason.DEAD, service)
    headers: Headers = (("ce_id", b"1"), ("ce_expirytime", expires.encode()), ("other", b"\xff"))
    return replace(row, raw=replace(row.raw, headers=headers if expires else (("ce_id", b"1"),)))


def audit(at: datetime, target: str) -> AuditRow:
    return AuditRow(at=at, who="ann", why="w", verb="v", saga_id="s", target=target, before=b"{}", after=b"{}")


async def targets(store: Any, table: str, column: str) -> set[str]:
    async with store.unit(claim()) as unit:
        return {row[column] for row in await unit.db.fetch(f"select {column} from {table}")}


class KeepingContract:
    """What every participant's store does about rows that are old or many."""

    async def test_letters_go_when_they_are_old_and_their_saga_is_over(self, bench: KeepingBench) -> None:
        now = await bench.now()
        old, past, future = now - 31 * DAY, format_time(now - 2 * DAY), format_time(now + 2 * DAY)
        goes = [saga_id() for _ in range(4)]
        stays = [saga_id() for _ in range(4)]
        letters = (
            letter(goes[0], old),
            letter(goes[1], old, past),
            letter(goes[2], old, "9nonsense"),
            letter(goes[3], old, past),
            letter(stays[0], now - 29 * DAY, past),
            letter(stays[1], old, future),
            letter(stays[2], old, past),
            replace(letter(stays[3], old, past), reason=Reason.PARKED),
        )
        gates = (
            replace(gate(stays[2]), keep_until=now + DAY),
            replace(gate(goes[3]), keep_until=now - DAY),
        )
        await put(bench.store, Changes(insert_deliveries=letters, gates=gates))
        assert await bench.store.prune(Aging.LETTERS, 3, MONTH_SECONDS) == 3
        assert await bench.store.prune(Aging.LETTERS, 3, MONTH_SECONDS) == 1
        assert await bench.store.prune(Aging.LETTERS, 3, MONTH_SECONDS) == 0
        assert await targets(bench.store, "saga_delivery", "saga_id") == set(stays)

    async def test_open_rows_are_counted_up_to_their_caps(self, bench: KeepingBench) -> None:
        now = await bench.now()
        many, few = RowCaps(), RowCaps(outbox_rows=2, waiting_deliveries=1, open_runs=1)
        assert (await bench.store.open_rows(many)).outbox_age_seconds == 0
        runs = tuple(run(saga_id(), pending_at=now + DAY) for _ in range(2))
        deliveries = (waiting(saga_id(), now), waiting(saga_id(), now, Reason.PARKED), waiting("", now, Reason.DEAD))
        outbox = tuple(outgoing() for _ in range(3))
        changes = Changes(insert_runs=(*runs, run(saga_id())), insert_deliveries=deliveries, outbox=outbox)
        await put(bench.store, changes)
        rows = await bench.store.open_rows(many)
        assert (rows.outbox_rows, rows.waiting_deliveries, rows.open_runs) == (3, 2, 2)
        assert 0 <= rows.outbox_age_seconds < TOLERANCE_SECONDS
        rows = await bench.store.open_rows(few)
        assert (rows.outbox_rows, rows.waiting_deliveries, rows.open_runs) == (2, 1, 1)
        assert (await bench.store.open_rows(RowCaps(outbox_rows=None))).outbox_rows == 0

    async def test_it_says_what_ages_and_finds_nothing_in_empty_tables(self, bench: KeepingBench) -> None:
        assert [await bench.store.prune(what, 10, 0.0) for what in bench.store.aging] == [0] * len(bench.store.aging)
        assert {Aging.RUNS, Aging.GATES, Aging.LETTERS, Aging.AUDITS} <= set(bench.store.aging)
        assert list(bench.store.aging).index(Aging.GATES) > list(bench.store.aging).index(Aging.LOCKS)


PLAN = PlanRow(saga="checkout", version=1, revision=1, hash="h1", body=b"{}")


def ended(now: datetime, days: float, phase: Phase = Phase.COMPLETED, **changes: Any) -> InstanceRow:
    at = now - days * DAY
    state = Instance(saga_id=saga_id(), expires_at=at + DAY, phase=phase, ended_at=at)
    began = changes.pop("started_at", at - DAY)
    plan = changes.pop("plan", "h9")
    return instance_row(
        replace(state, **changes),
        saga="checkout",
        version=1,
        plan=plan,
        tenant="",
        partition=0,
        revision=0,
        started_at=began,
    )


class CoordinatorKeepingContract:
    """What every coordinator's store does about rows that are old."""

    async def test_sagas_go_a_month_after_their_end_and_past_their_expiry(self, bench: CoordinatorBench) -> None:
        now = await bench.store.now()
        goes = (
            ended(now, 31),
            ended(now, 31, Phase.COMPENSATED),
            ended(now, 31, started_at=None),
            ended(now, 99, keep_until=now - 3 * DAY),
        )
        stays = (
            ended(now, 29),
            ended(now, 31, expires_at=now + DAY),
            ended(now, 31, keep_until=now + DAY),
            ended(now, 31, due_at=now),
            ended(now, 31, Phase.READY),
            ended(now, 31, Phase.RUNNING, ended_at=None),
            ended(now, 31, Phase.COMPLETED, started_at=None, expires_at=now + DAY),
        )
        await bench.store.write(CoordinatorChanges(instances=(*goes, *stays)))
        assert await bench.store.prune(Aging.INSTANCES, 3, MONTH_SECONDS) == 3
        assert await bench.store.prune(Aging.INSTANCES, 3, MONTH_SECONDS) == 1
        assert await bench.store.prune(Aging.INSTANCES, 3, MONTH_SECONDS) == 0
        assert set(await bench.store.load([row.saga_id for row in (*goes, *stays)])) == {row.saga_id for row in stays}

    async def test_plans_go_when_a_newer_one_is_old_and_no_open_saga_has_them(self, bench: CoordinatorBench) -> None:
        now = await bench.store.now()
        plans = [replace(PLAN, revision=number, hash=f"h{number}") for number in (1, 2, 3, 4)]
        await bench.store.put_plans([*plans, replace(PLAN, version=2, hash="other")])
        open_ = ended(now, 0, Phase.RUNNING, plan="h1", ended_at=None)
        await bench.store.write(CoordinatorChanges(instances=(open_, ended(now, 1, plan="h2"))))
        assert await bench.store.prune(Aging.PLANS, 10, 3600.0) == 0
        assert await bench.store.prune(Aging.PLANS, 10, -3600.0) == 2
        assert [row.hash for row in await bench.store.put_plans(())] == ["h1", "h4", "other"]

    async def test_records_nobody_could_read_go_and_letters_of_services_stay(self, bench: CoordinatorBench) -> None:
        now = await bench.store.now()
        old, future = now - 31 * DAY, format_time(now + 2 * DAY)
        await put(bench.participant, Changes(insert_deliveries=(letter(saga_id(), old),)))
        dead = (letter("", old, service="c"), letter("", old, future, "c"), letter("", now, service="c"))
        await bench.store.write(CoordinatorChanges(dead=dead))
        assert await bench.store.prune(Aging.LETTERS, 10, MONTH_SECONDS) == 1
        assert await bench.store.prune(Aging.LETTERS, 10, MONTH_SECONDS) == 0

    async def test_the_outbox_of_a_coordinator_is_counted(self, bench: CoordinatorBench) -> None:
        assert await bench.store.open_rows(RowCaps()) == OpenRows()
        await bench.store.write(CoordinatorChanges(outbox=(outgoing(), outgoing())))
        rows = await bench.store.open_rows(RowCaps(outbox_rows=1))
        assert rows.outbox_rows == 1
        assert 0 <= rows.outbox_age_seconds < TOLERANCE_SECONDS

    async def test_the_trail_goes_from_its_beginning(self, bench: CoordinatorBench) -> None:
        now = await bench.store.now()
        for days, target in ((40, "a"), (35, "b"), (31, "c"), (1, "d")):
            await bench.store.write(CoordinatorChanges(audits=(audit(now - days * DAY, target),)))
        assert await bench.store.prune(Aging.AUDITS, 2, MONTH_SECONDS) == 2
        assert await bench.participant.prune(Aging.AUDITS, 2, MONTH_SECONDS) == 1
        assert await bench.store.prune(Aging.AUDITS, 2, MONTH_SECONDS) == 0
        assert await targets(bench.participant, "saga_audit", "target") == {"d"}
