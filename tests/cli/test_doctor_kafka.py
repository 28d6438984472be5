"""Faults planted in a real Kafka are found by `saga doctor`, each with the command that mends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from saga._core.announcing import Live, Replica, live_to_json, manifest_hash, manifest_key, replica_key
from saga._core.breaker import Phase
from saga._core.brokers import Presence
from saga._core.diagnosing import Found, diagnose
from saga._core.envelope import Message
from saga._core.fleet import FleetVerdict, verdict_message
from saga._core.manifest import manifest_to_json
from saga._core.topics import MANIFESTS
from saga.cli.examining import Asked, examine
from saga.cli.targets import manifests_at, runs_at
from saga.cli.topic_verbs import needed
from saga.ports import GroupSpec, TopicPartition, TopicSpec
from tests.cli.test_dlq import Said
from tests.testbed.secure import PASSWORDS, LocalSecureKafka
from tests.testbed.server import run_apart
from tests.testbed.services import Kafka
from transports.kafka.settings import KafkaSettings
from transports.urls import open_broker, open_transport

TARGET = "tests.core.checkout:SERVICES"
PARTITIONS = 1
T = TypeVar("T")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAGA_STORE", "SAGA_COORDINATOR_STORE", "SAGA_TRANSPORT"):
        monkeypatch.delenv(name, raising=False)


def a_part(kafka: Kafka) -> str:
    """Return a part of the broker of one's own."""
    return f"kafka://{kafka.bootstrap}?prefix=t{uuid4().hex[:8]}."


@pytest.fixture(scope="module")
def whole(kafka: Kafka) -> str:
    """Give one with all topics that the checkout needs; each test plants a fault of its own into it."""
    url = a_part(kafka)
    assert topics("create", url).code == 0
    return url


def topics(verb: str, url: str, *arguments: str) -> Said:
    return without_store("topics", verb, TARGET, "--transport", url, "--partitions", str(PARTITIONS), *arguments)


def without_store(*arguments: str) -> Said:
    from typer.testing import CliRunner

    from saga.cli.commands import app

    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    return Said(code=result.exit_code, out=result.stdout, err=result.stderr)


def doctor(url: str, *arguments: str) -> Said:
    return without_store("doctor", TARGET, "--json", "--transport", url, *arguments)


def the(said: Said, code: str) -> dict[str, Any]:
    """Return the one finding of this code."""
    (found,) = [line for line in said.lines if line["code"] == code]
    one: dict[str, Any] = found
    return one


def prefix(url: str) -> str:
    return url.partition("prefix=")[2]


def bootstrap(url: str) -> str:
    return url.removeprefix("kafka://").partition("?")[0]


def at_the_broker(url: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    async def run() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(url))
        try:
            await admin.start()
            return await ask(admin)
        finally:
            await admin.close()

    return run_apart(run)


def make_topics(url: str, *specs: Any) -> None:
    async def make(admin: AIOKafkaAdminClient) -> None:
        answer: Any = await admin.create_topics(list(specs))
        assert all(row[1] == 0 for row in answer.topic_errors), answer

    at_the_broker(url, make)
    names = {str(spec.name).removeprefix(prefix(url)) for spec in specs}

    async def wait() -> None:
        # A broker lists a topic a moment after it has made it.
        async with open_broker(url) as broker:
            with anyio.fail_after(60):
                while any(state.presence is not Presence.THERE for state in await broker.topics(named(names))):
                    await anyio.lowlevel.checkpoint()

    anyio.run(wait)


def named(names: Iterable[str]) -> list[TopicSpec]:
    return [TopicSpec(name=name, partitions=1) for name in names]


def publish(url: str, *messages: Message) -> None:
    async def send() -> None:
        async with open_transport(url) as transport, transport.publisher() as publisher:
            assert await publisher.publish(messages) == [None] * len(messages)

    anyio.run(send)


def test_a_healthy_broker_exits_0_and_says_that_nobody_is_at_work(whole: str) -> None:
    said = doctor(whole)
    assert said.code == 0
    assert [(line["code"], line["severity"]) for line in said.lines] == [
        ("coordinator-absent", "risk"),
        ("service-absent", "risk"),
    ]
    assert said.lines[0]["mend"].startswith("saga coordinator --transport ")
    assert "inventory, orders, payment, shipping" in said.lines[1]["text"]
    assert doctor(whole, "--strict").code == 1


