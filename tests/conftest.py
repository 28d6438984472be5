from __future__ import annotations

from tests.testbed.fixtures import anyio_backend, database, header, jaeger, kafka, postgres

__all__ = ["anyio_backend", "database", "jaeger", "kafka", "postgres"]


def pytest_report_header() -> list[str]:
    return header()
