"""Declare what the runtime asks of a tracer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from saga._core.envelope import Delivery, Envelope
from saga._core.story import Story


class Span(Protocol):
    """Be one open span."""

    @property
    def traceparent(self) -> str:
        """Return the W3C `traceparent` to store and hand on; `""` when there is none."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute; never a payload."""
        ...

    def link(self, traceparent: str) -> None:
        """Point to another context that this work comes from as well."""
        ...

    def event(self, name: str, attributes: Mapping[str, str | int], error: BaseException | None = None) -> None:
        """Say that something happened in it; of an `error` its type, and never its text."""
        ...

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by the error's type."""
        ...

    def hold(self) -> None:
        """Do not end with the context, as it is not known yet what came of it; `end` ends it, at that time."""
        ...

    def end(self) -> None:
        """End what was held."""
        ...


class SpanKind(StrEnum):
    """Name the OpenTelemetry span kinds we use."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"


class Below(StrEnum):
    """Say where a span stands: in the trace of its parent, or on top of a new one with a link to the parent.

    FAILED is a new trace too, recorded even where that of its parent is not: of a saga that has failed.
    """

    PARENT = "parent"
    LINK = "link"
    FAILED = "failed"


class Tracer(Protocol):
    """Open spans; an implementation that records nothing still hands the parent's context on."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: Mapping[str, str | int],
        below: Below = Below.PARENT,
    ) -> AbstractContextManager[Span]:
        """Open a span below `parent` (a `traceparent`, `""` for the ambient context)."""
        ...

    def process(
        self, delivery: Delivery, envelope: Envelope, about: tuple[str, str], now: datetime
    ) -> AbstractContextManager[Span]:
        """Open a span for the handling of a message, below its creation; after a long wait a new trace, with a link.

        `about` is one more attribute: what handles it.
        """
        ...

    def untraced(self) -> str | None:
        """Return the ambient context where no span is recorded whatever its parent is; None where some may be.

        Whoever has many spans to open asks once, and hands on the parent's context, or this one where there is none.
        """
        ...

    def tell(self, story: Story) -> None:
        """Record spans of stored times."""
        ...
