"""Turn raw deliveries into items: decoded, sorted by the core, bound to the code that handles them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_never

from pydantic import ValidationError

from saga._core.cloudevents import decode
from saga._core.envelope import Delivery, Envelope
from saga._core.intake import Bury, Obey, Park, React, Settle, Skip, sort_message
from saga._core.limits import check_depth
from saga._core.plan import Topology
from saga._core.records import decode_command, decode_outcome
from saga._core.rows import DeliveryRow
from saga._core.words import Reason
from saga._runtime.context import ServiceContext
from saga._runtime.items import AsideItem, CommandItem, EndItem, Item, StepItem
from saga.errors import Undecodable


def items_of(context: ServiceContext, delivery: Delivery, row: DeliveryRow | None) -> Iterator[Item]:
    """Yield what a delivery asks of the service; nothing when nobody here reacts.

    Never raises for what is in the message: what cannot be read becomes a dead letter with its raw
    bytes, what cannot be handled by this replica is parked.
    """
    try:
        envelope = decode(delivery, context.limits)
    except Undecodable as error:
        yield _dead(context, delivery, row, "", str(error))
        return
    topology = context.plans.topology(envelope.plan)
    problems = context.plans.problems(context.service, envelope.plan)
    verdict = sort_message(envelope, delivery.topic, service=context.service, topology=topology, problems=problems)
    match verdict:
        case Skip():
            context.count("skipped")
            if row is not None:
                yield _forget(context, row)
        case Park(reason=reason):
            yield _parked(context, envelope, delivery, row, reason)
        case Bury(reason=reason):
            yield _dead(context, delivery, row, envelope.saga_id, reason)
        case React() | Obey() | Settle():
            assert topology is not None
            try:
                yield from _bound(context, envelope, delivery, row, topology, verdict)
            except (Undecodable, ValidationError) as error:
                yield _dead(context, delivery, row, envelope.saga_id, _short(error))
        case _:
            assert_never(verdict)


def _short(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # The values stay out: they are payload.
    fields = (f"{'.'.join(str(part) for part in e['loc']) or 'payload'}: {e['msg']}" for e in error.errors()[:5])
    return f"payload does not fit {error.title}: " + "; ".join(fields)


def _bound(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    topology: Topology,
    verdict: React | Obey | Settle,
) -> Iterator[Item]:
    check_depth(envelope.payload, context.limits.depth)
    match verdict:
        case React(steps=names):
            plan = topology.plan
            steps = [context.step(plan.saga, plan.version, name) for name in names]
            event = steps[0].input.model_validate_json(envelope.payload)
            for step in steps:
                yield StepItem(
                    envelope=envelope,
                    delivery=delivery,
                    row=row,
                    topology=topology,
                    plan_step=topology.steps[step.name],
                    step=step,
                    event=event,
                )
        case Obey():
            decode_command(envelope.kind, envelope.payload)
            yield CommandItem(envelope=envelope, delivery=delivery, row=row, topology=topology)
        case Settle():
            yield EndItem(
                envelope=envelope,
                delivery=delivery,
                row=row,
                topology=topology,
                start=context.starts.get((topology.plan.saga, topology.plan.version)),
                outcome=decode_outcome(envelope.payload),
            )
        case _:
            assert_never(verdict)


def _now() -> datetime:
    # Only for rows that nobody times by the database: dead letters and the next look at a parked delivery.
    return datetime.now(UTC)


def _parked(
    context: ServiceContext, envelope: Envelope, delivery: Delivery, row: DeliveryRow | None, reason: str
) -> AsideItem:
    context.count("parked")
    if envelope.expires_at is not None and _now() >= envelope.expires_at:
        return _dead(context, delivery, row, envelope.saga_id, f"expired while parked: {reason}")
    due_at = _now() + timedelta(seconds=context.tuning.parked_seconds)
    to = DeliveryRow(
        service=context.service,
        saga_id=envelope.saga_id,
        due_at=due_at,
        reason=Reason.PARKED,
        attempt=row.attempt + 1 if row is not None else 1,
        error=reason[:500],
        raw=delivery,
    )
    return AsideItem(delivery=delivery, row=row, to=to)


def _dead(context: ServiceContext, delivery: Delivery, row: DeliveryRow | None, saga_id: str, reason: str) -> AsideItem:
    context.count("dead")
    to = DeliveryRow(
        service=context.service,
        saga_id=saga_id,
        due_at=_now(),
        reason=Reason.DEAD,
        attempt=row.attempt if row is not None else 0,
        error=reason[:500],
        raw=delivery,
    )
    return AsideItem(delivery=delivery, row=row, to=to)


def buried(context: ServiceContext, item: StepItem | EndItem | CommandItem, error: Exception) -> AsideItem:
    """Return the item as a dead letter: not even its failure could be written."""
    return _dead(
        context, item.delivery, item.row, item.envelope.saga_id, f"{type(error).__name__} inside saga: {error}"
    )


def _forget(context: ServiceContext, row: DeliveryRow) -> AsideItem:
    del context
    return AsideItem(delivery=row.raw, row=row, to=None)
