"""Let a participant that was written by the document alone take part in a fleet of ours."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from outbox.urls import open_coordination_store, open_store
from saga import Service
from saga._core.envelope import Message
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga.app import App, Coordinator, Tuning
from saga.ports import Cleanup, GroupSpec, Publisher, Store, Subscription, TopicPartition, TopicSpec, Transport
from tests.protocol.participant import Participant, Step
from tests.runtime.world import VirtualClock

PARTITIONS = 8
QUICK = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Be a service of another language: its name, its steps, its database."""

    service: str
    steps: Mapping[str, Step]
    database: str
    now: Callable[[], datetime]

    def open(self) -> Participant:
        """Return it anew, as after a crash: all it knows is in its database."""
        return Participant(self.service, dict(self.steps), self.database, self.now)


def write_plan(folder: Path, saga: str, services: Sequence[Service]) -> Path:
    """Write the plan of all services, whatever language they are written in."""
    plan = build_plan(saga, 1, [manifest_of(definition) for definition in resolve_all(services)])
    folder.mkdir(exist_ok=True)
    (folder / f"{saga}.v1.plan.json").write_bytes(plan_to_json(plan))
    return folder


def the_plan(folder: Path) -> dict[str, Any]:
    """Return the one plan that lies there."""
    (file,) = folder.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


async def _serve(
    transport: Transport, foreign: Foreign, plan: dict[str, Any], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    topics = sorted(foreign.open().topics(plan))
    missing = [*topics, f"{foreign.service}.events", f"{foreign.service}.events.urgent"]
    await transport.ensure_topics([TopicSpec(name=name, partitions=PARTITIONS) for name in missing])
    await transport.ensure_topics([TopicSpec(name="saga.plans", partitions=1, cleanup=Cleanup.COMPACT)])
    group = GroupSpec(name=f"{foreign.service}-in-another-language", slot="0", topics=tuple(topics))
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(transport.publisher())
        table = await stack.enter_async_context(transport.table("saga.plans"))
        joined = transport.subscribe(group, on_assigned=_from_the_start, on_revoked=_nothing)
        subscription = await stack.enter_async_context(joined)
        tasks = await stack.enter_async_context(anyio.create_task_group())

        async def learn() -> None:
            while True:
                for delivery in await table.changes(0.2):
                    foreign.open().learn((delivery.key or b"").decode(), delivery.value)

        tasks.start_soon(learn)
        tasks.start_soon(_publish, publisher, foreign)
        task_status.started()
        await _read(subscription, foreign)


async def _from_the_start(partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
    del partitions
    return {}


async def _nothing(partitions: frozenset[TopicPartition]) -> None:
    del partitions


async def _read(subscription: Subscription, foreign: Foreign) -> None:
    """Take every message twice, each time in a participant that has just come up."""
    while True:
        for delivery in await subscription.fetch(50, 0.05):
            for _ in range(2):
                foreign.open().take(delivery.topic, delivery.headers, delivery.value or b"")
            at = TopicPartition(topic=delivery.topic, partition=delivery.partition)
            await subscription.commit({at: delivery.offset + 1})
        foreign.open().again()


async def _publish(publisher: Publisher, foreign: Foreign) -> None:
    while True:
        waiting = list(foreign.open().outgoing())
        messages = [
            Message(topic=topic, key=key, value=value, headers=tuple(headers))
            for _, topic, key, headers, value in waiting
        ]
        errors = await publisher.publish(messages) if messages else ()
        for (number, *_), error in zip(waiting, errors, strict=True):
            if error is None:
                foreign.open().sent(number)
        await anyio.sleep(0.01)


@dataclass(frozen=True, kw_only=True)
class Together:
    """Be a fleet of ours with the foreign participant in it."""

    app: App
    store: Store


@asynccontextmanager
async def together(
    transport: Transport,
    services: Sequence[Service],
    foreign: Foreign,
    plans: Path,
    prepare: Callable[[Store], Awaitable[None]],
    *,
    virtual: bool,
) -> AsyncGenerator[Together]:
    """Run our services and a coordinator in one app, and the foreign one beside them."""
    address = f"sqlite:///:memory:?name=foreign{os.urandom(6).hex()}"
    clock = VirtualClock() if virtual else None
    plan = the_plan(plans)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        await store.migrate()
        await prepare(store)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await tasks.start(_serve, transport, foreign, plan)
        app = App(
            services,
            coordinator=Coordinator(store=coordination, plans=plans),
            store=store,
            transport=transport,
            tuning=QUICK,
            partitions=PARTITIONS,
        )
        await stack.enter_async_context(app)
        yield Together(app=app, store=store)
        tasks.cancel_scope.cancel()
