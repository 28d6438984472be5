"""Read a running fleet as a console does: two databases, the memory transport, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Annotated, Any

import anyio
import pytest

from outbox.sqlite import SqliteCoordinationStore
from outbox.sqlite.overseeing import SqliteOverseeingStore
from outbox.urls import open_coordination_store, open_store
from saga import NOTHING, PII, Dependency, Event, Refusal, Run, Saga, Secret, Service
from saga._core.breaker import Phase as BreakerPhase
from saga._core.fleet import CallReport, FleetVerdict, report_message, verdict_message
from saga._core.letters import LetterFilter
from saga._core.overview import Card, Minute
from saga._core.queues import AuditFilter
from saga._core.rows import Changes as RowChanges
from saga._core.sagas import COUNT_CAP, PHASES, SagaFilter, column_names, values_of
from saga._core.stored_instance import instance_of
from saga._core.topics import BREAKERS, MANIFESTS
from saga._core.whole import Payloads, Shown
from saga._core.words import RunStatus
from saga.app import App, Coordinator, Tuning
from saga.console._hearing import Ear
from saga.console._minutes import Minutes
from saga.console.reading import Reader
from saga.errors import SettingsError, StoreUnavailable
from saga.ports import Claim, Cleanup, Store, TopicSpec, Transport
from tests.contracts.operating_contract import dead
from tests.contracts.store_rows import put
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)
TABLES = (BREAKERS, MANIFESTS)
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Booked(Event, name="trip.booked", version=1):
    trip: str
    guest: Annotated[str, PII]
    card: Annotated[str, Secret]
    refuse: bool = False


class Reserved(Event, name="room.reserved", version=1):
    trip: str
    guest: Annotated[str, PII]
    refuse: bool


class Paid(Event, name="trip.paid", version=1):
    trip: str


class Declined(Refusal, name="card.declined", version=1):
    card: Annotated[str, Secret]


@dataclass
class Fleet:
    reader: Reader
    place: Any
    app: App
    store: Store
    view: SqliteOverseeingStore
    transport: Transport
    address: str

    async def run(self, key: str, *, refuse: bool = False, tenant: str = "") -> str:
        """Run a saga to its end and return its ID once the coordinator knows that it is over."""
        event = Booked(trip=key, guest="Ada Lovelace", card="4111-1111", refuse=refuse)
        handle = await self.place(event, key=key, tenant=tenant)
        await handle.outcome(20)

        async def ended() -> bool:
            return any([line.ended_at async for line in self.reader.export(SagaFilter(key=key, tenant=tenant))])

        await until(ended)
        return str(handle.saga_id)


@asynccontextmanager
async def fleet(*, others: tuple[str, ...] = ()) -> AsyncGenerator[Fleet]:
    saga = Saga("trip", version=1, timeout=timedelta(minutes=1))
    desk, hotel, bank = map(Service, ("desk", "hotel", "bank"))
    place = desk.starts(saga, Booked)

    @hotel.step(saga, compensation=NOTHING)
    async def reserve(booked: Booked, run: Run) -> Reserved:
        return Reserved(trip=booked.trip, guest=booked.guest, refuse=booked.refuse)

    @bank.pivot(saga, calls=Dependency("gateway"))
    async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
        return Declined(card="4111-1111") if reserved.refuse else Paid(trip=reserved.trip)

    name = f"console{next(_NUMBERS)}"
    address, clock = f"sqlite:///:memory:?name={name}", VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        await store.migrate()
        coordinator = Coordinator(store=coordination)
        app = App([desk, hotel, bank], coordinator=coordinator, store=store, transport=transport, tuning=TUNING)
        await stack.enter_async_context(app)
        view = SqliteOverseeingStore(":memory:", name=name, clock=clock)
        await stack.enter_async_context(view)
        reader = Reader(view, services=[view, *others], transport=transport, clock=clock)
        await stack.enter_async_context(reader)
        yield Fleet(reader=reader, place=place, app=app, store=store, view=view, transport=transport, address=address)


# --- one saga ------------------------------------------------------------------------------------------------


async def test_one_saga_is_read_whole_and_without_payloads() -> None:
    async with fleet() as up:
        saga_id = await up.run("a", refuse=True)
        whole = await up.reader.saga(saga_id)
        assert whole is not None
        assert (whole.line.phase, whole.line.step) == ("compensated", "bank.pay")
        assert whole.line.error == "refused: bank.pay: card.declined.v1"
        assert whole.plan is not None
        assert [step.name for step in whole.plan.steps] == ["hotel.reserve", "bank.pay"]
        assert [run.step for run in whole.rows.runs] == ["desk.start", "hotel.reserve", "bank.pay"]
        assert whole.rows.runs[2].status is RunStatus.REFUSED
        assert whole.places == {"desk": "coordinator", "hotel": "coordinator", "bank": "coordinator"}
        instance = instance_of(whole.row)
        assert instance.refusal is not None
        assert (instance.refusal.type, instance.refusal.data) == ("card.declined.v1", b"")
        assert "4111" not in repr(whole)
        assert "Ada" not in repr(whole)
        assert whole.missing == ()
        assert await up.reader.saga("nothing") is None


async def test_payloads_need_a_permission_and_marked_fields_stay_hidden() -> None:
    async with fleet() as up:
        saga_id = await up.run("a", refuse=True)
        for one in await up.reader.payloads(saga_id, payloads=Payloads.HIDDEN):
            assert {view.shown for view in (*one.inputs, *one.results)} <= {Shown.HIDDEN}
            assert "Ada" not in repr(one)
        await until(lambda: _announced(up.reader))
        shown = {one.step: one for one in await up.reader.payloads(saga_id, payloads=Payloads.ALLOWED)}
        (taken,), (given,) = shown["hotel.reserve"].inputs, shown["hotel.reserve"].results
        assert (taken.shown, taken.type) == (Shown.REDACTED, "trip.booked.v1")
        assert '"guest": "<PII>"' in taken.text
        assert '"card": "<secret>"' in taken.text
        assert '"trip": "a"' in taken.text
        assert given.shown is Shown.REDACTED
        (refusal,) = shown["bank.pay"].results
        assert (refusal.shown, refusal.text) == (Shown.UNKNOWN, ""), "no manifest has the class of a refusal"
        assert "4111" not in repr(shown)


async def test_classes_given_make_payloads_known() -> None:
    async with fleet() as up:
        saga_id = await up.run("a", refuse=True)
        async with Reader(up.view, events=[Declined]) as reader:
            runs = await reader.payloads(saga_id, payloads=Payloads.ALLOWED)
            by_step = {run.step: run for run in runs}
            assert by_step["bank.pay"].results[0].text == '{\n  "card": "<secret>"\n}'
            assert by_step["hotel.reserve"].inputs[0].shown is Shown.UNKNOWN


async def test_a_revision_moves_with_the_saga() -> None:
    async with fleet() as up:
        assert await up.reader.revision("nothing") == ""
        first, second = await up.run("a"), await up.run("b")
        marks = [await up.reader.revision(first)]
        async with up.store.unit(_claim()) as unit:
            await unit.db.execute("update saga_run set revision = revision + 1 where saga_id = $1", second)
        assert await up.reader.revision(first) == marks[0]
        async with up.store.unit(_claim()) as unit:
            await unit.db.execute("update saga_run set revision = revision + 1 where saga_id = $1", first)
        assert await up.reader.revision(first) != marks[0]


# --- lists ---------------------------------------------------------------------------------------------------


async def test_sagas_are_paged_counted_found_by_key_and_exported() -> None:
    async with fleet() as up:
        ids = [await up.run(key, refuse=key == "k-c") for key in ("k-a", "k-b", "k-c")]
        first = await up.reader.sagas(SagaFilter(), limit=2)
        rest = await up.reader.sagas(SagaFilter(), after=first.after, limit=2)
        assert [line.saga_id for line in (*first.lines, *rest.lines)] == ids[::-1]
        assert rest.after == ""
        assert await up.reader.count(SagaFilter()) == 3
        counts = await up.reader.phase_counts(SagaFilter(phases=("stuck",)))
        assert {phase: n for phase, n in counts.items() if n} == {"completed": 2, "compensated": 1}
        assert tuple(counts) == PHASES
        assert await up.reader.phase_counts(SagaFilter(text="declined")) == {
            **dict.fromkeys(PHASES, 0),
            "compensated": 1,
        }
        for wanted in (SagaFilter(key="k-b"), SagaFilter(text="k-b"), SagaFilter(saga="trip", key="k-b")):
            assert [line.saga_id for line in (await up.reader.sagas(wanted)).lines] == [ids[1]]
        assert (await up.reader.sagas(SagaFilter(), limit=3)).after == ""
        assert (await up.reader.sagas(SagaFilter(key="k-b", tenant="acme"))).lines == ()
        theirs = await up.run("k-b", tenant="acme")
        for wanted in (SagaFilter(key="k-b", tenant="acme"), SagaFilter(text="k-b", tenant="acme")):
            assert [line.saga_id for line in (await up.reader.sagas(wanted)).lines] == [theirs]
        exported = [values_of(line) async for line in up.reader.export(SagaFilter(), limit=2)]
        assert [row["saga_id"] for row in exported] == [theirs, ids[2]]
        assert all(tuple(row) == column_names() for row in exported)


async def test_a_place_made_up_is_refused_in_a_sentence() -> None:
    async with fleet() as up:
        for token in ("x", "!!", "bnVsbA", "WzEsMl0", "eyJhIjogImIifQ"):
            with pytest.raises(SettingsError, match="first page"):
                await up.reader.sagas(SagaFilter(), after=token)
            with pytest.raises(SettingsError, match="first page"):
                await up.reader.audits(after=token)


async def test_letters_and_acts_of_several_databases_are_one_list(tmp_path: Any) -> None:
    path = tmp_path / "elsewhere.db"
    async with open_store(f"sqlite:///{path}") as store:
        await store.migrate()
        await put(store, RowChanges(insert_deliveries=tuple(dead(n, saga="x") for n in range(3))))
        async with fleet(others=(f"sqlite:///{path}",)) as up:
            await put(up.store, RowChanges(insert_deliveries=tuple(dead(n, saga="y") for n in range(2))))
            assert up.reader.databases == ("coordinator", "elsewhere")
            seen: list[tuple[str, int]] = []
            after = ""
            while True:
                page = await up.reader.letters(LetterFilter(), after=after, limit=2)
                seen += [(line.database, line.offset) for line in page.lines]
                if not page.after:
                    break
                after = page.after
            assert sorted(seen) == sorted(
                [("coordinator", 0), ("coordinator", 1), *(("elsewhere", n) for n in range(3))]
            )
            for name in up.reader.databases:
                offsets = [offset for database, offset in seen if database == name]
                assert offsets == sorted(offsets, reverse=True)
            (group, other) = await up.reader.letter_groups()
            assert [(one.database, one.group.letters) for one in (group, other)] == [
                ("elsewhere", 3),
                ("coordinator", 2),
            ]
            page = await up.reader.letters(group.filter, database="elsewhere")
            found = await up.reader.letter("elsewhere", page.lines[0].id, payloads=Payloads.ALLOWED)
            assert found is not None
            assert found[0] == page.lines[0]
            assert found[1].shown is Shown.UNKNOWN, "nobody knows the type of what cannot be read"
            assert await up.reader.letter("elsewhere", 999_999, payloads=Payloads.ALLOWED) is None
            desk = await up.reader.database("elsewhere")
            assert await desk.discard([line.id for line in page.lines], who="ann", why="old") == 3
            acts = await up.reader.audits(AuditFilter(verb="discard"))
            assert [(one.database, one.audit.who) for one in acts.lines] == [("elsewhere", "ann")] * 3


# --- everything at once --------------------------------------------------------------------------------------


async def test_the_overview_holds_every_card() -> None:
    async with fleet() as up:
        await up.run("a")
        await up.run("b", refuse=True)
        await put(up.store, RowChanges(insert_deliveries=(dead(1),)))
        view = await up.reader.overview()
        assert view.by_phase == {}
        assert len(view.minutes) == 60
        assert sum(minute.started for minute in view.minutes) == 2
        assert sum(minute.completed for minute in view.minutes) == 1
        assert sum(minute.compensated for minute in view.minutes) == 1
        assert [(one.database, one.letters) for one in view.letters] == [("coordinator", 1)]
        assert [one.database for one in view.outboxes] == ["coordinator"]
        assert [one.dependency for one in view.breakers] == ["gateway"]
        assert view.open_breakers == ()
        assert len(view.consumers.partitions) > 0
        assert view.missing == ()
        assert (await up.reader.overview()).minutes[:-1] == view.minutes[:-1]


class Counting(SqliteOverseeingStore):
    asked: Sequence[datetime] = ()

    async def minutes(self, starts: Sequence[datetime], *, cap: int = 100_000) -> Sequence[Minute]:
        self.asked = starts
        return await super().minutes(starts, cap=cap)


async def test_minutes_that_are_over_are_counted_once(tmp_path: Any) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 12, 30, 30, tzinfo=UTC))
    path = str(tmp_path / "one.db")
    async with SqliteCoordinationStore(path, clock=clock) as store:
        await store.migrate()
    async with Counting(path, clock=clock) as view:
        minutes, this = Minutes(), clock.at.replace(second=0)
        assert [one.at for one in await minutes.read(view, clock.at)] == [
            this - timedelta(minutes=back) for back in range(59, -1, -1)
        ]
        assert len(view.asked) == 60
        clock.at += timedelta(minutes=2)
        last = [this + timedelta(minutes=more) for more in range(-1, 3)]
        assert [one.at for one in await minutes.read(view, clock.at)][-4:] == last
        assert list(view.asked) == last[1:]


async def test_stuck_and_held_sagas_are_in_the_overview() -> None:
    async with fleet() as up:
        saga_id = await up.run("a")
        async with up.store.unit(_claim()) as unit:
            await unit.db.execute("update saga_instance set phase = 'stuck', error = 'x: y', ended_at = null")
        view = await up.reader.overview()
        assert view.by_phase == {"stuck": 1}
        assert [line.saga_id for line in view.census.stuck] == [saga_id]
        assert [line.saga_id for line in view.census.oldest] == [saga_id]
        (state,) = await up.reader.plans()
        assert (state.saga, state.version, state.open_sagas) == ("trip", 1, 1)
        assert await up.reader.plan(state.hash) == state.plan


async def test_what_runs_is_heard_of_and_who_hears_whom_is_drawn_from_the_plans() -> None:
    async with fleet() as up:
        await up.run("a")

        async def heard() -> bool:
            consumers = await up.reader.consumers()
            return len(consumers.replicas) == 3 and len(consumers.partitions) > 0

        await until(heard)
        consumers = await up.reader.consumers()
        assert {replica.service for replica in consumers.replicas} == {"desk", "hotel", "bank"}
        assert consumers.drift == ()
        assert consumers.missing == ()
        assert all(one.overdue_seconds < 60 for one in consumers.partitions)
        drawn = await up.reader.topology()
        assert [(node.service, node.starts, node.steps, node.replicas) for node in drawn.services] == [
            ("bank", (), ("bank.pay",), 1),
            ("desk", ("trip v1",), (), 1),
            ("hotel", (), ("hotel.reserve",), 1),
        ]
        assert [(one.emitter, one.event, one.listener, one.step) for one in drawn.hears] == [
            ("desk", "trip.booked.v1", "hotel", "hotel.reserve"),
            ("hotel", "room.reserved.v1", "bank", "bank.pay"),
        ]


@dataclass
class ManualClock:
    at: datetime

    def now(self) -> datetime:
        return self.at


async def test_breakers_are_as_the_fleet_says_until_its_word_runs_out() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    verdict = FleetVerdict(
        dependency="gateway", phase=BreakerPhase.OPEN, share=0, valid_until=clock.at + timedelta(seconds=20)
    )
    report = CallReport(dependency="gateway", service="bank", slot="0", calls=10, failures=9, at=clock.at)
    async with MemoryTransport() as transport, anyio.create_task_group() as tasks:
        await transport.ensure_topics([TopicSpec(name=name, partitions=1, cleanup=Cleanup.COMPACT) for name in TABLES])
        ear = Ear(transport, clock)
        before = ear.mark
        tasks.start_soon(ear.run)
        async with transport.publisher() as publisher:
            await publisher.publish([verdict_message(verdict), report_message(report)])

        async def heard() -> bool:
            return any(one.calls and one.share == 0 for one in ear.breakers(()))

        await until(heard)
        (silent, state) = ear.breakers(("another",))
        assert (silent.dependency, silent.phase, silent.share, silent.services) == (
            "another",
            BreakerPhase.CLOSED,
            100,
            (),
        )
        assert (state.dependency, state.phase, state.share) == ("gateway", BreakerPhase.OPEN, 0)
        assert (state.calls, state.failures, state.services) == (10, 9, ("bank",))
        assert ear.mark[0] != before[0]
        clock.at = verdict.valid_until
        (state,) = ear.breakers(())
        assert (state.phase, state.share, state.valid_until, state.calls) == (BreakerPhase.CLOSED, 100, None, 10)
        clock.at += timedelta(seconds=10)
        assert ear.breakers(())[0].calls == 0
        clock.at = report.at + timedelta(minutes=9, seconds=59)
        assert ear.breakers(())[0].services == ("bank",)
        clock.at = report.at + timedelta(minutes=10)
        assert ear.breakers(()) == (), "its process is gone, or all is well"
        assert ear.breakers(("gateway",))[0].services == ()
        assert not ear._reports  # pyright: ignore[reportPrivateUsage]
        assert not ear._verdicts  # pyright: ignore[reportPrivateUsage]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_broker_that_is_away_is_told() -> None:
    async with fleet() as up, Reader(up.view, transport="kafka://127.0.0.1:1") as reader:
        await up.run("a")

        async def told() -> bool:
            return bool((await reader.overview()).consumers.missing)

        await until(told)
        assert {one.where for one in (await reader.consumers()).missing} == {"broker"}
        assert (await reader.sagas(SagaFilter())).lines


async def test_changes_name_the_cards_that_have_something_new() -> None:
    async with fleet() as up:
        await up.run("a")
        before = await up.reader.changes()
        assert before.differing(None) == frozenset(Card)
        assert (await up.reader.changes()).differing(before) <= {Card.CONSUMERS, Card.BREAKERS}
        await up.run("b")
        assert Card.SAGAS in (await up.reader.changes()).differing(before)
        before = await up.reader.changes()
        await put(up.store, RowChanges(insert_deliveries=(dead(1),)))
        assert Card.LETTERS in (await up.reader.changes()).differing(before)


async def test_a_database_that_is_away_is_told_and_the_rest_is_shown(tmp_path: Any) -> None:
    away = tmp_path / "away.db"
    async with fleet(others=(f"sqlite:///{away}",)) as up:
        saga_id = await up.run("a")
        view = await up.reader.overview()
        assert [one.database for one in view.letters] == ["coordinator"]
        assert {problem.where for problem in view.missing} == {"away"}
        whole = await up.reader.saga(saga_id)
        assert whole is not None
        assert [problem.where for problem in whole.missing] == ["away"]
        assert len(whole.rows.runs) == 3


async def test_a_reader_needs_a_coordinator_and_to_be_open(tmp_path: Any) -> None:
    path = tmp_path / "service.db"
    async with open_store(f"sqlite:///{path}") as store:
        await store.migrate()
    reader = Reader(f"sqlite:///{path}")
    with pytest.raises(SettingsError, match="belongs to no coordinator"):
        await reader.__aenter__()
    with pytest.raises(StoreUnavailable, match="not open"):
        await reader.now()
    with pytest.raises(SettingsError):
        Reader("mysql://x/y")


async def test_a_filter_says_what_is_wrong_with_it() -> None:
    with pytest.raises(SettingsError, match="phase 'odd' is none of"):
        SagaFilter(phases=("odd",))
    with pytest.raises(SettingsError, match="too short"):
        SagaFilter(saga_id="abc")
    assert COUNT_CAP == 10_001


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what other tasks bring about."""
    with anyio.fail_after(20):
        while not await check():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)


async def _announced(reader: Reader) -> bool:
    return len((await reader.consumers()).replicas) == 3


def _claim() -> Claim:
    return Claim(service="desk", sagas=())
