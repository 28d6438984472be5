"""Let two processes warn each other of a dependency over a real broker."""

from __future__ import annotations

from uuid import uuid4

import anyio
import pytest

from saga import Breaker, Dependency
from saga._core.breaker import CallOutcome, Phase
from saga._core.topics import BREAKERS
from saga._runtime.fleet import Fleet, FleetJudge
from saga._runtime.stations import topic_specs
from saga._runtime.throttle import Throttle
from saga.ports import Transport
from tests.testbed.services import Kafka
from transports import open_transport

pytestmark = pytest.mark.anyio


async def live(fleet: Fleet, transport: Transport) -> None:
    """Hear and speak until cancelled."""
    async with transport.publisher() as publisher, anyio.create_task_group() as tasks:
        tasks.start_soon(fleet.follow, transport)
        tasks.start_soon(fleet.speak, publisher)


@pytest.mark.kafka
async def test_a_verdict_reaches_another_process_over_kafka(kafka: Kafka) -> None:
    url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    failing, fine = (Throttle(Dependency("gateway", breaker=Breaker())) for _ in range(2))
    one, other = Fleet("0"), Fleet("1")
    one.watch("payment", [failing])
    other.watch("billing", [fine])
    one.judge = FleetJudge()
    async with open_transport(url) as here, open_transport(url) as there:
        await here.ensure_topics(topic_specs((), (), partitions=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live, one, here)
            tasks.start_soon(live, other, there)
            with anyio.fail_after(30):
                while other.out(["gateway"]) is None:
                    for _ in range(10):
                        failing.called(CallOutcome.FAILED, began=anyio.current_time())
                    await other.news(0.5)
            tasks.cancel_scope.cancel()
        assert fine.phase is Phase.HALF_OPEN
        # Who comes up later learns it from the compacted topic.
        late = Fleet("2")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live, late, there)
            with anyio.fail_after(10):
                await late.news(10)
            assert late.out(["gateway"]) is not None, BREAKERS
            tasks.cancel_scope.cancel()
