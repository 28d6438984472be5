"""What a secured broker refuses, and the words it is told in."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from saga.errors import SettingsError, TransportRefused, TransportUnavailable
from saga.ports import TopicSpec, Transport
from tests.contracts.transport_contract import Bench, accepted, after, collect, group, member, messages, topic, values
from tests.testbed.secure import PASSWORDS, LocalSecureKafka
from transports import open_transport
from transports.kafka import KafkaSettings, KafkaTransport, Mechanism, Security, subscription

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

SHORT = KafkaSettings(
    connect_timeout_seconds=3.0,
    publish_timeout_seconds=3.0,
    close_timeout_seconds=1.0,
    commit_timeout_seconds=2.0,
    query_timeout_seconds=2.0,
    session_seconds=6.0,
    heartbeat_seconds=0.3,
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One wrong way to connect, and what must be said about it."""

    port: Callable[[LocalSecureKafka], int]
    settings: Callable[[LocalSecureKafka], KafkaSettings]
    told: str
    host: str = "127.0.0.1"
    refused: bool = True


def sasl(broker: LocalSecureKafka, **changed: object) -> KafkaSettings:
    ready = replace(
        SHORT,
        security=Security.SASL_SSL,
        mechanism=Mechanism.SCRAM_SHA_512,
        user="alice",
        password=PASSWORDS["alice"],
        ca_file=str(broker.ca_file),
    )
    return replace(ready, **changed)  # type: ignore[arg-type]


def plain_sasl(broker: LocalSecureKafka, **changed: object) -> KafkaSettings:
    return sasl(broker, security=Security.SASL_PLAINTEXT, ca_file="", **changed)


def tls(broker: LocalSecureKafka, **changed: object) -> KafkaSettings:
    return replace(SHORT, security=Security.SSL, ca_file=str(broker.ca_file), **changed)  # type: ignore[arg-type]


