"""A relay on its own says what it publishes, and what is left."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from outbox.urls import open_store
from saga._core.rows import Changes
from saga._publishing import Publishing, publishing
from saga._runtime.tracing import NullTracer
from saga.ports import TopicSpec
from tests.contracts.store_rows import SERVICE, outgoing, put
from tests.runtime.world import VirtualClock
from tests.telemetry.metric_world import Collected
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_a_relay_counts_what_waits_and_what_it_sends() -> None:
    collected = Collected()
    memory = open_store("sqlite:///:memory:?name=relay-metrics", clock=VirtualClock())
    async with memory as store, MemoryTransport() as transport:
        await store.migrate()
        await put(store, Changes(outbox=(outgoing(), outgoing())))
        what = Publishing(
            store=store,
            transport=transport,
            opens_store=False,
            migrate=True,
            tracer=NullTracer(),
            meter=collected.meter,
            topics=[TopicSpec(name="stock.events", partitions=1)],
        )
        async with publishing(what):
            await anyio.sleep(1)
            assert collected.read()["saga.outbox.pending"] == {(SERVICE,): 2}
            await anyio.sleep(20)  # swept after five seconds, looked at every ten
            read = collected.read()
    assert read["messaging.client.sent.messages"] == {("memory", "send", "stock.events"): 2}
    assert "saga.outbox.pending" not in read
