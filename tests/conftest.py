from __future__ import annotations

import gc
import warnings
from collections.abc import Generator

import pytest

from tests.testbed.fixtures import anyio_backend, database, header, jaeger, kafka, postgres

__all__ = ["anyio_backend", "database", "jaeger", "kafka", "postgres"]

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
    item.config.stash[AFTER_KAFKA] = "kafka" in getattr(item, "fixturenames", ())
    return (yield)
