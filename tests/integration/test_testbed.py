# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.testbed import guard
from tests.testbed.cluster import LocalPostgres
from tests.testbed.server import wait_until
from tests.testbed.services import Kafka, Postgres

pytestmark = pytest.mark.anyio


@pytest.mark.kafka
async def test_kafka_returns_the_message_it_was_given(kafka: Kafka) -> None:
    topic = f"testbed.{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"payload", key=b"key")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await asyncio.wait_for(consumer.getone(partition), timeout=20)
    finally:
        await consumer.stop()
    assert (record.key, record.value) == (b"key", b"payload")


@pytest.mark.postgres
async def test_postgres_answers_with_durable_commits(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("select 1") == 1
        assert await connection.fetchval("show fsync") == "on"
        assert await connection.fetchval("show synchronous_commit") == "on"
        assert await connection.fetchval("show max_connections") == "200"
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_postgres_names_are_apart_and_replaced(postgres: Postgres) -> None:
    first = await postgres.create_database("apart")
    connection = await asyncpg.connect(first)
    await connection.execute("create table mark ()")
    await connection.close()
    again = await postgres.create_database("apart")
    connection = await asyncpg.connect(again)
    try:
        assert again == first
        assert await connection.fetchval("select to_regclass('mark')") is None
    finally:
        await connection.close()
        await postgres.drop_database(again)


@pytest.mark.postgres
def test_a_crash_keeps_the_address_and_what_was_committed(postgres: Postgres) -> None:
    """Uses a cluster of its own: other tests hold connections to the shared one."""
    if not isinstance(postgres.control, LocalPostgres):
        pytest.skip("only a local cluster is restarted here")
    server = LocalPostgres()
    try:
        server.start()
        before, own = server.pid, Postgres(server, server.url)
        database = own.create_database_now("kept")
        own.restart_immediate()
        assert server.pid != before
        assert asyncio.run(_select_one(database)) == 1
    finally:
        server.close()
    assert not server.scratch.exists()


async def _select_one(url: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("select 1")
    finally:
        await connection.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_and_its_data_go_when_its_owner_is_killed(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-I", str(Path(guard.__file__)), f"--signal={int(signal.SIGTERM)}"]
    command += ["--grace=5", f"--scratch={scratch}", "--", "sleep", "600"]
    owner_code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline().strip(), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner_code, *command], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        assert alive(server)
        os.kill(owner.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(server) and not scratch.exists(), seconds=10)