def test_a_broker_that_is_away() -> None:
    said = doctor("kafka://127.0.0.1:1?connect_timeout_seconds=1")
    assert [line["code"] for line in said.lines] == ["broker-away"]
    assert (said.code, "nothing listens at 127.0.0.1:1" in said.lines[0]["text"]) == (3, True)
    assert said.lines[0]["mend"] == "kafka-broker-api-versions --bootstrap-server 127.0.0.1:1"


def test_topics_that_are_missing_or_wrong_and_the_commands_that_mend_them(kafka: Kafka) -> None:
    url = a_part(kafka)
    wrong: dict[str, dict[str, str]] = {
        "orders.events": {"retention.ms": "60000"},
        "payment.events": {"cleanup.policy": "compact"},
        "shipping.events": {"min.insync.replicas": "2"},
        "orders.commands": {},
    }
    make_topics(url, *(NewTopic(prefix(url) + name, 1, 1, topic_configs=each) for name, each in wrong.items()))
    said = doctor(url, "--partitions", "2")
    assert said.code == 1
    missing = the(said, "topics-missing")
    assert "saga.runs" in missing["text"]
    assert not any(name in missing["text"] for name in ("orders.events,", "orders.commands,"))
    mends = {line["mend"] for line in said.lines if line["code"] in ("topic-wrong", "topic-risk")}
    name = f"--entity-name {prefix(url)}"
    for wanted in (
        f"{name}orders.events --add-config retention.ms=86400000",
        f"{name}payment.events --add-config cleanup.policy=delete",
        f"{name}shipping.events --add-config min.insync.replicas=1",
        f"--alter --topic {prefix(url)}orders.commands --partitions 2",
    ):
        assert any(mend.endswith(wanted) for mend in mends), wanted
    words = missing["mend"].replace("'", "").split()
    assert words[:4] == ["saga", "topics", "create", TARGET]
    assert without_store(*words[1:]).code == 0
    assert "topics-missing" not in {line["code"] for line in doctor(url).lines}


async def _nothing(places: frozenset[TopicPartition]) -> None:
    del places


