"""Deploy a changed saga over a fleet at work on Kafka and PostgreSQL: coordinator first, then one by one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from outbox.urls import open_coordination_store, open_store
from saga._core.manifest import manifest_of
from saga._core.resolve import resolve_all
from saga.app import Tuning
from saga.cli.live import live_problems, look
from saga.ports.fleet import OpenSteps
from tests.runtime.fleet import Code, Fleet, Placed, Replica, fleet, write_plan
from tests.testbed.services import Kafka
from transports.kafka import KafkaSettings, KafkaTransport
from transports.prefixed import PrefixedTransport

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

# A replica that leaves keeps its place in the group for this long, which is the broker's minimum.
QUICK = KafkaSettings(session_seconds=6.0, heartbeat_seconds=0.3)
SLOTS = ("0", "1")


@asynccontextmanager
async def real_fleet(database: str, bootstrap: str, prefix: str) -> AsyncGenerator[Fleet]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        coordination = await stack.enter_async_context(open_coordination_store(database))
        kafka = PrefixedTransport(KafkaTransport(bootstrap, settings=QUICK), prefix)
        transport = await stack.enter_async_context(kafka)
        yield await stack.enter_async_context(fleet(store, coordination, transport, Tuning()))
    with warnings.catch_warnings():
        # The client library forgets a connection that was being made while its client closed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass
class Orders:
    """Place orders all the time, with whatever replica of orders is up."""

    code: Code
    enough: anyio.Event = field(default_factory=anyio.Event)
    placed: list[str] = field(default_factory=list[str])
    deploying: anyio.Lock = field(default_factory=anyio.Lock)

    async def run(self) -> None:
        while not self.enough.is_set():
            async with self.deploying:
                self.placed.append((await self.code.place(Placed(order=str(len(self.placed))))).saga_id)
            await anyio.sleep(0.05)


async def drained(there: Fleet, plan: str) -> None:
    """Return when every saga under the plan has ended: what today's shipping cannot do must not be cut off."""
    assert isinstance(there.store, OpenSteps)
    with anyio.fail_after(45):
        while await there.store.open_starts("orders", plan):  # noqa: ASYNC110 - a database
            await anyio.sleep(0.25)


async def test_a_rolling_deploy_loses_nothing_and_every_saga_ends(kafka: Kafka, database: str, tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    prefix = f"{uuid4().hex[:8]}."
    async with real_fleet(database, kafka.bootstrap, prefix) as there, anyio.create_task_group() as tasks:
        replicas: dict[tuple[str, str], Replica] = {}
        coordinator = await there.coordinate(write_plan(tmp_path / "old", old.plan()), "0")
        for name in ("orders", "inventory", "shipping"):
            for slot in SLOTS if name != "orders" else "0":
                # Each replica is a process of its own, so it has its own declarations.
                code = old if name == "orders" else Code(today=False)
                replicas[name, slot] = await there.up([code.services[name]], slot)
        orders = Orders(code=old)
        tasks.start_soon(orders.run)
        await anyio.sleep(2)

        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "1")
        await coordinator.leave()
        await drained(there, old.plan().hash)
        for name in ("packing", "shipping", "inventory"):
            for slot in SLOTS:
                if (name, slot) in replicas:
                    await replicas.pop((name, slot)).leave()
                replicas[name, slot] = await there.up([Code(today=True).services[name]], slot)
                await anyio.sleep(1)
        async with orders.deploying:
            await replicas.pop(("orders", "0")).leave()
            replicas["orders", "0"] = await there.up([new.services["orders"]], "0")
            orders.code = new
        await anyio.sleep(2)
        orders.enough.set()

        ended = await there.ended(len(orders.placed), at_most_seconds=45)
        assert ended == dict.fromkeys(orders.placed, "completed")
        effects = await there.effects()
        assert effects["reserve"] == effects["ship"] == len(orders.placed)
        assert 0 < effects["pack"] < len(orders.placed), "some sagas ran under each plan"
        assert await there.rows("select * from saga_delivery") == []

        seen = await anyio.to_thread.run_sync(look, database, f"kafka://{kafka.bootstrap}?prefix={prefix}")
        assert (seen.open, {plan.revision for plan in seen.stored}) == ({}, {1, 2})
        assert sorted({str(live.replica) for live in seen.running or ()}) == sorted(
            f"{name}[{slot}]" for name, slot in replicas
        )
        manifests = [manifest_of(definition) for definition in resolve_all(list(new.services.values()))]
        assert live_problems(manifests, (new.plan(2),), seen) == ()
