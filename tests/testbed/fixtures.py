"""Pytest fixtures: each server starts once per session, when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from typing import TypeVar
from uuid import uuid4

import pytest

from tests.testbed.brokers import LocalCluster
from tests.testbed.browser import installed
from tests.testbed.finding import NAMES, REQUIRE, VARIABLES, Found, Name, ThisMachine, find, required, verdict
from tests.testbed.running import open_jaeger, open_kafka, open_postgres
from tests.testbed.secure import LocalSecureKafka
from tests.testbed.server import ServerFailed
from tests.testbed.services import Jaeger, Kafka, Postgres, Service

S = TypeVar("S", bound=Service)
L = TypeVar("L", LocalCluster, LocalSecureKafka)


@cache
def found(name: Name) -> Found:
    """Return where a service comes from; decided once, so that the header and the tests agree."""
    return find(name, os.environ, ThisMachine())


def header() -> list[str]:
    """Return the lines which tell at the start of a session what the tests run against."""
    demanded = ", ".join(sorted(required(os.environ)))
    lines = [str(found(name)) for name in NAMES]
    return [*lines, f"required: {demanded}"] if demanded else lines


def serve(name: Name, start: Callable[[Found], S]) -> Iterator[S]:
    """Start a service for the session; without one, skip or fail as the environment demands."""
    demand(found(name))
    try:
        service = start(found(name))
    except ServerFailed as error:
        pytest.fail(str(error), pytrace=False)
    with closing(service):
        yield service


def demand(one: Found) -> None:
    """Skip or fail as the environment demands, unless the service can be had."""
    decision = verdict(one, os.environ)
    if decision == "skip":
        pytest.skip(str(one))
    if decision == "fail":
        pytest.fail(f"{one} ({REQUIRE} demands it)", pytrace=False)


def serve_locally(make: Callable[[], L]) -> Iterator[L]:
    """Start a Kafka of a kind that only local processes offer, whatever the other tests use."""
    demand(find("kafka", {VARIABLES["kafka"]: "local"}, ThisMachine()))
    try:
        server = make()
        with closing(server):
            server.start()
            yield server
    except ServerFailed as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def kafka_cluster() -> Iterator[LocalCluster]:
    """Give a cluster of three brokers, for one module as it takes 1 GB; a test that ends one starts it again."""
    yield from serve_locally(LocalCluster)


@pytest.fixture(scope="module")
def kafka_secure() -> Iterator[LocalSecureKafka]:
    """Give a broker that knows TLS, passwords and ACLs."""
    yield from serve_locally(LocalSecureKafka)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """Give the Kafka broker of this session."""
    yield from serve("kafka", open_kafka)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give the PostgreSQL server of this session."""
    yield from serve("postgres", open_postgres)


@pytest.fixture(scope="session")
def jaeger() -> Iterator[Jaeger]:
    """Give the Jaeger of this session."""
    yield from serve("jaeger", open_jaeger)


@pytest.fixture(scope="session")
def browser() -> str:
    """Give the path of a browser's program; where it has to be installed first and cannot be, skip or fail."""
    one = found("browser")
    demand(one)
    if one.kind == "address":
        return one.detail
    try:
        return installed()
    except RuntimeError as error:
        demand(Found("browser", "missing", f"none, {error}"))
        raise


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Give the URL of an empty database which is dropped after the test."""
    url = postgres.create_database_now(uuid4().hex[:12])
    yield url
    postgres.drop_database_now(url)


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio; a test which supports trio too parametrizes itself."""
    return "asyncio"
