"""Turn what was decided into outbox rows: events with their run records, reports, commands and outcomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from saga._core import ids, topics
from saga._core.bodies import (
    Command,
    Outcome,
    Report,
    ResolveRun,
    RetryRun,
    RunReported,
    SkipRun,
    Undo,
    command_id,
    kind_of,
    report_id,
)
from saga._core.branches import EMPTY, branches_of
from saga._core.cloudevents import encode_headers, source_of
from saga._core.commands import encode_command
from saga._core.common_headers import JSON_HEADER, VERSION_HEADER, back_headers, front_headers
from saga._core.envelope import Envelope
from saga._core.frozen import builder, replace
from saga._core.gathering import elements_of
from saga._core.participant import fact_of
from saga._core.plan import Plan
from saga._core.records import encode_outcome, encode_report
from saga._core.rows import OutboxRow, RunRow
from saga._core.times import format_time
from saga._core.words import Kind, Priority, RunStatus, UndoStatus

COORDINATOR = "saga-coordinator"
_RUN_TYPE = "saga.run"
_EVENT, _RUN, _DONE = Kind.EVENT.value, Kind.RUN.value, RunStatus.DONE.value
_envelope_of, _row = builder(Envelope), builder(OutboxRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Say what every message about a saga carries, and when it is made."""

    saga_id: str
    plan: str
    tenant: str
    expires_at: datetime
    now: datetime
    traceparent: str
    lane: Priority = Priority.NORMAL


def ended_run(run: RunRow, plan: Plan, now: datetime, traceparent: str) -> tuple[OutboxRow, ...]:
    """Return the rows that publish an ended run: its record, and its event when it emitted one.

    A fan-out has a row for each element, in its own branch; the first carries the record. Over nothing it has one
    event in branch `0of0`, for whoever gathers the branches.
    """
    if run.status is RunStatus.DONE and run.result_type and run.fan_out is None:
        return (_event_and_record(run, plan, now, traceparent),)
    return _rows_of(run, plan, now, traceparent)


def _rows_of(run: RunRow, plan: Plan, now: datetime, traceparent: str) -> tuple[OutboxRow, ...]:
    cause = run.causes[0] if run.causes else None
    record = _envelope_of(
        id=ids.record_id(run.saga_id, run.step, run.branch, run.status),
        source=source_of(run.service),
        type=_RUN_TYPE,
        kind=Kind.RUN,
        time=now,
        payload=encode_report(RunReported(fact=fact_of(run))),
        saga_id=run.saga_id,
        plan=plan.hash,
        step=run.step,
        branch=run.branch,
        tenant=run.tenant,
        # An element of a fan-out has the branch of the run that it caused, and its emitter has none.
        causation_id=ids.event_id(run.saga_id, cause.step, cause.branch or run.branch) if cause else "",
        expires_at=run.expires_at,
        traceparent=traceparent,
        lane=run.lane,
    )
    if run.status is not RunStatus.DONE or not run.result_type:
        return (replace(_single(record, topics.RUNS, run.service), payload=None, headers=(), **_record(record)),)
    topic = topics.events_topic(run.service, run.lane)
    rows: list[OutboxRow] = []
    for branch, payload in _events(run):
        event_id = ids.event_id(run.saga_id, run.step, branch)
        event = replace(record, id=event_id, type=run.result_type, kind=Kind.EVENT, payload=payload, branch=branch)
        rows.append(_single(event, topic, run.service))
    rows[0] = replace(rows[0], **_record(record))
    return tuple(rows)


