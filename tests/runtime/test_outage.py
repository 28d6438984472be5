"""Let every coordinator be away for an hour of virtual time: nothing that has finished may be undone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import Ended, Ending
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga._core.stored_instance import instance_of
from saga._core.words import Cause
from saga.app import App, Coordinator, CoordinatorTuning, SagaHandle, Tuning
from saga.ports import Claim
from tests.runtime.world import Placed, VirtualClock, World
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio

SAGAS = 50
# An hour of polling is the same every second: look less often.
TUNING = Tuning(fetch_timeout_seconds=60, waiting_poll_seconds=60, pending_poll_seconds=60)
# Small batches: the first deadlines are looked at while most records are still unread.
SMALL = CoordinatorTuning(batch_cap=2, tick_seconds=0.02)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps, and runs while there is work so that deadlines are looked at in between."""
    return "trio", {"clock": trio.testing.MockClock(rate=5, autojump_threshold=0)}


def write_plan(world: World, folder: Path) -> None:
    """Write the world's plan file."""
    manifests = [manifest_of(definition) for definition in resolve_all(world.services)]
    plan = build_plan("checkout", 1, manifests)
    (folder / "checkout.v1.plan.json").write_bytes(plan_to_json(plan))


async def test_an_hour_without_a_coordinator_undoes_nothing_that_has_finished(tmp_path: Path) -> None:
    world = World(timeout=timedelta(minutes=1))
    write_plan(world, tmp_path)
    clock = VirtualClock()
    address = "sqlite:///:memory:?name=outage"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        await store.migrate()
        async with store.unit(Claim(service="orders", sagas=())) as unit:
            await unit.db.execute("create table effect (run text, name text, primary key (run, name))")
            await unit.db.execute("create table ended (run text, ending text)")

        async def coordinate(stop: anyio.Event) -> None:
            coordinator = Coordinator(plans=tmp_path, store=coordination, tuning=SMALL)
            async with App(coordinator=coordinator, transport=transport):
                await stop.wait()

        handles: list[SagaHandle] = []
        endings: list[Ended] = []
        async with anyio.create_task_group() as tasks:
            first, second = anyio.Event(), anyio.Event()
            tasks.start_soon(coordinate, first)
            async with App(world.services, store=store, transport=transport, tuning=TUNING):
                first.set()
                handles += [await world.place(Placed(order=str(n))) for n in range(SAGAS)]
                refused = await world.place(Placed(order="refused", capture="refuse"))
                await anyio.sleep(3600)
                assert [step for step, _ in world.seen].count("ship") == SAGAS, "forward without a coordinator"
                assert world.endings == [], "outcomes wait for a coordinator"
                tasks.start_soon(coordinate, second)
                endings += [await handle.outcome(120) for handle in (*handles, refused)]
                second.set()
        assert [end.ending for end in endings[:-1]] == [Ending.COMPLETED] * SAGAS
        ended = endings[-1]
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)
        assert [step for step, _ in world.seen].count("release") == 1
        instances = await coordination.load([handle.saga_id for handle in handles])
        asked = [row.saga_id for row in instances.values() if instance_of(row).answers]
        assert len(instances) == SAGAS
        assert asked == [], "no deadline fires on what is merely unread"
