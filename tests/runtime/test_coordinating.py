"""Hold a coordinator alone against the records it is given: what it remembers, when it looks, what it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from random import Random

import anyio
import pytest
import trio.testing

from outbox.sqlite import SqliteCoordinationStore
from saga._core import emit
from saga._core.bodies import CancelRequested, Obeyed, Report
from saga._core.emit import About
from saga._core.instance import Instance
from saga._core.manifest import manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_to_json
from saga._core.relay import messages_of
from saga._core.resolve import resolve_all
from saga._core.rows import CoordinatorChanges, InstanceRow, OutboxRow, PlanRow, RunRow
from saga._core.stored_instance import instance_of
from saga._core.topics import RUNS
from saga._core.words import Kind, RunKey, RunStatus
from saga._runtime.coordinator import GROUP, CoordinatorShell
from saga._runtime.coordinator_tuning import CoordinatorTuning
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from saga.desk import SagaDesk
from saga.ports import GroupSpec, Positions, Publisher, TopicSpec
from tests.runtime.world import VirtualClock, World
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)
EVENTS = {
    "orders.start": "order.placed.v1",
    "inventory.reserve": "stock.reserved.v1",
    "payment.capture": "payment.captured.v1",
    "shipping.ship": "parcel.shipped.v1",
}
STEPS = list(EVENTS)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps as soon as nobody has anything to do."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class CountingStore(SqliteCoordinationStore):
    """Be a store that knows how often it has been asked."""

    asked: Counter[str]

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances."""
        self.asked["load"] += 1
        return await super().load(saga_ids)

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes."""
        self.asked["write"] += 1
        return await super().write(changes)

    async def now(self) -> datetime:
        """Read the clock."""
        self.asked["now"] += 1
        return await super().now()

    async def next_due(self, partitions: Sequence[int]) -> datetime | None:
        """Read the earliest due time."""
        self.asked["next_due"] += 1
        return await super().next_due(partitions)

    async def due(self, partitions: Sequence[int], limit: int) -> Sequence[InstanceRow]:
        """Read what is due."""
        self.asked["due"] += 1
        return await super().due(partitions, limit)


@dataclass
class Coordinating:
    """Be a coordinator at work, what it has sent and when, and a way to report to it."""

    plan: Plan
    store: CountingStore
    publisher: Publisher
    shell: CoordinatorShell
    address: str
    clock: VirtualClock
    scope: anyio.CancelScope
    again: Callable[[], CoordinatorShell]
    sent: list[tuple[datetime, OutboxRow]] = field(default_factory=list[tuple[datetime, OutboxRow]])

    async def killed(self) -> None:
        """Put another coordinator in the place of this one, which stops where it stands."""
        self.scope.cancel()
        await self.shell.stopped.wait()
        self.shell = self.again()

    async def run(self, saga_id: str, *steps: str, timeout_seconds: float = 600.0) -> None:
        """Report runs as done, and return once the coordinator has stored that."""
        now = self.clock.now()
        window = timedelta(milliseconds=self.plan.forward_window_ms)
        rows = [self._row(saga_id, step, now, now + timedelta(seconds=timeout_seconds) + window) for step in steps]
        await self._publish(rows)

    def _row(self, saga_id: str, step: str, now: datetime, expires_at: datetime) -> OutboxRow:
        at = STEPS.index(step)
        run = RunRow(
            saga_id=saga_id,
            step=step,
            plan=self.plan.hash,
            status=RunStatus.DONE,
            causes=(RunKey(step=STEPS[at - 1]),) if at else (),
            result_type=EVENTS[step],
            result=b"{}",
            attempt=1,
            expires_at=expires_at,
            created_at=now,
            done_at=now,
        )
        return emit.ended_run(run, self.plan, now, "")[0]

    async def report(self, saga_id: str, body: Report, service: str) -> None:
        """Report something else."""
        now = self.clock.now()
        about = About(
            saga_id=saga_id,
            plan=self.plan.hash,
            tenant="",
            expires_at=now + timedelta(days=7),
            now=now,
            traceparent="",
        )
        await self._publish([emit.report(body, service=service, about=about)])

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        messages = [message for row in rows for message in messages_of(row) if message.topic == RUNS]
        assert await self.publisher.publish(messages) == [None] * len(messages)

    async def instance(self, saga_id: str) -> Instance:
        """Return what is stored of a saga."""
        return instance_of((await self.store.load([saga_id]))[saga_id])


@asynccontextmanager
async def coordinating(tuning: CoordinatorTuning | None = None) -> AsyncGenerator[Coordinating]:
    """Run a coordinator with nobody to obey it, on SQLite in memory and the memory transport."""
    plan = build_plan("checkout", 1, [manifest_of(each) for each in resolve_all(World().services)])
    book, clock, name = PlanBook(), VirtualClock(), f"c{next(_NUMBERS)}"
    book.learn(plan)
    async with AsyncExitStack() as stack:
        store = CountingStore(":memory:", name=name, clock=clock)
        store.asked = Counter()
        await stack.enter_async_context(store)
        await store.migrate()
        await store.put_plans(
            [PlanRow(saga="checkout", version=1, revision=1, hash=plan.hash, body=plan_to_json(plan))]
        )
        transport = await stack.enter_async_context(MemoryTransport())
        await transport.ensure_topics([TopicSpec(name=RUNS, partitions=3)])
        sent: list[tuple[datetime, OutboxRow]] = []
        transport.declare(GroupSpec(name=GROUP, slot="a", topics=(RUNS,), positions=Positions.SUBSCRIBER))
        publisher = await stack.enter_async_context(transport.publisher())
        tasks = await stack.enter_async_context(anyio.create_task_group())
        scope = anyio.CancelScope()

        async def work(shell: CoordinatorShell, within: anyio.CancelScope) -> None:
            with within:
                await shell.run()

        def begin() -> CoordinatorShell:
            shell = CoordinatorShell(
                store=store,
                transport=transport,
                plans=book,
                hand_over=lambda rows: sent.extend((clock.now(), row) for row in rows),
                tracer=NullTracer(),
                rng=Random(1),
                slot="a",
                tuning=tuning,
            )
            within = scope if not shells else anyio.CancelScope()
            shells.append(shell)
            tasks.start_soon(work, shell, within)
            return shell

        shells: list[CoordinatorShell] = []
        shell = begin()
        address = f"sqlite:///:memory:?name={name}"
        here = Coordinating(
            plan=plan,
            store=store,
            publisher=publisher,
            shell=shell,
            address=address,
            clock=clock,
            scope=scope,
            again=begin,
            sent=sent,
        )
        yield here
        here.shell.stop()


async def test_a_deadline_fires_at_its_time_however_seldom_the_coordinator_looks() -> None:
    async with coordinating(CoordinatorTuning(tick_seconds=3600.0)) as here:
        await anyio.sleep(1)
        began: dict[str, datetime] = {}
        for saga_id, timeout_seconds in (("late", 90), ("early", 30)):
            began[saga_id] = here.clock.now()
            await here.run(saga_id, "orders.start", timeout_seconds=timeout_seconds)
        await anyio.sleep(120)
        fired: dict[str, float] = {}
        for at, row in here.sent:
            fired.setdefault(row.aggregateid, (at - began[row.aggregateid]).total_seconds())
        assert list(fired) == ["early", "late"]
        assert 30 <= fired["early"] <= 30.1
        assert 90 <= fired["late"] <= 90.1


async def test_an_idle_coordinator_asks_little_and_writes_nothing() -> None:
    async with coordinating() as here:
        await here.run("waits", "orders.start")
        await anyio.sleep(10)
        here.store.asked.clear()
        await anyio.sleep(60)
        assert set(here.store.asked) == {"now", "next_due"}
        assert here.store.asked["now"] <= 125


async def test_what_was_stored_from_here_is_not_read_again() -> None:
    async with coordinating() as here:
        await anyio.sleep(1)
        await here.run("one", "orders.start")
        for step in STEPS[1:]:
            await here.run("one", step)
        assert (here.store.asked["load"], here.store.asked["write"]) == (0, 4)
        assert [row.type for _, row in here.sent] == ["saga.outcome"]
        assert len((await here.instance("one")).runs) == 4


async def test_what_somebody_else_has_stored_counts_where_nothing_seems_to_follow() -> None:
    async with coordinating() as here, SagaDesk(here.address) as desk:
        await here.run("one", "orders.start")
        await desk.hold("one", who="me", why="to see")
        owed = (await here.instance("one")).owed
        assert ("inventory", Kind.HOLD) in owed
        for (service, kind), number in owed.items():
            # By what the coordinator has stored itself nobody owes it anything.
            await here.report("one", Obeyed(service=service, command=kind, number=number), service)
        assert (await here.instance("one")).owed == {}


async def test_what_somebody_else_has_stored_is_not_overwritten() -> None:
    async with coordinating() as here, SagaDesk(here.address) as desk:
        await here.run("one", "orders.start")
        await desk.hold("one", who="me", why="to see")
        await here.run("one", "inventory.reserve")
        stored = await here.instance("one")
        assert (stored.mark, len(stored.runs), here.shell.counts["conflict"]) == ("held", 2, 1)


async def test_a_start_that_is_reported_again_is_no_new_saga() -> None:
    async with coordinating() as here:
        await here.run("one", *STEPS)
        before = await here.instance("one")
        # It has ended, so nothing of it is remembered here.
        await here.run("one", "orders.start")
        await here.report("two", CancelRequested(reason="never mind"), "orders")
        assert await here.instance("one") == before
        assert here.shell.counts["conflict"] == 1
        assert [row.type for _, row in here.sent if row.aggregateid == "one"] == ["saga.outcome"]
