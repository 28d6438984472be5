"""Trace nothing, and still hand on the trace a message came with; or trace what is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Self

from saga._core.envelope import Delivery, Envelope, Message
from saga._core.retry import Again, GiveUp
from saga._core.rows import OutboxRow, RunRow
from saga._core.story import Story
from saga._core.topics import RUNS
from saga.ports import Below, Publisher, Span, SpanKind, Tracer

TRIED_AGAIN = "tried again"
ROLLED_BACK = "rolled back"
BACK = "back"
"""What `saga.direction` says of everything that undoes a saga; the rest of it has none."""


class NullSpan:
    """Be a span that records nothing; its `traceparent` is its parent's."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: str | int) -> None:
        """Do nothing."""

    def link(self, traceparent: str) -> None:
        """Do nothing."""

    def event(self, name: str, attributes: Mapping[str, str | int], error: BaseException | None = None) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""

    def hold(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return


NO_SPAN = NullSpan("")


class NullTracer:
    """Open spans that record nothing, so that a service without telemetry does not break the trace of others."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: Mapping[str, str | int],
        below: Below = Below.PARENT,
    ) -> NullSpan:
        """Return a span that hands `parent` on unchanged."""
        del name, kind, attributes, below
        return NullSpan(parent)

    def process(self, delivery: Delivery, envelope: Envelope, about: tuple[str, str], now: datetime) -> NullSpan:
        """Return a span that hands the message's context on unchanged."""
        del delivery, about, now
        return NullSpan(envelope.traceparent)

    def untraced(self) -> str:
        """Return no context: there is none."""
        return ""

    def tell(self, story: Story) -> None:
        """Do nothing."""


def came_of(span: Span, verdict: Again | GiveUp | None, error: BaseException, attempt: int, now: datetime) -> None:
    """End a held span: its attempt has failed for good, or another one follows, or neither."""
    match verdict:
        case Again(at=at):
            pause_ms = round(1000 * (at - now).total_seconds())
            span.event(TRIED_AGAIN, {"saga.attempt": attempt, "saga.retry.after_ms": pause_ms}, error)
        case GiveUp():
            span.set("saga.attempt", attempt)
            span.fail(error)
        case None:
            pass
    span.end()


def rolled_back(span: Span, error: BaseException) -> None:
    """End a held span whose work was rolled back and is done again."""
    span.event(ROLLED_BACK, {}, error)
    span.end()


class Held:
    """Hold the spans of a transaction until it is known whether that has committed.

    Whoever is rolled back with a neighbour is done again: both times are to be seen, and which of them counts.
    """

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        """Begin with none."""
        self._spans: list[Span] = []

    def add(self, span: Span) -> None:
        """Hold an open span, where it is one."""
        if type(span) is not NullSpan:
            span.hold()
            self._spans.append(span)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """End them; what the error itself is about stays held by it."""
        del kind, traceback
        own = getattr(error, "span", None)
        for span in self._spans:
            if error is None:
                span.end()
            elif span is not own:
                rolled_back(span, error)


def undoing(run: RunRow) -> dict[str, str | int]:
    """Return the attributes of a compensation."""
    found: dict[str, str | int] = {"saga.id": run.saga_id, "saga.step": run.step, "saga.direction": BACK}
    return {**found, "saga.branch": run.branch} if run.branch else found


def goes_to(span: Span, rows: Sequence[OutboxRow]) -> None:
    """Say on a `create` span what message it has made, and where that goes."""
    if type(span) is not NullSpan and rows:
        first = rows[0]
        span.set("messaging.message.id", first.id)
        span.set("messaging.destination.name", first.aggregatetype)
        if len(rows) > 1:
            span.set("messaging.batch.message_count", len(rows))


class TracedPublisher:
    """Open a `send` span around each message that carries a context; run records, which nobody looks for, go without.

    The message keeps its own context, so that whoever receives it hangs below its creation, not below
    its transport (OpenTelemetry messaging conventions).
    """

    def __init__(self, publisher: Publisher, tracer: Tracer) -> None:
        """Publish through `publisher`."""
        self._publisher = publisher
        self._tracer = tracer

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Send a batch; see the port."""
        if isinstance(self._tracer, NullTracer):
            return await self._publisher.publish(messages)
        with ExitStack() as stack:
            spans = [stack.enter_context(self._span(message)) for message in messages if message.topic != RUNS]
            results = await self._publisher.publish(messages)
            sent = [result for message, result in zip(messages, results, strict=True) if message.topic != RUNS]
            for span, result in zip(spans, sent, strict=True):
                if result is not None:
                    # Whatever cannot be sent now stays in the outbox, and is sent again.
                    span.event(TRIED_AGAIN, {}, result)
            return results

    def _span(self, message: Message) -> AbstractContextManager[Span]:
        found = dict(message.headers)
        context = found.get("traceparent", b"")
        if not context:
            return NullTracer().span("send", SpanKind.PRODUCER, "", {})
        # The key of a plain event is somebody's own, and no saga's.
        attributes = {"saga.id": message.key.decode(errors="replace")} if "ce_sagaid" in found else {}
        if "ce_id" in found:
            attributes["messaging.message.id"] = found["ce_id"].decode(errors="replace")
        return self._tracer.span(f"send {message.topic}", SpanKind.PRODUCER, context.decode("ascii"), attributes)
