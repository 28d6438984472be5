"""Open spans through the OpenTelemetry API and export them over OTLP; the only file that imports opentelemetry."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from saga._runtime.tracing import NullSpan
from saga.ports import SpanKind

FLUSH_SECONDS: Final = 5.0
LOOK_EVERY_SECONDS: Final = 0.1
DESTINATION: Final = "messaging.destination.name"

_KINDS: Final = {
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
}
_OPERATIONS: Final = frozenset(("create", "send", "process"))
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class OtelTracer:
    """Open spans at an OpenTelemetry provider: the one given, else the program's own, once it has one."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("saga", _version(), provider)
        self._looks_again_at = inf if provider is not None else -inf
        self._is_traced = provider is not None

    def span(self, name: str, kind: SpanKind, parent: str, attributes: Mapping[str, str | int]) -> NullSpan | OtelSpan:
        """Start a span below `parent`, below the ambient span for `""`; its context makes it the ambient one.

        A `parent` that is no traceparent starts a new trace. An exception that leaves the context fails the span.
        Where the program has no provider nothing is made, and the parent's context is handed on.
        """
        if not self._is_traced and not self._looked():
            return NullSpan(parent or _traceparent(trace.get_current_span().get_span_context()))
        above = _context(parent) if parent else contexts.get_current()
        span = self._tracer.start_span(name, above, _KINDS[kind], record_exception=False, set_status_on_exception=False)
        if span.is_recording():
            span.set_attributes({**_messaging(name), **attributes})
        return OtelSpan(span, above, parent)

    def _looked(self) -> bool:
        """Return whether the program has a provider by now; looked up ten times a second, since it costs a step."""
        now = time.monotonic()
        if now >= self._looks_again_at:
            self._looks_again_at = now + LOOK_EVERY_SECONDS
            self._is_traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return self._is_traced


class OtelSpan:
    """Be one span; ends with its context."""

    __slots__ = ("_above", "_failed", "_parent", "_span", "_token")

    def __init__(self, span: trace.Span, above: Context, parent: str) -> None:
        self._span = span
        self._above = above
        self._parent = parent
        self._failed = False
        self._token: Token[Context] | None = None

    @property
    def traceparent(self) -> str:
        """Return this span's own context; the parent's where nothing is traced."""
        return _traceparent(self._span.get_span_context()) or self._parent

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute; never a payload."""
        self._span.set_attribute(name, value)

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by the error's type; its message may quote a payload and stays out."""
        self._failed = True
        if self._span.is_recording():
            kind = type(_origin(error))
            self._span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
            self._span.set_status(trace.StatusCode.ERROR)

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span, self._above))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, traceback
        if isinstance(error, Exception) and not self._failed:
            self.fail(error)
        if self._token is not None:
            contexts.detach(self._token)
        self._span.end()


def _context(parent: str) -> Context:
    here = contexts.get_current()
    if parent == _traceparent(trace.get_current_span(here).get_span_context()):
        return here
    above = _PROPAGATOR.extract({"traceparent": parent}, here)
    return trace.set_span_in_context(trace.INVALID_SPAN, here) if above is here else above


def _traceparent(context: trace.SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@lru_cache(maxsize=4096)
def _messaging(name: str) -> Mapping[str, str]:
    """Return the messaging attributes that a span's name tells: its operation, and the topic behind it.

    `create` names what it makes; where that goes is for its caller to say.
    """
    operation, _, rest = name.partition(" ")
    if operation not in _OPERATIONS:
        return {}
    told = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    return told if operation == "create" else {**told, DESTINATION: rest}


def _origin(error: BaseException) -> BaseException:
    """Return what the user's code raised where the runtime has wrapped it."""
    while type(error).__module__.startswith("saga._runtime.") and error.__cause__ is not None:
        error = error.__cause__
    return error


@cache
def _version() -> str:
    try:
        return version("saga-choreography")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return ""


def export_otlp(service_name: str) -> Callable[[], None]:
    """Set a global provider with an OTLP exporter, unless there is a provider; returns what stops it."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - the API alone may be installed
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _stop_nothing
    resource = Resource.create({} if _named_by_env() else {"service.name": service_name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    stop = _bounded(provider.shutdown)
    atexit.register(stop)
    return stop


def _named_by_env() -> bool:
    attributes = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    keys = [attribute.partition("=")[0].strip() for attribute in attributes]
    return os.environ.get("OTEL_SERVICE_NAME", "") != "" or "service.name" in keys


def _bounded(shut_down: Callable[[], None]) -> Callable[[], None]:
    """Return what shuts down once and waits at most FLUSH_SECONDS: with nobody listening the SDK waits longer.

    The thread that does it exists from the beginning, as none may be started while the interpreter exits.
    """
    asked = threading.Event()

    def wait_and_shut_down() -> None:
        asked.wait()
        shut_down()

    thread = threading.Thread(target=wait_and_shut_down, name="saga-otlp-shutdown", daemon=True)
    thread.start()

    def stop() -> None:
        asked.set()
        thread.join(FLUSH_SECONDS)

    return stop


def _stop_nothing() -> None:
    return
