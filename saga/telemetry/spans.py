"""Be the spans of the OpenTelemetry API, and read and write their contexts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import Token
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from saga._runtime.tracing import ROLLED_BACK, NullSpan

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class PassedSpan(NullSpan):
    """Be a span that is not recorded because its parent is not: what others open below it is not recorded either."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        self._token = contexts.attach(context_of(self.traceparent))
        return self

    def __exit__(self, *exc: object) -> None:
        contexts.detach(self._token)


class OtelSpan:
    """Be one span; ends with its context, or later if it is held."""

    __slots__ = ("_above", "_ended_ns", "_is_held", "_left", "_parent", "_span", "_token")

    def __init__(
        self, span: trace.Span, above: Context, parent: str, left: Callable[[OtelSpan, Exception], None]
    ) -> None:
        """Begin; `left` says what an exception that leaves the context means."""
        self._span = span
        self._above = above
        self._parent = parent
        self._left: Callable[[OtelSpan, Exception], None] | None = left
        self._is_held = False
        self._ended_ns: int | None = None
        self._token: Token[Context] | None = None

    @property
    def traceparent(self) -> str:
        """Return this span's own context; the parent's where nothing is traced."""
        return written(self._span.get_span_context()) or self._parent

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute; never a payload."""
        self._span.set_attribute(name, value)

    def link(self, traceparent: str) -> None:
        """Add a link to another context; what is no traceparent is left out."""
        if self._span.is_recording() and (context := remote(traceparent).get_span_context()).is_valid:
            self._span.add_link(context)

    def event(self, name: str, attributes: Mapping[str, str | int], error: BaseException | None = None) -> None:
        """Add an event; of an error its type, since its message may quote a payload."""
        if self._span.is_recording():
            told = attributes if error is None else {**attributes, "error.type": type_of(error)}
            self._span.add_event(name, told, self._ended_ns)

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by the error's type; its message may quote a payload and stays out."""
        self._left = None
        if self._span.is_recording():
            self._span.set_attribute("error.type", type_of(error))
            self._span.set_status(trace.StatusCode.ERROR)

    def hold(self) -> None:
        """Do not end with the context; the exception that leaves it is judged by whoever calls `end`."""
        self._is_held, self._left = True, None

    def end(self) -> None:
        """End a held span, at the time at which its context was left; a second time does nothing."""
        if self._span.is_recording():
            self._span.end(self._ended_ns)

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span, self._above))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, traceback
        if isinstance(error, Exception) and self._left is not None:
            self._left(self, error)
        if self._token is not None:
            contexts.detach(self._token)
        if self._is_held:
            self._ended_ns = time.time_ns()
        else:
            self._span.end()


def failed(span: OtelSpan, error: Exception) -> None:
    """Take what has left a span's context for its failure."""
    span.fail(error)


def happened(span: OtelSpan, error: Exception) -> None:
    """Take what has left a span's context for an event: the work is rolled back and done again."""
    span.event(ROLLED_BACK, {}, error)


def context_of(parent: str) -> Context:
    """Return the context below a `traceparent`; the one that is open where that is it."""
    here = contexts.get_current()
    if parent == written(trace.get_current_span(here).get_span_context()):
        return here
    return trace.set_span_in_context(remote(parent), here)


@lru_cache(maxsize=4096)
def remote(parent: str) -> trace.Span:
    """Return what stands for a span of another process; an invalid one for what is no traceparent."""
    return trace.get_current_span(_PROPAGATOR.extract({"traceparent": parent}, Context()))


def written(context: trace.SpanContext) -> str:
    """Return a span's context as a `traceparent`, "" for an invalid one."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def type_of(error: BaseException) -> str:
    """Return the name of what the user's code raised where the runtime has wrapped it."""
    while type(error).__module__.startswith("saga._runtime.") and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
