"""Hold what a review of the runtime found: each marked test fails today and says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import Dependency, Ended, Ending, Event, Purpose, Retry, Run, Saga, Service
from saga._core.bodies import Undo
from saga._core.cloudevents import message
from saga._core.emit import About, command
from saga._core.envelope import Delivery, Envelope
from saga._core.ids import saga_id_of
from saga._core.manifest import manifest_of
from saga._core.plan import Plan, topology_of
from saga._core.planning import build_plan
from saga._core.relay import messages_of
from saga._core.resolve import resolve_all
from saga._core.rows import Changes, DeliveryRow, RunRow, TakenRun
from saga._core.words import Kind, Reason, RunStatus
from saga._runtime.beating import Hold
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import call
from saga._runtime.participant import Participant
from saga._runtime.pending import PendingWork
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga._runtime.trouble import HandlerTrouble
from saga.app import App, Coordinator, Tuning
from saga.errors import CommitUnknown, Contended, StoreUnavailable
from saga.ports import Beat, Claim, GroupSpec, ParticipantStore, Store
from tests.runtime.world import TUNING, Placed, VirtualClock, World, running, up
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps, unless a test says otherwise."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


# --- a world with two steps of one service for one event ----------------------------------------------------


class Asked(Event, name="review.asked", version=1):
    """Be a start that two steps of one service react to."""

    order: str


class Mailed(Event, name="review.mailed", version=1):
    """Be a mail sent."""

    order: str


class Billed(Event, name="review.billed", version=1):
    """Be a bill written."""

    order: str


class Twins:
    """Declare desk -> office.mail and office.bill, both retriable, both for the same event."""

    def __init__(self) -> None:
        self.tries = 0
        self.mailing: Any = None
        self.billing: Any = None
        saga = Saga("twins", version=1, timeout=timedelta(hours=1), forward_window=timedelta(days=7))
        desk, office = Service("desk"), Service("office")
        self.services = [desk, office]
        self.ask = desk.starts(saga, Asked)
        again = Retry(attempts=2, base_seconds=1, cap_seconds=1)

        @office.step(saga, timeout=timedelta(seconds=5), retry=replace(again, attempts=50))
        async def mail(asked: Asked, run: Run) -> Mailed:
            self.tries += 1
            await self.mailing(run)
            return Mailed(order=asked.order)

        @mail.compensation
        async def unmail(mailed: Mailed, run: Run) -> None:
            """Undo."""

        @office.step(saga, timeout=timedelta(seconds=5), retry=replace(again, attempts=50))
        async def bill(asked: Asked, run: Run) -> Billed:
            self.tries += 1
            await self.billing(run)
            return Billed(order=asked.order)

        @bill.compensation
        async def unbill(billed: Billed, run: Run) -> None:
            """Undo."""


@asynccontextmanager
async def twins_up(twins: Twins, store: Store, name: str) -> AsyncGenerator[App]:
    """Run the twins on an open store."""
    async with AsyncExitStack() as stack:
        coordination = await stack.enter_async_context(
            open_coordination_store(f"sqlite:///:memory:?name={name}", clock=VirtualClock())
        )
        transport = await stack.enter_async_context(MemoryTransport())
        app = App(
            twins.services,
            coordinator=Coordinator(store=coordination),
            store=store,
            transport=transport,
            tuning=Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5),
        )
        yield await stack.enter_async_context(app)


async def down(run: Run) -> None:
    """Fail."""
    msg = "down"
    raise ConnectionError(msg)


async def fine(run: Run) -> None:
    """Do nothing."""


async def test_waiting_rows_do_not_multiply_when_two_steps_of_a_service_fail_on_one_event() -> None:
    twins = Twins()
    twins.mailing = twins.billing = down
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store("sqlite:///:memory:?name=twins1", clock=VirtualClock()))
        await stack.enter_async_context(twins_up(twins, store, "twins1"))
        await twins.ask(Asked(order="1"))
        await anyio.sleep(5)
        async with store.unit(Claim(service="office", sagas=())) as unit:
            rows = await unit.db.fetch("select * from saga_delivery where service = 'office'")
        twins.mailing = twins.billing = fine
    assert len(rows) <= 2, f"{len(rows)} rows wait for one event after 5 s, {twins.tries} calls"


async def test_a_stop_between_two_steps_of_a_waiting_row_loses_neither() -> None:
    twins = Twins()
    hangs = anyio.Event()

    async with open_store("sqlite:///:memory:?name=twins2", clock=VirtualClock()) as store:
        await store.migrate()

        definitions = resolve_all(twins.services)
        plan = build_plan("twins", 1, [manifest_of(d) for d in definitions])
        book = PlanBook(definitions)
        book.learn(plan)
        office = next(d for d in definitions if d.name == "office")
        context = ServiceContext(
            definition=office,
            store=store,
            hand_over=lambda _rows: None,
            expect=lambda _rows: None,
            plans=book,
            tracer=NullTracer(),
            rng=Random(1),
            owner="me",
        )
        now = VirtualClock().now()
        envelope = Envelope(
            id="1",
            source="/saga/desk",
            type="review.asked.v1",
            kind=Kind.EVENT,
            time=now,
            payload=b'{"order":"1"}',
            saga_id="s1",
            plan=plan.hash,
            step=plan.start,
            expires_at=now + timedelta(days=1),
        )
        sent = message(envelope, "desk.events", "s1")
        raw = Delivery(
            topic=sent.topic,
            partition=0,
            offset=0,
            key=sent.key,
            value=sent.value,
            headers=sent.headers,
        )
        waiting = DeliveryRow(
            service="office", saga_id="s1", due_at=now, reason=Reason.RETRY, attempt=1, error="", raw=raw
        )
        async with store.unit(Claim(service="office", sagas=("s1",))) as unit:
            await unit.write(Changes(insert_deliveries=(waiting,)))

        # The first step takes longer than the batch's time budget, so the second goes into the next transaction.
        async def slow(run: Run) -> None:
            await anyio.sleep(0.2)

        async def killed(run: Run) -> None:
            hangs.set()
            await anyio.sleep_forever()

        participant = Participant(context, cast("Any", None), "0")
        (row,) = await store.take_deliveries("office", 10, 60)
        # It stands for both steps: first each gets a row of its own.
        await participant.handle([(row.raw, row)])
        split = await store.take_deliveries("office", 10, 60)
        assert sorted(row.step for row in split) == ["office.bill", "office.mail"]
        assert {(row.message_id, row.attempt) for row in split} == {("1", 1)}
        names = [step.name for step in topology_of(plan).reacting["review.asked.v1"]]
        first = "mailing" if names[0].endswith("mail") else "billing"
        second = "billing" if first == "mailing" else "mailing"
        setattr(twins, first, slow)
        setattr(twins, second, killed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(participant.handle, [(row.raw, row) for row in split])
            await hangs.wait()
            tasks.cancel_scope.cancel()
        async with store.unit(Claim(service="office", sagas=())) as unit:
            rows = await unit.db.fetch("select step from saga_delivery")
            runs = await unit.db.fetch("select step from saga_run")
    assert len(runs) == 1, "one step is committed"
    assert rows, "the other step has neither a run nor a row: its delivery is lost"
    assert {row["step"] for row in rows}.isdisjoint(row["step"] for row in runs)


# --- handlers that raise what nobody expects -----------------------------------------------------------------


async def ends(world: World, placed: Placed) -> Ended:
    """Run one saga to its end."""
    async with running(world) as there:
        ended: Ended = await (await there.world.place(placed)).outcome(60)
        return ended


async def await_a_cancelled_task(*_: object) -> None:
    """Raise CancelledError without being cancelled."""
    inner = asyncio.create_task(asyncio.sleep(10))
    inner.cancel()
    await inner


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_awaits_a_cancelled_task_does_not_kill_its_service() -> None:
    world = World()
    world.behaviour["reserve"] = await_a_cancelled_task
    ended: list[Ended] = []
    try:
        async with running(world):
            ended.append(await (await world.place(Placed(order="1"))).outcome(20))
    except asyncio.CancelledError:
        pass  # today: nobody asked for it
    assert ended, "the handler has ended the whole app, and no error says so"
    assert ended[0].ending is Ending.COMPENSATED


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_nobody_asked_for_is_the_handlers_trouble() -> None:
    caught: BaseException | None = None
    try:
        await call(await_a_cancelled_task, (), {}, Run(saga_id="1", step="office.mail"), 5)
    except BaseException as error:  # noqa: BLE001 - today it is a CancelledError
        caught = error
    assert isinstance(caught, HandlerTrouble)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_cancellation_of_ours_passes_through_a_handler() -> None:
    with anyio.CancelScope() as scope:

        async def handler() -> None:
            scope.cancel()
            await anyio.sleep_forever()

        await call(handler, (), {}, Run(saga_id="1", step="office.mail"), 5)
    assert scope.cancelled_caught


async def test_a_handlers_own_trouble_with_another_database_holds_up_nobody_else() -> None:
    world = World(timeout=timedelta(hours=1))

    def nested(run: Run) -> None:
        # As from a start of another app, whose database is away.
        if run.saga_id == saga_id_of("checkout", "", "bad"):
            msg = "the other database is away"
            raise StoreUnavailable(msg)

    world.behaviour["reserve"] = nested
    async with running(world):
        await world.place(Placed(order="bad"), key="bad")
        await anyio.sleep(1)
        handle = await world.place(Placed(order="good"))
        assert (await handle.outcome(60)).ending is Ending.COMPLETED


class Dumb(Exception):
    """Be an error that cannot be printed."""

    def __str__(self) -> str:
        """Fail."""
        msg = "no words"
        raise ValueError(msg)


@pytest.mark.parametrize("step", ["reserve", "capture"])
async def test_an_error_that_cannot_be_printed_is_an_error_like_any_other(step: str) -> None:
    world = World()

    def unprintable(run: Run) -> None:
        if run.purpose is Purpose.ACT:
            raise Dumb

    world.behaviour[step] = unprintable
    ended = await ends(world, Placed(order="1"))
    assert ended.ending is (Ending.COMPENSATED if step == "reserve" else Ending.COMPLETED)


async def test_an_error_text_that_no_database_takes_is_an_error_like_any_other() -> None:
    world = World()

    def odd(run: Run) -> None:
        msg = "no such file: \udcff\x00"
        raise OSError(msg)

    world.behaviour["reserve"] = odd
    assert (await ends(world, Placed(order="1"))).ending is Ending.COMPENSATED


class Loose(Event, name="review.loose", version=1):
    """Be an event with a field that may hold anything."""

    data: dict[str, Any]


async def test_a_result_that_cannot_be_written_as_json_is_a_failed_attempt() -> None:
    saga = Saga("loose", version=1, timeout=timedelta(hours=1), forward_window=timedelta(days=7))
    desk, office = Service("desk"), Service("office")
    ask = desk.starts(saga, Asked)

    @office.step(saga, timeout=timedelta(seconds=5), retry=Retry(attempts=1))
    async def think(asked: Asked, run: Run) -> Loose:
        return Loose(data={"x": object()})

    @think.compensation
    async def forget(loose: Loose, run: Run) -> None:
        """Undo."""

    async with AsyncExitStack() as stack:
        clock = VirtualClock()
        store = await stack.enter_async_context(open_store("sqlite:///:memory:?name=loose", clock=clock))
        coordination = await stack.enter_async_context(
            open_coordination_store("sqlite:///:memory:?name=loose", clock=clock)
        )
        transport = await stack.enter_async_context(MemoryTransport())
        app = App(
            [desk, office], coordinator=Coordinator(store=coordination), store=store, transport=transport, tuning=TUNING
        )
        await stack.enter_async_context(app)
        ended = await (await ask(Asked(order="1"))).outcome(60)
    assert ended.ending is Ending.COMPENSATED


# --- endings -----------------------------------------------------------------------------------------------------


async def test_a_start_event_this_code_cannot_read_any_more_holds_up_nobody_else() -> None:
    world = World()
    async with running(world):

        async def spoil(run: Run) -> None:
            # As if written by the release before, whose event had other fields.
            sql = "update saga_run set result = $1 where saga_id = $2 and step = 'orders.start'"
            await run.db.execute(sql, b'{"old":"field"}', run.saga_id)

        world.behaviour["reserve"] = spoil
        await world.place(Placed(order="old"))
        await anyio.sleep(10)
        world.behaviour.clear()
        handles = [await world.place(Placed(order=str(n))) for n in range(20)]
        for handle in handles:
            assert (await handle.outcome(60)).ending is Ending.COMPLETED


async def test_a_waiter_that_goes_away_leaves_nothing_behind() -> None:
    world = World()
    block = anyio.Event()
    world.behaviour["reserve"] = lambda _run: block.wait()
    async with running(world) as there:
        handle = await world.place(Placed(order="1"))
        with anyio.move_on_after(1):
            await handle.outcome(60)
        left = len(there.app.context("orders").endings)
        block.set()
    assert left == 0


# --- attempts -----------------------------------------------------------------------------------------------------


async def test_a_compensation_counts_its_own_attempts() -> None:
    world = World()
    attempts: list[int] = []

    def release(run: Run) -> None:
        attempts.append(run.attempt)
        if len(attempts) < 3:
            msg = "not yet"
            raise RuntimeError(msg)

    world.behaviour["release"] = release
    ended = await ends(world, Placed(order="1", capture="refuse"))
    assert ended.ending is Ending.COMPENSATED
    assert attempts == [1, 2, 3]


async def test_an_outside_run_counts_the_attempt_that_succeeded() -> None:
    async with running(World()) as there:
        await (await there.world.place(Placed(order="1"))).outcome(60)
        rows = await there.rows("select attempt from saga_run where step = 'payment.capture'")
    assert rows[0]["attempt"] == 1, "a local run says 1 too"


class Flaky:
    """Be a store that is away for a while and then contended once."""

    def __init__(self, store: Store, away: int) -> None:
        self._store = store
        self.armed = False
        self._troubles: list[Exception] = [Contended("deadlock"), *[StoreUnavailable("away")] * away]

    def unit(self, claim: Claim) -> Any:
        """Begin, or fail."""
        if self.armed and claim.service == "inventory" and claim.sagas and self._troubles:
            raise self._troubles.pop()
        return self._store.unit(claim)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_an_outage_burns_no_attempt() -> None:
    world = World(timeout=timedelta(hours=1))
    async with AsyncExitStack() as stack:
        clock = VirtualClock()
        store = await stack.enter_async_context(open_store("sqlite:///:memory:?name=flaky", clock=clock))
        coordination = await stack.enter_async_context(
            open_coordination_store("sqlite:///:memory:?name=flaky", clock=clock)
        )
        transport = await stack.enter_async_context(MemoryTransport())
        flaky = Flaky(store, 21)
        there = await stack.enter_async_context(up(world, cast("Store", flaky), coordination, transport, TUNING))
        flaky.armed = True
        await (await world.place(Placed(order="1"))).outcome(300)
        counts = dict(there.app.context("inventory").counts)
    assert "retried" not in counts, "the handler has never raised"


# --- outside calls -----------------------------------------------------------------------------------------------


async def test_a_call_that_waits_for_its_dependency_longer_than_its_lease_is_made_once() -> None:
    saga = Saga("slow", version=1, timeout=timedelta(hours=10), forward_window=timedelta(days=7))
    desk, office = Service("desk"), Service("office")
    ask = desk.starts(saga, Asked)
    calls: list[str] = []

    @office.pivot(saga, timeout=timedelta(seconds=5), calls=Dependency("gateway", concurrency=1))
    async def pay(asked: Asked, run: Run) -> Billed:
        calls.append(run.saga_id)
        await anyio.sleep(4)
        return Billed(order=asked.order)

    async with AsyncExitStack() as stack:
        clock = VirtualClock()
        store = await stack.enter_async_context(open_store("sqlite:///:memory:?name=slow", clock=clock))
        coordination = await stack.enter_async_context(
            open_coordination_store("sqlite:///:memory:?name=slow", clock=clock)
        )
        transport = await stack.enter_async_context(MemoryTransport())
        app = App(
            [desk, office], coordinator=Coordinator(store=coordination), store=store, transport=transport, tuning=TUNING
        )
        await stack.enter_async_context(app)
        for number in range(40):
            await ask(Asked(order=str(number)))
        await anyio.sleep(40 * 4 + 60)
        async with store.unit(Claim(service="office", sagas=())) as unit:
            done = await unit.db.fetch("select * from saga_run where step = 'office.pay' and status = 'done'")
    assert len(done) == 40, f"{len(done)} of 40 done after {len(calls)} calls, {len(calls) - len(set(calls))} doubled"


class Backlog:
    """Be a store with more outside work than can be done."""

    def __init__(self) -> None:
        self.taken = 0

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[TakenRun]:
        """Return as much as is wanted."""
        del service, owner, lease_seconds
        self.taken += limit
        return [
            TakenRun(
                run=RunRow(
                    saga_id=f"{self.taken}-{n}",
                    step="payment.pay",
                    plan="p",
                    status=RunStatus.INTENT,
                    expires_at=NOW,
                    created_at=NOW,
                    revision=1,
                )
            )
            for n in range(limit)
        ]

    async def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        """Keep all."""
        del service, owner, lease_seconds
        return Beat(kept=frozenset((run.saga_id, run.step, run.branch) for run in runs), silent={})


class Call:
    """Be a call that takes a second."""

    def knows(self, run: RunRow) -> bool:
        """Know every plan."""
        del run
        return True

    async def perform(self, hold: Hold) -> None:
        """Take a second."""
        del hold
        await anyio.sleep(1)


async def test_draining_takes_no_more_work_on() -> None:
    store = Backlog()
    (definition,) = resolve_all([Service("payment")])
    context = ServiceContext(
        definition=definition,
        store=cast("ParticipantStore", store),
        hand_over=lambda _rows: None,
        expect=lambda _rows: None,
        plans=PlanBook(),
        tracer=NullTracer(),
        rng=Random(1),
        owner="me",
        tuning=Tuning(calls_in_flight=4),
    )
    pending = PendingWork(context)
    cast("Any", pending)._caller = Call()
    before, took = 0, 99.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pending.run)
        await anyio.sleep(2.5)
        before = store.taken
        began = anyio.current_time()
        await pending.drain(10)
        took = anyio.current_time() - began
        tasks.cancel_scope.cancel()
    assert (store.taken - before, took < 2) == (0, True)


# --- messages and plans ------------------------------------------------------------------------------------------


async def test_a_command_to_undo_the_start_does_not_stop_the_intake() -> None:
    world = World()
    async with running(world) as there:
        plan = there.app.plans[0]
        handle = await world.place(Placed(order="1"), key="1")
        assert (await handle.outcome(60)).ending is Ending.COMPLETED
        now = VirtualClock().now()
        row = command(
            Undo(step="orders.start", branch=""),
            service="orders",
            about=About(
                saga_id=handle.saga_id,
                plan=plan.hash,
                tenant="",
                expires_at=now + timedelta(days=1),
                now=now,
                traceparent="",
            ),
        )
        async with there.transport.publisher() as publisher, anyio.create_task_group() as tasks:
            tasks.start_soon(publisher.publish, list(messages_of(row)))
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        handles = [await world.place(Placed(order=str(n))) for n in range(2, 12)]
        for later in handles:
            assert (await later.outcome(60)).ending is Ending.COMPLETED


class Listening:
    """Be a transport without a message, which remembers what was subscribed to."""

    def __init__(self) -> None:
        self.topics: list[tuple[str, ...]] = []

    @asynccontextmanager
    async def subscribe(self, group: GroupSpec, **_: Any) -> AsyncGenerator[Any]:
        """Remember the topics."""
        self.topics.append(group.topics)
        yield self

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        """Return nothing."""
        del limit
        await anyio.sleep(timeout_seconds)
        return ()


def plan_with(emitter: str, office: Service, saga: Saga) -> Plan:
    """Return a plan in which `emitter` starts the saga for `office`."""
    desk = Service(emitter)
    desk.starts(saga, Asked)
    return build_plan("moving", 1, [manifest_of(d) for d in resolve_all([desk, office])])


async def test_a_plan_that_moves_an_event_to_another_service_is_followed_while_running() -> None:
    saga = Saga("moving", version=1, timeout=timedelta(hours=1), forward_window=timedelta(days=7))
    office = Service("office")

    @office.step(saga, timeout=timedelta(seconds=5))
    async def mail(asked: Asked, run: Run) -> Mailed:
        return Mailed(order=asked.order)

    @mail.compensation
    async def unmail(mailed: Mailed, run: Run) -> None:
        """Undo."""

    (definition,) = resolve_all([office])
    book = PlanBook([definition])
    book.learn(plan_with("desk", office, saga))
    listening = Listening()
    async with open_store("sqlite:///:memory:?name=moving", clock=VirtualClock()) as store:
        await store.migrate()
        context = ServiceContext(
            definition=definition,
            store=store,
            hand_over=lambda _rows: None,
            expect=lambda _rows: None,
            plans=book,
            tracer=NullTracer(),
            rng=Random(1),
            owner="me",
        )
        participant = Participant(context, cast("Any", listening), "0")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(participant.run)
            await anyio.sleep(5)
            second = replace(plan_with("shop", office, saga), revision=2)
            book.learn(second)
            assert book.problems("office", second.hash) == (), "the service may run it"
            await anyio.sleep(60)
            participant.stop()
    assert "shop.events" in listening.topics[-1], listening.topics


class Unsure:
    """Be a store that once commits a retry row without saying so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.done = False

    @asynccontextmanager
    async def unit(self, claim: Claim) -> AsyncGenerator[Any]:
        """Commit, and lose the answer of the second transaction of inventory: that of the failed attempt."""
        async with self._store.unit(claim) as unit:
            before = (await unit.db.fetch("select count(*) as n from saga_delivery"))[0]["n"]
            yield unit
            after = (await unit.db.fetch("select count(*) as n from saga_delivery"))[0]["n"]
        if claim.service == "inventory" and after > before and not self.done:
            self.done = True
            msg = "the connection broke during COMMIT"
            raise CommitUnknown(msg)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_an_unknown_commit_of_a_retry_row_does_not_double_it() -> None:
    world = World(timeout=timedelta(hours=1))
    async with AsyncExitStack() as stack:
        clock = VirtualClock()
        store = await stack.enter_async_context(open_store("sqlite:///:memory:?name=unsure", clock=clock))
        coordination = await stack.enter_async_context(
            open_coordination_store("sqlite:///:memory:?name=unsure", clock=clock)
        )
        transport = await stack.enter_async_context(MemoryTransport())
        unsure = cast("Store", Unsure(store))
        await stack.enter_async_context(up(world, unsure, coordination, transport, TUNING))
        ended = await (await world.place(Placed(order="1", reserve="fail 2"))).outcome(60)
        await anyio.sleep(5)
    assert ended.ending is Ending.COMPLETED
    assert [step for step, _ in world.seen].count("reserve") == 3, "two failures and one success"
