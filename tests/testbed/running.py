"""Start what was found. Also for benchmarks: `with closing(open_kafka(find("kafka", ...))) as kafka`."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from tests.testbed.broker import LocalKafka, kafka_answers
from tests.testbed.cluster import LocalPostgres, postgres_answers
from tests.testbed.finding import VARIABLES, Found
from tests.testbed.jaeger import OTLP_PORT, OTLP_VARIABLE, LocalJaeger
from tests.testbed.server import ServerFailed
from tests.testbed.services import Control, Jaeger, Kafka, Postgres


def open_kafka(found: Found) -> Kafka:
    """Start the broker, or check that the one at the given address answers."""
    if found.kind == "address":
        _expect(kafka_answers(found.detail), found)
        return Kafka(None, found.detail)
    if found.kind == "docker":
        from tests.testbed.containers import ContainerKafka

        container = ContainerKafka()
        _start(container)
        return Kafka(container, container.bootstrap)
    local = LocalKafka()
    _start(local)
    return Kafka(local, local.bootstrap)


def open_postgres(found: Found) -> Postgres:
    """Start the server, or check that the one at the given address answers."""
    if found.kind == "address":
        _expect(postgres_answers(found.detail), found)
        return Postgres(None, found.detail)
    if found.kind == "docker":
        from tests.testbed.containers import ContainerPostgres

        container = ContainerPostgres()
        _start(container)
        return Postgres(container, container.url)
    local = LocalPostgres()
    _start(local)
    return Postgres(local, local.url)


def open_jaeger(found: Found) -> Jaeger:
    """Start Jaeger, or take the one at the given address."""
    if found.kind == "address":
        query = found.detail.rstrip("/")
        otlp = os.environ.get(OTLP_VARIABLE) or f"http://{urlsplit(query).hostname}:{OTLP_PORT}"
        return Jaeger(None, otlp, query)
    local = LocalJaeger()
    _start(local)
    return Jaeger(local, local.otlp, local.query)


def _start(server: Control) -> None:
    """Start a server and leave nothing behind if that fails or is interrupted."""
    try:
        server.start()
    except BaseException:
        server.close()
        raise


def _expect(answers: bool, found: Found) -> None:
    if not answers:
        raise ServerFailed(f"{VARIABLES[found.name]}={found.detail} does not answer")
