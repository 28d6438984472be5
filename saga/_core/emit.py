"""Turn what was decided into outbox rows: events with their run records, reports, commands and outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from saga._core import ids, topics
from saga._core.bodies import Command, Outcome, Report, RunReported, Undo, command_id, kind_of, report_id
from saga._core.cloudevents import encode_headers, source_of
from saga._core.envelope import Envelope
from saga._core.participant import fact_of
from saga._core.plan import Plan
from saga._core.records import encode_command, encode_outcome, encode_report
from saga._core.rows import OutboxRow, RunRow
from saga._core.words import Kind, RunStatus

COORDINATOR = "saga-coordinator"


def ended_run(run: RunRow, plan: Plan, now: datetime, traceparent: str) -> OutboxRow:
    """Return the row that publishes an ended run: its record, and its event when it emitted one."""
    cause = run.causes[0] if run.causes else None
    record = Envelope(
        id=ids.record_id(run.saga_id, run.step, run.branch, run.status),
        source=source_of(run.service),
        type="saga.run",
        kind=Kind.RUN,
        time=now,
        payload=encode_report(RunReported(fact=fact_of(run))),
        saga_id=run.saga_id,
        plan=plan.hash,
        step=run.step,
        branch=run.branch,
        tenant=run.tenant,
        causation_id=ids.event_id(run.saga_id, cause.step, cause.branch) if cause else "",
        expires_at=run.expires_at,
        traceparent=traceparent,
    )
    if run.status is not RunStatus.DONE or not run.result_type:
        return replace(_single(record, topics.RUNS, run.service), payload=None, headers=(), **_record(record))
    event_id = ids.event_id(run.saga_id, run.step, run.branch)
    event = replace(record, id=event_id, type=run.result_type, kind=Kind.EVENT, payload=run.result or b"{}")
    return replace(_single(event, topics.events_topic(run.service), run.service), **_record(record))


def _record(record: Envelope) -> dict[str, Any]:
    return {"record": record.payload, "record_headers": encode_headers(record)}


def report(
    body: Report,
    *,
    service: str,
    saga_id: str,
    plan: str,
    tenant: str,
    expires_at: datetime,
    now: datetime,
    traceparent: str,
) -> OutboxRow:
    """Return the row that sends a report to the coordinator on `saga.runs`."""
    kind = kind_of(body)
    envelope = Envelope(
        id=report_id(saga_id, body, service),
        source=source_of(service),
        type=f"saga.{kind.value}",
        kind=kind,
        time=now,
        payload=encode_report(body),
        saga_id=saga_id,
        plan=plan,
        tenant=tenant,
        expires_at=expires_at,
        traceparent=traceparent,
    )
    return _single(envelope, topics.RUNS, service)


def command(
    body: Command,
    *,
    service: str,
    saga_id: str,
    plan: str,
    tenant: str,
    expires_at: datetime,
    now: datetime,
    traceparent: str,
) -> OutboxRow:
    """Return the row that sends a command to `service` on its own topic."""
    kind = kind_of(body)
    about = body if isinstance(body, Undo) else None
    envelope = Envelope(
        id=command_id(saga_id, body, service),
        source=source_of(COORDINATOR),
        type=f"saga.{kind.value}",
        kind=kind,
        time=now,
        payload=encode_command(body),
        saga_id=saga_id,
        plan=plan,
        step=about.step if about else "",
        branch=about.branch if about else "",
        tenant=tenant,
        expires_at=expires_at,
        traceparent=traceparent,
    )
    return _single(envelope, topics.commands_topic(service), COORDINATOR)


def outcome(
    body: Outcome,
    *,
    saga_id: str,
    plan: str,
    tenant: str,
    expires_at: datetime,
    now: datetime,
    traceparent: str,
) -> OutboxRow:
    """Return the row that tells the starter how its saga ended."""
    envelope = Envelope(
        id=ids.outcome_id(saga_id, body.ending),
        source=source_of(COORDINATOR),
        type="saga.outcome",
        kind=Kind.OUTCOME,
        time=now,
        payload=encode_outcome(body),
        saga_id=saga_id,
        plan=plan,
        tenant=tenant,
        expires_at=expires_at,
        traceparent=traceparent,
    )
    return _single(envelope, topics.OUTCOMES, COORDINATOR)


def _single(envelope: Envelope, topic: str, service: str) -> OutboxRow:
    return OutboxRow(
        id=envelope.id,
        aggregatetype=topic,
        aggregateid=envelope.saga_id,
        type=envelope.type,
        payload=envelope.payload,
        headers=encode_headers(envelope),
        service=service,
    )