WRONG = {
    "password": Attempt(
        port=lambda b: b.sasl_tls,
        settings=lambda b: sasl(b, password="hunter2"),
        told="wrong password for user 'alice' at 127.0.0.1:PORT, or no such user for SCRAM-SHA-512",
    ),
    "plain password": Attempt(
        port=lambda b: b.sasl,
        settings=lambda b: plain_sasl(b, password="hunter2", mechanism=Mechanism.PLAIN),
        told="wrong password for user 'alice' at 127.0.0.1:PORT, or no such user for PLAIN",
    ),
    "user": Attempt(
        port=lambda b: b.sasl_tls,
        settings=lambda b: sasl(b, user="mallory", mechanism=Mechanism.SCRAM_SHA_256),
        told="wrong password for user 'mallory' at 127.0.0.1:PORT, or no such user for SCRAM-SHA-256",
    ),
    "mechanism": Attempt(
        port=lambda b: b.sasl,
        settings=lambda b: plain_sasl(b, mechanism=Mechanism.SCRAM_SHA_256),
        told="the listener at 127.0.0.1:PORT does not offer SCRAM-SHA-256: set mechanism",
    ),
    "authority": Attempt(
        port=lambda b: b.sasl_tls,
        settings=lambda b: sasl(b, ca_file=str(b.other_ca_file)),
        told="the certificate of 127.0.0.1:PORT is not trusted by 'OTHER'",
    ),
    "no authority": Attempt(
        port=lambda b: b.sasl_tls,
        settings=lambda b: sasl(b, ca_file=""),
        told="the certificate of 127.0.0.1:PORT is not trusted by this machine's authorities",
    ),
    "host name": Attempt(
        port=lambda b: b.sasl_tls,
        settings=sasl,
        told="the certificate of localhost:PORT is not for this host name",
        host="localhost",
    ),
    "no TLS in the client": Attempt(
        port=lambda b: b.sasl_tls,
        settings=plain_sasl,
        told="the listener at 127.0.0.1:PORT speaks TLS, the client does not: set security=SASL_SSL",
    ),
    "no TLS in the broker": Attempt(
        port=lambda b: b.plain,
        settings=tls,
        told="the client speaks TLS, the listener at 127.0.0.1:PORT does not",
    ),
    "no user": Attempt(
        port=lambda b: b.sasl_tls,
        settings=tls,
        told="the listener at 127.0.0.1:PORT wants a user and a password: set security=SASL_SSL",
    ),
    "a user too many": Attempt(
        port=lambda b: b.plain,
        settings=plain_sasl,
        told="the listener at 127.0.0.1:PORT takes no user and password: set security=PLAINTEXT",
    ),
    "no client certificate": Attempt(
        port=lambda b: b.tls,
        settings=tls,
        told="127.0.0.1:PORT wants a client certificate: set certificate_file",
    ),
    "port": Attempt(
        port=lambda _: 1,
        settings=lambda _: SHORT,
        told="nothing listens at 127.0.0.1:PORT",
        refused=False,
    ),
    "host": Attempt(
        port=lambda _: 9092,
        settings=lambda _: SHORT,
        told="the host name of nowhere.invalid:PORT is not known here",
        host="nowhere.invalid",
        refused=False,
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_the_real_reason_is_told(name: str, kafka_secure: LocalSecureKafka) -> None:
    attempt, port = WRONG[name], WRONG[name].port(kafka_secure)
    told = attempt.told.replace("PORT", str(port)).replace("OTHER", str(kafka_secure.other_ca_file))
    kind = TransportRefused if attempt.refused else TransportUnavailable
    async with KafkaTransport(f"{attempt.host}:{port}", settings=attempt.settings(kafka_secure)) as transport:
        with anyio.fail_after(12.0), pytest.raises(kind) as caught:
            await transport.ensure_topics([])
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_every_client_tells_it(kafka_secure: LocalSecureKafka) -> None:
    settings = sasl(kafka_secure, password="hunter2")
    transport = KafkaTransport(f"127.0.0.1:{kafka_secure.sasl_tls}", settings=settings)
    bench = Bench(transport=transport, name=str)
    with anyio.fail_after(20.0):
        async with transport, transport.publisher() as publisher:
            (error,) = await publisher.publish(messages("t", 1))
            assert isinstance(error, TransportRefused)
            with pytest.raises(TransportRefused, match="wrong password"):
                async with member(bench, group("g", "t")):
                    pass
            with pytest.raises(TransportRefused, match="wrong password"):
                async with transport.table("t"):
                    pass


@pytest.mark.parametrize(
    "query",
    [
        "security=sasl_ssl&mechanism=plain&user=alice&ca_file=CA&password_file=PASSWORD",
        "security=SASL_SSL&mechanism=scram_sha_256&user=alice&ca_file=CA&password_file=PASSWORD",
        "user=alice&ca_file=CA&prefix=p-",
    ],
)
async def test_a_url_and_a_secret_from_outside_of_it_are_enough(
    query: str, kafka_secure: LocalSecureKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", PASSWORDS["alice"])
    (tmp_path / "password").write_text(PASSWORDS["alice"] + "\n")
    filled = query.replace("CA", str(kafka_secure.ca_file)).replace("PASSWORD", str(tmp_path / "password"))
    async with open_transport(f"kafka://127.0.0.1:{kafka_secure.sasl_tls}?{filled}") as transport:
        await works(transport)


async def test_a_client_certificate_is_enough(kafka_secure: LocalSecureKafka) -> None:
    settings = tls(kafka_secure, certificate_file=str(kafka_secure.client_file))
    # Nobody has given rights to the certificate's name.
    async with KafkaTransport(f"127.0.0.1:{kafka_secure.tls}", settings=settings) as transport:
        with pytest.raises(
            TransportRefused, match=r"by its certificate, or anonymous.* has no right to it; grant Create"
        ):
            await works(transport)


async def works(transport: Transport) -> None:
    bench = Bench(transport=transport, name=lambda hint: f"{hint}-{uuid.uuid4().hex[:8]}")
    name = await topic(bench, "works")
    async with transport.publisher() as publisher:
        await accepted(publisher, messages(name, 3))
    async with member(bench, group(bench.name("g"), name)) as one:
        found = await collect(one, 3)
        await one.commit(after(found))
    assert values(found) == [0, 1, 2]


async def test_a_password_never_reaches_the_log(
    kafka_secure: LocalSecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "aiokafka")  # else it says no less than warnings
    settings = plain_sasl(kafka_secure, mechanism=Mechanism.PLAIN)
    async with KafkaTransport(f"127.0.0.1:{kafka_secure.sasl}", settings=settings) as transport:
        await transport.ensure_topics([])
        repr(transport)
    assert "Received successful" in caplog.text or "Request to" in caplog.text
    assert PASSWORDS["alice"] not in caplog.text + repr(transport)


async def test_a_password_changed_under_running_clients_ends_in_its_reason(
    kafka_secure: LocalSecureKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_LOOK_EVERY_SECONDS", 0.5)
    file = tmp_path / "password"
    file.write_text(PASSWORDS["carol"])
    settings = sasl(kafka_secure, user="carol", password="", password_file=str(file), mechanism=Mechanism.PLAIN)
    bootstrap = f"127.0.0.1:{kafka_secure.sasl_tls}"
    bench = Bench(
        transport=KafkaTransport(bootstrap, settings=settings), name=lambda hint: f"{hint}-{uuid.uuid4().hex[:8]}"
    )
    name = await topic(bench, "changed")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(bench.transport.publisher())
        await accepted(publisher, messages(name, 1))
        one = await stack.enter_async_context(member(bench, group(bench.name("g"), name)))
        found = await collect(one, 1)
        kafka_secure.change_password("carol", "another-secret")
        await anyio.to_thread.run_sync(kafka_secure.restart_immediate)
        with anyio.fail_after(20.0):
            while not isinstance((await publisher.publish(messages(name, 1)))[0], TransportRefused):
                pass
        with anyio.fail_after(10.0), pytest.raises(TransportRefused, match="wrong password for user 'carol'"):
            await one.commit(after(found))
        with anyio.fail_after(20.0), pytest.raises(TransportRefused, match="wrong password for user 'carol'"):
            await forever(lambda: one.fetch(10, 1.0))
        # The file is read for each connection.
        file.write_text("another-secret")
        with anyio.fail_after(10.0):
            await accepted(publisher, messages(name, 1))


async def test_a_password_file_that_is_not_there_is_named(kafka_secure: LocalSecureKafka, tmp_path: Path) -> None:
    settings = sasl(kafka_secure, password="", password_file=str(tmp_path / "nowhere"))
    async with KafkaTransport(f"127.0.0.1:{kafka_secure.sasl_tls}", settings=settings) as transport:
        with pytest.raises(SettingsError, match="nowhere"):
            await transport.ensure_topics([])


async def test_a_missing_right_is_named(kafka_secure: LocalSecureKafka, caplog: pytest.LogCaptureFixture) -> None:
    run = uuid.uuid4().hex[:8]
    seen, unseen, reader = f"seen-{run}", f"unseen-{run}", f"g-{run}"
    async with KafkaTransport(f"127.0.0.1:{kafka_secure.plain}", settings=SHORT) as keeper:
        await keeper.ensure_topics([TopicSpec(name=name, partitions=1) for name in (seen, unseen)])
    await anyio.to_thread.run_sync(kafka_secure.allow_describe, "bob", seen)
    settings = sasl(kafka_secure, user="bob", password=PASSWORDS["bob"])
    async with KafkaTransport(f"127.0.0.1:{kafka_secure.sasl_tls}", settings=settings) as transport:
        bench = Bench(transport=transport, name=str)
        caplog.clear()
        await transport.ensure_topics([TopicSpec(name=seen, partitions=1)])
        assert f"topic {seen!r}: its settings cannot be checked; grant DescribeConfigs" in caplog.text
        with pytest.raises(
            TransportRefused, match=f"{unseen}.*User:bob has no right to it; grant Create on that topic"
        ):
            await transport.ensure_topics([TopicSpec(name=unseen, partitions=1)])
        async with transport.publisher() as publisher:
            (error,) = await publisher.publish(messages(seen, 1))
            assert isinstance(error, TransportRefused)
            assert "User:bob has no right to it; grant Write on the topics" in str(error)
        with (
            anyio.fail_after(15.0),
            pytest.raises(TransportRefused, match=f"User:bob .*grant Read on group '{reader}'"),
        ):
            async with member(bench, group(reader, seen)):
                pass
        with anyio.fail_after(15.0), pytest.raises(TransportRefused, match=r"User:bob .*grant Read and Describe"):
            async with transport.table(seen) as table:
                await forever(lambda: table.changes(1.0))


async def forever(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await call()
