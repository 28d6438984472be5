from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed.fixtures import serve
from tests.testbed.running import open_kafka, open_postgres
from tests.testbed.services import Kafka, Postgres


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """Give a broker of the test's own: topics and groups of a world must not be met by the next one."""
    yield from serve("kafka", open_kafka)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Give a server of the test's own, since the test crashes it."""
    yield from serve("postgres", open_postgres)
