"""Urgent sagas go past thousands of others, through every queue on their way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import NOTHING, Dependency, Ended, Ending, Event, Priority, Refusal, Retry, Run, Saga, Service, Start
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga.app import App, Coordinator, Tuning
from saga.ports import CoordinationStore, Store, Transport
from tests.runtime.world import VirtualClock
from tests.testbed.services import Kafka
from transports import MemoryTransport, open_transport

_NUMBERS = count(1)
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)


class Ordered(Event, name="lane.ordered", version=1):
    """Be an order."""

    number: int


class Picked(Event, name="lane.picked", version=1):
    """Be picked."""

    number: int


class Paid(Event, name="lane.paid", version=1):
    """Be paid."""

    number: int


class Packed(Event, name="lane.packed", version=1):
    """Be packed."""

    number: int


class NoBox(Refusal, name="lane.no_box", version=1):
    """Be a no."""


@dataclass
class Depot:
    """Hold a shop that picks (here), pays (outside) and packs; each step takes `step_seconds`."""

    step_seconds: float = 0.05
    refuses: set[int] = field(default_factory=set[int])
    fails: set[int] = field(default_factory=set[int])
    concurrency: int = 4
    done: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    place: Start[Ordered] = field(init=False)
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:
        """Declare shop -> picking -> bank -> packing."""
        saga = Saga("lanes", version=1, timeout=timedelta(hours=10))
        shop, picking, bank, packing = map(Service, ("shop", "picking", "bank", "packing"))
        self.services = [shop, picking, bank, packing]
        self.place = shop.starts(saga, Ordered)

        @picking.step(saga, retry=Retry(attempts=2, base_seconds=0.1, cap_seconds=0.1))
        async def pick(ordered: Ordered, run: Run) -> Picked:
            await self._work("pick", ordered.number)
            if ordered.number in self.fails and run.attempt == 1:
                msg = "the ladder is away"
                raise RuntimeError(msg)
            return Picked(number=ordered.number)

        @pick.compensation
        async def put_back(ordered: Ordered, run: Run) -> None:
            await self._work("put back", ordered.number)

        @bank.step(saga, calls=Dependency("bank", concurrency=self.concurrency), compensation=NOTHING)
        async def pay(picked: Picked, run: Run) -> Paid:
            await self._work("pay", picked.number)
            return Paid(number=picked.number)

        @packing.pivot(saga)
        async def pack(paid: Paid, run: Run) -> Packed | NoBox:
            await self._work("pack", paid.number)
            return NoBox() if paid.number in self.refuses else Packed(number=paid.number)

    async def _work(self, what: str, number: int) -> None:
        if self.step_seconds:
            await anyio.sleep(self.step_seconds)
        self.done.append((what, number))


@asynccontextmanager
async def running(depot: Depot, folder: Path) -> AsyncGenerator[None]:
    """Run a depot on the memory transport, each service with a database of its own: one writes at a time in SQLite."""
    clock, at = VirtualClock(), f"sqlite:///:memory:?name=lane{next(_NUMBERS)}"
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(MemoryTransport())
        coordination = await stack.enter_async_context(open_coordination_store(at, clock=clock))
        stores = [
            await stack.enter_async_context(open_store(f"{at}-{service.name}", clock=clock))
            for service in depot.services
        ]
        await up(stack, depot, folder, stores, coordination, transport, TUNING)
        yield


async def up(
    stack: AsyncExitStack,
    depot: Depot,
    folder: Path,
    stores: Sequence[Store],
    coordination: CoordinationStore,
    transport: Transport,
    tuning: Tuning,
) -> None:
    """Run a depot on open adapters, an app for each service."""
    plan = build_plan("lanes", 1, [manifest_of(definition) for definition in resolve_all(depot.services)])
    (folder / "lanes.v1.plan.json").write_bytes(plan_to_json(plan))
    coordinator = Coordinator(plans=folder, store=coordination)
    await stack.enter_async_context(App(coordinator=coordinator, transport=transport))
    for service, store in zip(depot.services, stores, strict=True):
        await stack.enter_async_context(App([service], store=store, transport=transport, tuning=tuning))


async def ended(depot: Depot, number: int, priority: Priority) -> tuple[Ending, float]:
    """Place one order, wait for its end and return how it ended and how long it took."""
    began = anyio.current_time()
    handle = await depot.place(Ordered(number=number), priority=priority)
    end: Ended = await handle.outcome(timeout_seconds=36_000)
    return end.ending, anyio.current_time() - began


async def queued(depot: Depot, number: int) -> None:
    """Place so many orders that nobody hurries about."""

    async def some(first: int) -> None:
        for each in range(first, number, 8):
            await depot.place(Ordered(number=1000 + each))

    async with anyio.create_task_group() as tasks:
        for first in range(8):
            tasks.start_soon(some, first)


class TestInVirtualTime:
    """Time passes at once, and work takes what it says."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

    async def test_an_urgent_saga_goes_past_two_thousand_others(self, tmp_path: Path) -> None:
        depot = Depot()
        async with running(depot, tmp_path):
            _, unloaded = await ended(depot, 1, Priority.URGENT)
            await queued(depot, 2000)
            # The others are spread over all steps: there is a queue before each.
            await anyio.sleep(30)
            ending, took = await ended(depot, 2, Priority.URGENT)
            assert ending is Ending.COMPLETED
            # Behind the others it would take more than a minute. The clock runs on while a worker thread commits, so
            # that some of the others' steps may pass.
            assert took < 20, (took, unloaded)
            assert len([one for one in depot.done if one[0] == "pick"]) < 1000
            assert len([one for one in depot.done if one[0] == "pack"]) < 1000

    async def test_its_undo_and_its_retries_go_past_them_too(self, tmp_path: Path) -> None:
        depot = Depot(refuses={1, 2}, fails={1, 2})
        async with running(depot, tmp_path):
            _, unloaded = await ended(depot, 1, Priority.URGENT)
            await queued(depot, 1000)
            await anyio.sleep(15)
            ending, took = await ended(depot, 2, Priority.URGENT)
            assert ending is Ending.COMPENSATED
            assert ("put back", 2) in depot.done
            assert took < 5 * unloaded, (took, unloaded)
            assert len([one for one in depot.done if one[0] == "pick"]) < 900

    async def test_one_that_is_not_urgent_waits_its_turn(self, tmp_path: Path) -> None:
        depot = Depot()
        async with running(depot, tmp_path):
            _, unloaded = await ended(depot, 1, Priority.NORMAL)
            await queued(depot, 300)
            _, took = await ended(depot, 2, Priority.NORMAL)
            assert took > 20 * unloaded


@pytest.mark.kafka
@pytest.mark.postgres
class TestOnKafka:
    """The same on a real broker, a database for all services, and the clock on the wall."""

    @pytest.mark.anyio
    async def test_an_urgent_saga_goes_past_two_thousand_others(
        self, kafka: Kafka, database: str, tmp_path: Path
    ) -> None:
        depot = Depot(step_seconds=0.02)
        url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
        async with AsyncExitStack() as stack:
            coordination = await stack.enter_async_context(open_coordination_store(database))
            store = await stack.enter_async_context(open_store(database))
            transport = await stack.enter_async_context(open_transport(url))
            await up(stack, depot, tmp_path, [store] * len(depot.services), coordination, transport, Tuning())
            await ended(depot, 1, Priority.URGENT)
            _, unloaded = await ended(depot, 2, Priority.URGENT)
            await queued(depot, 2000)
            ending, took = await ended(depot, 3, Priority.URGENT)
            assert ending is Ending.COMPLETED
            assert took < max(10 * unloaded, 3.0)
            assert len([one for one in depot.done if one[0] == "pick"]) < 1000
