"""Three brokers, of which one after another is killed while work goes on."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from saga.errors import TransportRefused, TransportUnavailable
from saga.ports import TopicSpec
from tests.contracts.transport_contract import Bench, TransportContract, accepted, group, messages, topic
from tests.integration.kafka_load import BATCH, Load, Worker
from tests.testbed.brokers import LocalBroker, LocalCluster
from transports.kafka import KafkaSettings, KafkaTransport

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

QUICK = KafkaSettings(session_seconds=6.0, heartbeat_seconds=0.3, max_message_bytes=900_000, replication_factor=3)
# Measured: 2 to 4 s with the test bed's quick failover.
GOES_ON_SECONDS = 20.0


@pytest.fixture
async def bench(kafka_cluster: LocalCluster, anyio_backend: str) -> AsyncGenerator[Bench]:
    run = uuid.uuid4().hex[:8]
    async with KafkaTransport(kafka_cluster.bootstrap, settings=QUICK) as transport:
        yield Bench(transport=transport, name=lambda hint: f"{hint}-{run}")


@pytest.fixture
def whole(kafka_cluster: LocalCluster) -> LocalCluster:
    """Give the cluster with all of its brokers running."""
    kafka_cluster.start()
    return kafka_cluster


class TestCluster(TransportContract):
    pass


ROLES: dict[str, Callable[[LocalCluster, str, str], LocalBroker]] = {
    "leader": lambda cluster, name, _: cluster.leader(name, 0),
    "controller": lambda cluster, _, __: cluster.controller(),
    "coordinator": lambda cluster, _, reader: cluster.coordinator(reader),
}


@pytest.mark.parametrize("role", ROLES)
async def test_nothing_is_lost_and_work_goes_on_when_a_broker_is_killed(
    role: str, bench: Bench, whole: LocalCluster
) -> None:
    name, reader = await topic(bench, "killed", partitions=3), bench.name("g")
    load = Load(topic=name)
    workers = [Worker(load, slot, {}) for slot in "ab"]
    async with bench.transport.publisher() as publisher, anyio.create_task_group() as tasks:
        for slot, worker in zip("ab", workers, strict=True):
            tasks.start_soon(worker.run, bench.transport, group(reader, name, slot=slot))
        tasks.start_soon(load.publish, publisher)
        with anyio.fail_after(20.0):
            await load.reach(10 * BATCH)
        broker = await anyio.to_thread.run_sync(ROLES[role], whole, name, reader)
        load.longest_publish_seconds = load.longest_silence_seconds = 0.0
        broker.stop_immediate()
        killed = time.monotonic()
        with anyio.fail_after(GOES_ON_SECONDS):
            await load.reach(load.sent + 20 * BATCH)
        stopped = load.longest_publish_seconds, load.longest_silence_seconds, time.monotonic() - killed
        log.info("%s killed: publishing stood still %.1f s, reading %.1f s, on the way after %.1f s", role, *stopped)
        await anyio.to_thread.run_sync(whole.start)
        with anyio.fail_after(GOES_ON_SECONDS):
            await load.reach(load.sent + 10 * BATCH)
            await load.drained()
        tasks.cancel_scope.cancel()
    load.check()


async def test_a_topic_with_too_few_replicas_in_sync_is_named(bench: Bench, whole: LocalCluster) -> None:
    name = bench.name("three")
    admin = AIOKafkaAdminClient(bootstrap_servers=whole.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 3, None, {"min.insync.replicas": "3"})])
    finally:
        await admin.close()
    broker = await anyio.to_thread.run_sync(whole.leader, name, 0)
    settings = replace(QUICK, publish_timeout_seconds=5.0)
    transport = KafkaTransport(whole.bootstrap, settings=settings)
    async with transport, transport.publisher() as publisher:
        await accepted(publisher, messages(name, 1))
        broker.stop_immediate()
        told = f"topic '{name}': min.insync.replicas is 3, wanted at most 2 for the moment: 2 of 3 replicas are in sync"
        with anyio.fail_after(30.0):
            (error,) = await publisher.publish(messages(name, 1))
        assert isinstance(error, TransportUnavailable)
        assert f"not acknowledged within 5 s: nothing listens at {broker.bootstrap}" in str(error)
        assert told in str(error)
        with pytest.raises(TransportUnavailable, match=re.escape(told)):
            await transport.ensure_topics([TopicSpec(name=name, partitions=1)])


async def test_too_few_brokers_for_a_topic_is_said(bench: Bench, kafka_cluster: LocalCluster) -> None:
    many = KafkaTransport(kafka_cluster.bootstrap, settings=KafkaSettings(replication_factor=4))
    with pytest.raises(TransportRefused, match=r"replication factor|Replication"):
        await many.ensure_topics([TopicSpec(name=bench.name("four"), partitions=1)])
