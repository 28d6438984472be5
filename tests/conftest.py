from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.testbed.fixtures import anyio_backend, database, header, jaeger, kafka, postgres

__all__ = ["anyio_backend", "database", "jaeger", "kafka", "postgres"]


def pytest_report_header() -> list[str]:
    return header()


@pytest.fixture(autouse=True)
def connections_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect a connection that aiokafka was still making when it was closed; else some later test is blamed."""
    yield
    if "kafka" in request.fixturenames:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