async def _from_start(places: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
    del places
    return {}


class Member:
    """Be a member of a group, for as long as it is entered; it commits what it is told to."""

    def __init__(self, url: str, group: str, slot: str = "0", topics: Sequence[str] = ("saga.outcomes",)) -> None:
        self._url = url
        self._spec = GroupSpec(name=group, slot=slot, topics=tuple(topics))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        transport = await self._stack.enter_async_context(open_transport(self._url))
        joined = transport.subscribe(self._spec, on_assigned=_from_start, on_revoked=_nothing)
        self.subscription = await self._stack.enter_async_context(joined)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def read(self, count: int) -> None:
        """Read and commit that many messages."""
        seen: dict[TopicPartition, int] = {}
        read = 0
        with anyio.fail_after(60):
            while read < count:
                for each in await self.subscription.fetch(count - read, 5.0):
                    read += 1
                    seen[TopicPartition(topic=each.topic, partition=each.partition)] = each.offset + 1
        await self.subscription.commit(seen)


def outcomes(number: int) -> list[Message]:
    return [Message(topic="saga.outcomes", key=b"one key", value=b"{}") for _ in range(number)]


def test_a_group_that_nobody_reads_for_any_more(whole: str) -> None:
    publish(whole, *outcomes(5))

    async def read_two_and_stop() -> None:
        # A dynamic member leaves its group when it goes; a static one keeps its place for the session.
        topic, group = f"{prefix(whole)}saga.outcomes", f"{prefix(whole)}shipping"
        consumer: Any = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap(whole),
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            batch = await consumer.getmany(timeout_ms=30_000, max_records=2)
            await consumer.commit({place: records[-1].offset + 1 for place, records in batch.items()})
        finally:
            await consumer.stop()

    asyncio.run(read_two_and_stop())
    said = doctor(whole)
    found = the(said, "group-empty")
    assert (said.code, "group shipping: 3 messages wait" in found["text"]) == (1, True)
    assert found["mend"] == f"saga run {runs_at((TARGET,))['shipping']}"


async def no_time(seconds: float) -> None:
    del seconds


async def found_by(url: str, **changes: Any) -> list[Found]:
    facts = await examine(Asked(transport=url, targets=(TARGET,), **changes))
    return list(diagnose(facts))


def test_a_group_that_stands_still(whole: str) -> None:
    publish(whole, *outcomes(5))

    async def look() -> list[Found]:
        async with Member(whole, "inventory") as member:
            await member.read(1)
            return await found_by(whole, sleep=no_time)

    (found,) = [one for one in anyio.run(look) if one.code == "group-stuck"]
    assert "group inventory stands still with " in found.text
    assert found.mend.endswith("--describe --group inventory")


def test_two_processes_with_one_slot(whole: str) -> None:
    publish(whole, *outcomes(1))

    async def look() -> list[Found]:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(Member(whole, "orders", "7"))
            await first.read(1)

            async def another_comes(seconds: float) -> None:
                del seconds
                await stack.enter_async_context(Member(whole, "orders", "7"))

            return await found_by(whole, sleep=another_comes)

    (found,) = [one for one in anyio.run(look) if one.code == "slot-twice"]
    assert ("orders-7" in found.text, found.mend.startswith("export SAGA_SLOT=")) == (True, True)


def test_a_dependency_that_is_out_for_the_fleet(whole: str) -> None:
    until = datetime.now(UTC) + timedelta(seconds=25)
    verdict = FleetVerdict(dependency="gateway", phase=Phase.OPEN, share=0, valid_until=until)
    publish(
        whole,
        verdict_message(verdict),
        verdict_message(replace(verdict, dependency="old", valid_until=until.min.replace(tzinfo=UTC))),
    )
    said = doctor(whole)
    found = the(said, "breaker-open")
    assert (said.code, "gateway is open" in found["text"], found["mend"]) == (1, True, "saga breakers ls")


def test_replicas_of_one_service_that_differ(whole: str) -> None:
    orders = next(one for one in manifests_at([TARGET]) if one.service == "orders")
    other = replace(orders, sagas=())
    messages: list[Message] = []
    for slot, manifest in (("0", orders), ("1", other)):
        live = Live(replica=Replica(service="orders", slot=slot), hash=manifest_hash(manifest))
        messages += [
            Message(topic=MANIFESTS, key=manifest_key(live.hash).encode(), value=manifest_to_json(manifest)),
            Message(topic=MANIFESTS, key=replica_key(live.replica).encode(), value=live_to_json(live)),
        ]
    publish(whole, *messages)
    found = the(doctor(whole), "replicas-differ")
    assert (found["severity"], "finish the deploy" in found["text"]) == ("risk", True)


def test_messages_from_the_future(whole: str) -> None:
    async def send() -> None:
        producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap(whole))
        await producer.start()
        try:
            later = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000)
            await producer.send_and_wait(f"{prefix(whole)}orders.events", b"{}", key=b"k", timestamp_ms=later)
        finally:
            await producer.stop()

    asyncio.run(send())
    found = the(doctor(whole), "clock-ahead")
    assert ("messages in orders.events" in found["text"], "ntp" in found["mend"]) == (True, True)


# --- a broker that wants to know who asks ------------------------------------------------------------------------


def secure_url(kafka: LocalSecureKafka, user: str) -> str:
    return (
        f"kafka://127.0.0.1:{kafka.sasl}?security=SASL_PLAINTEXT&mechanism=PLAIN&user={user}&connect_timeout_seconds=5"
    )


def test_a_wrong_password(kafka_secure: LocalSecureKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", "wrong")
    said = doctor(secure_url(kafka_secure, "alice"))
    assert [line["code"] for line in said.lines] == ["broker-refused"]
    assert (said.code, "wrong password for user 'alice'" in said.lines[0]["text"]) == (3, True)
    assert said.lines[0]["mend"] == "saga config"


def test_rights_that_are_missing(kafka_secure: LocalSecureKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    async def make() -> None:
        specs, _ = needed([TARGET], PARTITIONS)
        settings = KafkaSettings(connect_timeout_seconds=5.0)
        async with open_broker(f"kafka://127.0.0.1:{kafka_secure.plain}", settings=settings) as broker:
            await broker.create(specs)

    anyio.run(make)
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", PASSWORDS["bob"])
    said = doctor(secure_url(kafka_secure, "bob"))
    codes = {line["code"]: line for line in said.lines}
    assert (said.code, sorted(codes)) == (1, ["acl-groups", "acl-topics"])
    assert "User:bob has no right to see " in codes["acl-topics"]["text"]
    assert "--add --allow-principal User:bob --operation Describe" in codes["acl-topics"]["mend"]
    assert "--topic saga.runs" in codes["acl-topics"]["mend"]
    assert "--operation Read --group" in codes["acl-groups"]["mend"]
    assert PASSWORDS["bob"] not in said.out
