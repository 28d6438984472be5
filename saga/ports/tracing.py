"""Declare what the runtime asks of a tracer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol


class Span(Protocol):
    """Be one open span."""

    @property
    def traceparent(self) -> str:
        """Return the W3C `traceparent` to store and hand on; `""` when there is none."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute; never a payload."""
        ...

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by the error's type."""
        ...


class SpanKind(StrEnum):
    """Name the OpenTelemetry span kinds we use."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"


class Tracer(Protocol):
    """Open spans; an implementation that records nothing still hands the parent's context on."""

    def span(
        self, name: str, kind: SpanKind, parent: str, attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[Span]:
        """Open a span below `parent` (a `traceparent`, `""` for the ambient context)."""
        ...
