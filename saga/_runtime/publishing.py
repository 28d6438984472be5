"""Collect the plain events that one handler publishes in its transaction."""

from __future__ import annotations

from datetime import datetime

from saga._core.events import Event
from saga._core.ids import event_id
from saga._core.inbox import published_id
from saga._core.plain import plain_row
from saga._core.rows import OutboxRow, RunRow
from saga._core.topics import events_topic
from saga._runtime.context import ServiceContext
from saga._runtime.tracing import goes_to
from saga.ports import SpanKind


class Publishing:
    """Be one handler's way to the outbox; `rows` count once the handler has returned and nothing is rolled back."""

    __slots__ = ("_about", "_causation_id", "_context", "_correlation_id", "_now", "_parent", "_tenant", "rows")

    def __init__(
        self,
        context: ServiceContext,
        about: tuple[str, str, str, str],
        *,
        now: datetime,
        tenant: str,
        parent: str,
        causation_id: str,
        correlation_id: str,
    ) -> None:
        """Take events of the handler that `about` names: saga ID, step or subscriber, branch or event, and the part.

        `parent` is the trace context of the handler.
        """
        self._context = context
        self._about = about
        self._now = now
        self._tenant = tenant
        self._parent = parent
        self._causation_id = causation_id
        self._correlation_id = correlation_id
        self.rows: list[OutboxRow] = []

    def add(self, event: Event, key: str | None, topic: str | None) -> str:
        """Take an event and return its ID; see `Run.publish`."""
        context = self._context
        attributes = {"saga.id": self._about[0]} if self._about[0] else {}
        name = f"create {getattr(event, 'wire_type', '')}".rstrip()
        with context.tracer.span(name, SpanKind.PRODUCER, self._parent, attributes) as span:
            row = plain_row(
                event,
                message_id=published_id(*self._about, len(self.rows)),
                source_service=context.service,
                topic=events_topic(context.service) if topic is None else topic,
                key=key,
                tenant=self._tenant,
                now=self._now,
                traceparent=span.traceparent,
                causation_id=self._causation_id,
                correlation_id=self._correlation_id,
                limits=context.limits,
            )
            goes_to(span, (row,))
        self.rows.append(row)
        return row.id


def publishing_of(context: ServiceContext, run: RunRow, part: str, *, now: datetime, causation_id: str) -> Publishing:
    """Return the way to the outbox of one of the handlers of a saga's run; `run.traceparent` is the handler's."""
    return Publishing(
        context,
        (run.saga_id, run.step, run.branch, part),
        now=now,
        tenant=run.tenant,
        parent=run.traceparent,
        causation_id=causation_id,
        correlation_id=run.saga_id,
    )


def cause_id_of(run: RunRow) -> str:
    """Return the ID of the event that a run has reacted to first, "" for a start."""
    return event_id(run.saga_id, run.causes[0].step, run.causes[0].branch or run.branch) if run.causes else ""
