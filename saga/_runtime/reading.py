"""Read a batch of run records: by saga, and those apart that can never be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from saga._core.bodies import Report, RunReported
from saga._core.cloudevents import decode
from saga._core.envelope import Delivery, Envelope
from saga._core.familiar import familiar_fact
from saga._core.frozen import builder
from saga._core.limits import DEFAULT_LIMITS
from saga._core.records import decode_report
from saga._core.rows import DeliveryRow, InstanceRow
from saga._core.topics import RUNS
from saga._core.words import REPORT_KINDS, Kind, Reason
from saga._runtime.folding import Told
from saga.errors import Undecodable

_reported = builder(RunReported)


@dataclass(slots=True, kw_only=True)
class Work:
    """Hold what a batch says about each saga, the rows that are due, and the records that can never be read."""

    reports: dict[str, list[Told]] = field(default_factory=dict[str, list[Told]])
    due: Sequence[InstanceRow] = ()
    dead: list[DeliveryRow] = field(default_factory=list[DeliveryRow])


def work_of(deliveries: Sequence[Delivery], service: str) -> Work:
    """Return deliveries as work; what cannot be read becomes a dead row of `service`."""
    work = Work()
    for delivery in deliveries:
        try:
            envelope, report = _read(delivery)
        except Undecodable as error:
            work.dead.append(_dead(delivery, service, str(error)))
            continue
        told = (envelope, report, delivery.partition)
        if envelope.saga_id in work.reports:
            work.reports[envelope.saga_id].append(told)
        else:
            work.reports[envelope.saga_id] = [told]
    return work


def _read(delivery: Delivery) -> tuple[Envelope, Report]:
    envelope = decode(delivery, DEFAULT_LIMITS)
    if envelope.kind not in REPORT_KINDS or not envelope.saga_id:
        msg = f"a {envelope.kind.value} does not belong on {RUNS}"
        raise Undecodable(msg)
    if envelope.expires_at is None:
        msg = f"a {envelope.kind.value} without an expiry time"
        raise Undecodable(msg)
    fact = familiar_fact(envelope.payload) if envelope.kind is Kind.RUN else None
    if fact is not None:
        return envelope, _reported(fact=fact)
    return envelope, decode_report(envelope.kind, envelope.payload)


def _dead(delivery: Delivery, service: str, reason: str) -> DeliveryRow:
    return DeliveryRow(
        service=service,
        saga_id="",
        due_at=datetime.now(UTC),
        reason=Reason.DEAD,
        error=reason[:500],
        raw=delivery,
    )
