from __future__ import annotations

import gc
import logging
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
OURS = ("saga", "aiokafka", "outbox", "uvicorn")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Take back what a command that runs inside of a test has set for its process: later tests listen to logs."""
    root = logging.getLogger()
    level, there = root.level, set(root.handlers)
    levels = {name: logging.getLogger(name).level for name in _our_loggers()}
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if handler not in there and type(handler).__module__ != "_pytest.logging":
            root.removeHandler(handler)
    for name in _our_loggers():
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def _our_loggers() -> list[str]:
    return [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in OURS]


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
