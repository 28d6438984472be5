"""Trace nothing, and still hand on the trace a message came with; or trace what is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Self

from saga._core.envelope import Message
from saga._core.topics import RUNS
from saga.ports import Publisher, Span, SpanKind, Tracer


class NullSpan:
    """Be a span that records nothing; its `traceparent` is its parent's."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: str | int) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return


class NullTracer:
    """Open spans that record nothing, so that a service without telemetry does not break the trace of others."""

    def span(self, name: str, kind: SpanKind, parent: str, attributes: Mapping[str, str | int]) -> NullSpan:
        """Return a span that hands `parent` on unchanged."""
        del name, kind, attributes
        return NullSpan(parent)


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
                    span.fail(result)
            return results

    def _span(self, message: Message) -> AbstractContextManager[Span]:
        found = dict(message.headers)
        context = found.get("traceparent", b"")
        if not context:
            return NullTracer().span("send", SpanKind.PRODUCER, "", {})
        # The key of a plain event is somebody's own, and no saga's.
        attributes = {"saga.id": message.key.decode(errors="replace")} if "ce_sagaid" in found else {}
        return self._tracer.span(f"send {message.topic}", SpanKind.PRODUCER, context.decode("ascii"), attributes)
