from __future__ import annotations

import gc
import warnings
from collections.abc import Generator

import pytest

from tests.testbed.fixtures import (
    anyio_backend,
    browser,
    database,
    header,
    jaeger,
    kafka,
    kafka_cluster,
    kafka_secure,
    postgres,
)

__all__ = ["anyio_backend", "browser", "database", "jaeger", "kafka", "kafka_cluster", "kafka_secure", "postgres"]

AFTER_KAFKA = pytest.StashKey[bool]()


def pytest_report_header() -> list[str]:
    return header()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Collect a connection that aiokafka was still making when it was closed; else some later test is blamed.

    Before the next test: until then the one before is still held by whoever reports it.
    """
    if item.config.stash.get(AFTER_KAFKA, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    fixtures: tuple[str, ...] = getattr(item, "fixturenames", ())
    item.config.stash[AFTER_KAFKA] = any(name.startswith("kafka") for name in fixtures)
    return (yield)
