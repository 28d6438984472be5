"""Open spans through the OpenTelemetry API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from saga._core.envelope import Delivery, Envelope
from saga._core.story import LONG_WAIT, StoredSpan, Story, is_sampled, is_traceparent
from saga._runtime.tracing import NullSpan
from saga.ports import Below, SpanKind
from saga.telemetry.spans import OtelSpan, PassedSpan, context_of, failed, happened, remote, written

LOOK_EVERY_SECONDS: Final = 0.1
DESTINATION: Final = "messaging.destination.name"
KEEP: Final = "saga.keep"
"""What a new trace says that `SagaSampler` is to keep, whatever share of all it keeps."""

_KINDS: Final = {
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
}
_OPERATIONS: Final = frozenset(("create", "send", "process"))
_LIKELY: Final = f"00-{1:032x}-{1:016x}-00"
"""The context of an unsampled trace with an ID that every sampler which goes by the ID would take."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class OtelTracer:
    """Open spans at an OpenTelemetry provider: the one given, else the program's own, once it has one."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("saga", _version(), provider)
        self._looks_again_at = inf if provider is not None else -inf
        self._is_traced = provider is not None
        self._goes_by_parent: bool | None = None

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: Mapping[str, str | int],
        below: Below = Below.PARENT,
    ) -> NullSpan | OtelSpan:
        """Start a span below `parent`, below the ambient span for `""`; its context makes it the ambient one.

        A `parent` that is no traceparent starts a new trace. An exception that leaves the context of a PRODUCER fails
        the span; in others it is an event, as their work is rolled back and done again. Where the program has no
        provider, or the parent is not sampled, nothing is made, and the parent's context is handed on.
        """
        if not self._is_traced and not self._looked():
            return NullSpan(parent or written(trace.get_current_span().get_span_context()))
        if below is Below.PARENT and self._passes(parent):
            return NullSpan(parent) if kind is SpanKind.PRODUCER else PassedSpan(parent)
        above = context_of(parent) if parent else contexts.get_current()
        span = self._apart(name, _KINDS[kind], above, attributes, below) if below is not Below.PARENT else None
        if span is None:
            span = self._below(name, _KINDS[kind], above, {**_messaging(name), **attributes})
        return OtelSpan(span, above, parent, failed if kind is SpanKind.PRODUCER else happened)

    def process(
        self, delivery: Delivery, envelope: Envelope, about: tuple[str, str], now: datetime
    ) -> NullSpan | OtelSpan:
        """Start a span for handling a message, in a new trace if it was made over a minute ago.

        An exception that leaves its context is an event and no failure: the work is rolled back and done again.
        """
        parent, name = envelope.traceparent, f"process {delivery.topic}"
        if not self._is_traced and not self._looked():
            return NullSpan(parent or written(trace.get_current_span().get_span_context()))
        if self._passes(parent):
            return PassedSpan(parent)
        above = context_of(parent) if parent else contexts.get_current()
        told = {**_messaging(name), **_delivered(delivery, envelope), about[0]: about[1]}
        waited = parent and now - envelope.time > LONG_WAIT
        span = self._apart(name, trace.SpanKind.CONSUMER, above, told, Below.LINK) if waited else None
        if span is None:
            span = self._below(name, trace.SpanKind.CONSUMER, above, told)
        return OtelSpan(span, above, parent, happened)

    def untraced(self) -> str | None:
        """Return the ambient context while the program has no provider; see the port."""
        if self._is_traced or self._looked():
            return None
        return written(trace.get_current_span().get_span_context())

    def tell(self, story: Story) -> None:
        """Record the spans of a story where its trace is recorded; see the port."""
        if not self._is_traced and not self._looked():
            return
        links = [Link(context) for parent in story.links if (context := remote(parent).get_span_context()).is_valid]
        above = context_of(story.parent) if story.parent else _alone()
        top = self._told(story.top, above, links)
        if top.is_recording():
            here = trace.set_span_in_context(top, above)
            for run in story.runs:
                self._told(run, here, []).end(_nanoseconds(run.ended_at))
        top.end(_nanoseconds(story.top.ended_at))

    def _told(self, told: StoredSpan, above: Context, links: Sequence[Link]) -> trace.Span:
        began = _nanoseconds(told.started_at)
        span = self._tracer.start_span(told.name, above, attributes=told.attributes, links=links, start_time=began)
        if told.error_type:
            span.set_attribute("error.type", told.error_type)
            span.set_status(trace.StatusCode.ERROR)
        return span

    def _below(
        self, name: str, kind: trace.SpanKind, above: Context, attributes: Mapping[str, str | int]
    ) -> trace.Span:
        return self._tracer.start_span(
            name, above, kind, attributes, record_exception=False, set_status_on_exception=False
        )

    def _passes(self, parent: str) -> bool:
        """Return whether nothing is recorded below a parent, so that its context is just handed on.

        That is so where it is not sampled and the sampler goes by that, as samplers do unless told otherwise.
        """
        if not is_traceparent(parent) or is_sampled(parent):
            return False
        if self._goes_by_parent is None:
            self._goes_by_parent = not self._tracer.start_span("saga", context_of(_LIKELY)).is_recording()
        return self._goes_by_parent

    def _apart(
        self, name: str, kind: trace.SpanKind, above: Context, attributes: Mapping[str, str | int], below: Below
    ) -> trace.Span | None:
        """Start a new trace with a link to `above`, recorded if that is; None where the saga has to stay in its trace.

        That is when the sampler does not want the new trace: half a saga would be worse than a trace of days.
        """
        linked = trace.get_current_span(above).get_span_context()
        is_kept = below is Below.FAILED and not linked.trace_flags.sampled
        if not linked.is_valid or not (linked.trace_flags.sampled or is_kept):
            return None
        told = {**_messaging(name), **attributes, **({KEEP: "failed"} if is_kept else {})}
        span = self._tracer.start_span(
            name,
            _alone(),
            kind,
            attributes=told,
            links=[Link(linked)],
            record_exception=False,
            set_status_on_exception=False,
        )
        return span if span.is_recording() else None

    def _looked(self) -> bool:
        """Return whether the program has a provider by now; looked up ten times a second, since it costs a step."""
        now = time.monotonic()
        if now >= self._looks_again_at:
            self._looks_again_at = now + LOOK_EVERY_SECONDS
            self._is_traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
            self._goes_by_parent = None
        return self._is_traced


def _alone() -> Context:
    return trace.set_span_in_context(trace.INVALID_SPAN)


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


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


def _delivered(delivery: Delivery, envelope: Envelope) -> Mapping[str, str | int]:
    told: dict[str, str | int] = {
        "messaging.message.id": envelope.id,
        "messaging.destination.partition.id": str(delivery.partition),
        "messaging.kafka.offset": delivery.offset,
    }
    if envelope.saga_id:
        told["saga.id"] = envelope.saga_id
    if conversation := envelope.saga_id or envelope.correlation_id:
        told["messaging.message.conversation_id"] = conversation
    return told


@cache
def _version() -> str:
    try:
        return version("saga-choreography")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return ""
