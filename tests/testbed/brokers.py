"""Start three Kafka brokers which form one cluster, and end those of them which play a part."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.testbed.broker import JVM, cluster_id, fetch_jars, kafka_answers, run
from tests.testbed.server import LOOPBACK, LocalServer, ServerFailed, free_port, run_apart, wait_until

T = TypeVar("T")

NODES = (1, 2, 3)
SETTLE_SECONDS = 30.0

# A dead broker is noticed after 2 s instead of 9 and a dead controller after 1 s instead of 2.
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.timeout.ms=500
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.dirs={data}
"""


class LocalBroker(LocalServer):
    """One broker of a cluster; it is also a voter of the controllers' quorum."""

    name = "kafka"

    def __init__(self, node: int, ports: Sequence[tuple[int, int]], cluster: str) -> None:
        super().__init__()
        self.node = node
        port, controller_port = ports[node - 1]
        self.bootstrap = f"{LOOPBACK}:{port}"
        self.data = self.scratch / "data"
        self._jars = fetch_jars()
        self._properties = self.scratch / "server.properties"
        voters = ",".join(f"{one}@{LOOPBACK}:{ports[one - 1][1]}" for one in NODES)
        self._properties.write_text(
            PROPERTIES.format(node=node, voters=voters, port=port, controller_port=controller_port, data=self.data)
        )
        self._cluster = cluster

    def format(self) -> None:
        """Prepare the data directory."""
        arguments = ["format", "-t", self._cluster, "-c", str(self._properties)]
        run([*self._java(), "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage")

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def ready(self) -> bool:
        return kafka_answers(self.bootstrap)

    def quorum(self) -> tuple[int, int]:
        """Return the epoch and the node of the active controller, as this node has last stored them."""
        file = self.data / "__cluster_metadata-0" / "quorum-state"
        state: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        return state.get("leaderEpoch", -1), state.get("leaderId", -1)

    def _java(self) -> list[str]:
        return ["java", *JVM, "-Xmx256m", "-cp", f"{self._jars}/*"]


class LocalCluster:
    """Three brokers, replication 3, of which two must have a record (`min.insync.replicas=2`).

    All methods block and may be called from any thread, one at a time.
    """

    def __init__(self) -> None:
        ports = [(free_port(), free_port()) for _ in NODES]
        cluster = cluster_id()
        self.brokers = [LocalBroker(node, ports, cluster) for node in NODES]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start what does not run, and wait until every partition has all of its replicas in sync."""
        fresh = [broker for broker in self.brokers if not broker.data.exists()]
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(LocalBroker.format, fresh))
        for broker in self.brokers:
            if not broker.running:
                broker.launch()
        for broker in self.brokers:
            broker.await_ready()
        if not wait_until(lambda: self._ask(_whole), SETTLE_SECONDS):
            raise ServerFailed(f"replicas are not in sync after {SETTLE_SECONDS:.0f} s")

    def close(self) -> None:
        """End all brokers and remove their data."""
        for broker in self.brokers:
            broker.stop_immediate()
            shutil.rmtree(broker.scratch, ignore_errors=True)

    def leader(self, topic: str, partition: int) -> LocalBroker:
        """Return the broker which leads the partition."""

        async def ask(admin: AIOKafkaAdminClient) -> int:
            (found,) = await admin.describe_topics([topic])
            return next(int(one["leader"]) for one in found["partitions"] if one["partition"] == partition)

        return self._broker(self._ask(ask))

    def coordinator(self, group: str) -> LocalBroker:
        """Return the broker which coordinates the group."""

        async def ask(admin: AIOKafkaAdminClient) -> int:
            while True:
                try:
                    return int(await admin.find_coordinator(group))
                except GroupCoordinatorNotAvailableError:  # the first one who asks has its topic made
                    await asyncio.sleep(0.1)

        return self._broker(self._ask(ask))

    def controller(self) -> LocalBroker:
        """Return the active controller; Kafka's own metadata names any broker instead."""
        return self._broker(max(broker.quorum() for broker in self.brokers)[1])

    def _broker(self, node: int) -> LocalBroker:
        return next(broker for broker in self.brokers if broker.node == node)

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        async def answer() -> T:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
            try:
                await admin.start()
                return await question(admin)
            finally:
                await admin.close()

        return run_apart(lambda: asyncio.wait_for(answer(), SETTLE_SECONDS))


async def _whole(admin: AIOKafkaAdminClient) -> bool:
    topics = await admin.describe_topics()
    partitions = [one for topic in topics for one in topic["partitions"]]
    brokers = (await admin.describe_cluster())["brokers"]
    return len(brokers) == len(NODES) and all(len(one["isr"]) == len(one["replicas"]) for one in partitions)
