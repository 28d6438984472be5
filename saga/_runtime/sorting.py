"""Turn raw deliveries into items: decoded, sorted by the core, bound to the code that handles them."""

from __future__ import annotations

from collections.abc import Iterator
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
        yield _dead(context, delivery, row, None, str(error))
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
            yield _dead(context, delivery, row, envelope, reason)
        case React() | Obey() | Settle():
            assert topology is not None
            try:
                yield from _bound(context, envelope, delivery, row, topology, verdict)
            except (Undecodable, ValidationError) as error:
                yield _dead(context, delivery, row, envelope, _short(error))
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
            if row is not None and row.step:
                if row.step not in names:
                    yield _dead(context, delivery, row, envelope, f"{row.step} does not react to {envelope.type}")
                    return
                names = (row.step,)
            plan = topology.plan
            steps = [context.step(plan.saga, plan.version, name) for name in names]
            event = steps[0].input.model_validate_json(envelope.payload)
            if row is not None and len(steps) > 1:
                # The transaction that uses the row up has to keep every step: first each gets a row of its own.
                yield _split(envelope, row, names)
                return
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


def _parked(
    context: ServiceContext, envelope: Envelope, delivery: Delivery, row: DeliveryRow | None, reason: str
) -> AsideItem:
    context.count("parked")
    return AsideItem(
        delivery=delivery,
        row=row,
        reason=Reason.PARKED,
        saga_id=envelope.saga_id,
        steps=(row.step if row is not None else "",),
        message_id=envelope.id,
        attempt=row.attempt if row is not None else 0,
        error=reason,
        delay_seconds=context.tuning.parked_seconds,
        expires_at=envelope.expires_at,
    )


def _split(envelope: Envelope, row: DeliveryRow, steps: tuple[str, ...]) -> AsideItem:
    return AsideItem(
        delivery=row.raw,
        row=row,
        reason=Reason.RETRY,
        saga_id=envelope.saga_id,
        steps=steps,
        message_id=envelope.id,
        attempt=row.attempt,
        error=row.error,
    )


def _dead(
    context: ServiceContext,
    delivery: Delivery,
    row: DeliveryRow | None,
    envelope: Envelope | None,
    reason: str,
    step: str = "",
) -> AsideItem:
    context.count("dead")
    return AsideItem(
        delivery=delivery,
        row=row,
        reason=Reason.DEAD,
        saga_id=envelope.saga_id if envelope is not None else "",
        steps=(row.step if row is not None and row.step else step,),
        message_id=envelope.id if envelope is not None else "",
        attempt=row.attempt if row is not None else 0,
        error=reason,
    )


def buried(context: ServiceContext, item: StepItem | EndItem | CommandItem, error: Exception) -> AsideItem:
    """Return the item as a dead letter: not even its failure could be written."""
    step = item.step.name if isinstance(item, StepItem) else ""
    reason = f"{type(error).__name__} inside saga: {error}"
    return _dead(context, item.delivery, item.row, item.envelope, reason, step)


def _forget(context: ServiceContext, row: DeliveryRow) -> AsideItem:
    del context
    return AsideItem(delivery=row.raw, row=row, reason=None)