def _event_and_record(run: RunRow, plan: Plan, now: datetime, traceparent: str) -> OutboxRow:
    """Return the row of a run that has emitted one event: what both messages have in common is written once."""
    saga_id, step, branch = run.saga_id, run.step, run.branch
    event_id = ids.event_id(saga_id, step, branch)
    record_id = ids.record_id(saga_id, step, branch, run.status)
    service = run.service
    source, type_, event_kind = front_headers(source_of(service), run.result_type, _EVENT)
    _, record_type, record_kind = front_headers(source_of(service), _RUN_TYPE, _RUN)
    key, time = saga_id.encode(), ("ce_time", format_time(now).encode())
    common: list[tuple[str, bytes]] = [("ce_correlationid", key), ("ce_sagaid", key)]
    if run.causes:
        cause = run.causes[0]
        common.append(("ce_causationid", ids.event_id(saga_id, cause.step, cause.branch or branch).encode()))
    common.append(("ce_expirytime", format_time(run.expires_at).encode()))
    common += back_headers(plan.hash, step, branch, run.tenant, run.lane)
    if traceparent:
        common.append(("traceparent", traceparent.encode()))
    of_event = ("ce_id", event_id.encode())
    of_record = ("ce_id", record_id.encode())
    return _row(
        id=event_id,
        aggregatetype=topics.events_topic(service, run.lane),
        aggregateid=saga_id,
        type=run.result_type,
        payload=run.result or b"{}",
        headers=(VERSION_HEADER, of_event, source, type_, time, JSON_HEADER, event_kind, *common),
        record=_done(run) or encode_report(RunReported(fact=fact_of(run))),
        record_headers=(VERSION_HEADER, of_record, source, record_type, time, JSON_HEADER, record_kind, *common),
        service=service,
    )


def _done(run: RunRow) -> bytes:
    """Return the report of a run that is done and has emitted one event; empty where there is more to say."""
    if run.error or run.undo is not UndoStatus.NONE:
        return b""
    causes = [ids.run_path(cause.step, cause.branch) for cause in run.causes]
    path, at = ids.run_path(run.step, run.branch), format_time(run.done_at or run.created_at)
    entry: dict[str, Any] = {"run": path, "status": _DONE, "at": at, "attempts": run.attempt}
    if causes:
        entry["causes"] = causes
    entry["emits"] = [run.result_type]
    return orjson.dumps(entry)


def _events(run: RunRow) -> Iterable[tuple[str, bytes]]:
    """Yield branch and payload of every event a run has emitted."""
    if run.fan_out is None:
        return ((run.branch, run.result or b"{}"),)
    if run.fan_out == 0:
        return ((EMPTY, b"{}"),)
    elements = elements_of(run.result or b"[]")
    return zip(branches_of(run.fan_out), elements, strict=True)


def _record(record: Envelope) -> dict[str, Any]:
    return {"record": record.payload, "record_headers": encode_headers(record)}


def report(body: Report, *, service: str, about: About) -> OutboxRow:
    """Return the row that sends a report to the coordinator on `saga.runs`."""
    kind = kind_of(body)
    return _single(
        _envelope(report_id(about.saga_id, body, service), kind, service, encode_report(body), about),
        topics.RUNS,
        service,
    )


def command(body: Command, *, service: str, about: About) -> OutboxRow:
    """Return the row that sends a command to `service` on its own topic."""
    identity = command_id(about.saga_id, body, service)
    envelope = _envelope(identity, kind_of(body), COORDINATOR, encode_command(body), about)
    if isinstance(body, Undo | RetryRun | SkipRun | ResolveRun):
        envelope = replace(envelope, step=body.step, branch=body.branch)
    return _single(envelope, topics.commands_topic(service, about.lane), COORDINATOR)


def outcome(body: Outcome, *, about: About) -> OutboxRow:
    """Return the row that tells the starter how its saga ended."""
    identity = ids.outcome_id(about.saga_id, body.ending)
    envelope = _envelope(identity, Kind.OUTCOME, COORDINATOR, encode_outcome(body), about)
    return _single(envelope, topics.in_lane(topics.OUTCOMES, about.lane), COORDINATOR)


def _envelope(identity: str, kind: Kind, service: str, payload: bytes, about: About) -> Envelope:
    return _envelope_of(
        id=identity,
        source=source_of(service),
        type=f"saga.{kind.value}",
        kind=kind,
        time=about.now,
        payload=payload,
        saga_id=about.saga_id,
        plan=about.plan,
        tenant=about.tenant,
        expires_at=about.expires_at,
        traceparent=about.traceparent,
        lane=about.lane,
    )


def _single(envelope: Envelope, topic: str, service: str) -> OutboxRow:
    return _row(
        id=envelope.id,
        aggregatetype=topic,
        aggregateid=envelope.saga_id,
        type=envelope.type,
        payload=envelope.payload,
        headers=encode_headers(envelope),
        service=service,
    )
