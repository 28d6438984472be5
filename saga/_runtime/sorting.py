"""Turn raw deliveries into items: decoded, sorted by the core, bound to the code that handles them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import assert_never

from pydantic import ValidationError

from saga._core.branches import EMPTY
from saga._core.cloudevents import decode
from saga._core.commands import decode_command
from saga._core.envelope import Delivery, Envelope
from saga._core.frozen import builder
from saga._core.gathering import run_branch
from saga._core.intake import Bury, Obey, Park, React, Settle, Skip, sort_message
from saga._core.plan import Topology
from saga._core.records import decode_outcome
from saga._core.rows import DeliveryRow
from saga._core.sealing import misread, pause_for_blob
from saga._core.upcasting import reads
from saga._core.words import Kind, Reason
from saga._runtime.context import ServiceContext
from saga._runtime.inputs import input_class, read_input
from saga._runtime.items import AsideItem, CommandItem, EndItem, Item, PlainItem, StepItem
from saga._runtime.routes import Route
from saga._runtime.subscribers import buried_plain, plain_items
from saga._runtime.trouble import HandlerTrouble, misfit_text, said_of
from saga.errors import Undecodable

log = logging.getLogger("saga")
_step_item = builder(StepItem)


def items_of(context: ServiceContext, delivery: Delivery, row: DeliveryRow | None) -> Iterable[Item]:
    """Return what a delivery asks of the service; nothing when nobody here reacts.

    Never raises for what is in the message: what cannot be read becomes a dead letter with its raw
    bytes, what cannot be handled by this replica is parked.
    """
    try:
        envelope = decode(delivery, context.limits)
    except Undecodable as error:
        return (_dead(context, delivery, row, None, str(error)),)
    route = context.routes.find(envelope, delivery.topic) if row is None and envelope.saga_id else None
    if route is not None:
        return _along(context, envelope, delivery, route)
    return _unrouted(context, envelope, delivery, row)


def _unrouted(
    context: ServiceContext, envelope: Envelope, delivery: Delivery, row: DeliveryRow | None
) -> Iterator[Item]:
    if not envelope.saga_id and envelope.kind is Kind.EVENT:
        yield from plain_items(context, envelope, delivery, row)
        return
    yield from _sorted(context, envelope, delivery, row)


def _sorted(context: ServiceContext, envelope: Envelope, delivery: Delivery, row: DeliveryRow | None) -> Iterator[Item]:
    topology = context.plans.topology(envelope.plan)
    fitness = context.plans.fitness(context.service, envelope.plan)
    verdict = sort_message(
        envelope,
        delivery.topic,
        service=context.service,
        topology=topology,
        fitness=fitness,
        locks=context.definition.locks,
    )
    if topology is None and envelope.kind is Kind.EVENT and not context.definition.sagas:
        # A service that only subscribes reads past sagas it has no part in, whatever their plan.
        verdict = Skip()
    match verdict:
        case Skip():
            context.count("skipped")
            if row is not None:
                yield _forget(row)
        case Park():
            yield _parked(context, envelope, delivery, row, verdict.reason, verdict.steps)
        case Bury(reason=reason):
            yield _dead(context, delivery, row, envelope, reason)
        case React() | Obey() | Settle():
            assert topology is not None
            try:
                yield from _bound(context, envelope, delivery, row, topology, verdict)
            except (Undecodable, ValidationError) as error:
                yield _unread(context, delivery, row, envelope, error)
        case _:
            assert_never(verdict)


def _bound(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    topology: Topology,
    verdict: React | Obey | Settle,
) -> Iterator[Item]:
    match verdict:
        case React():
            readable = _readable(context, envelope, topology, verdict)
            yield from _reacting(context, envelope, delivery, row, topology, readable)
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


def _readable(context: ServiceContext, envelope: Envelope, topology: Topology, verdict: React) -> React:
    """Return the verdict with the steps parked that cannot read the event's version: newer code may."""
    plan = topology.plan
    parked: dict[str, Park] = {}
    for name in verdict.steps:
        step = context.step(plan.saga, plan.version, name)
        wanted = input_class(step, envelope.type)
        if envelope.branch != EMPTY and not reads(wanted, envelope.type, step.upcasters):
            reason = f"{name} reads {wanted.wire_type}, and no upcaster leads there from {envelope.type}"
            parked[name] = Park(reason=reason, steps=(name,))
    here = tuple(name for name in verdict.steps if name not in parked)
    return React(steps=here, parked=(*verdict.parked, *parked.values()))


def _reacting(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    topology: Topology,
    verdict: React,
) -> Iterator[Item]:
    """Yield an event's steps; those that only another replica's code has are parked, each in a row of its own."""
    names = verdict.steps
    elsewhere = [park for park in verdict.parked if row is None or row.step in park.steps]
    yield from (_parked(context, envelope, delivery, row, park.reason, park.steps) for park in elsewhere)
    if row is not None and elsewhere:
        return
    if row is not None and not row.step and verdict.parked:
        yield _split(envelope, row, (*names, *(step for park in verdict.parked for step in park.steps)))
        return
    if row is not None and row.step:
        if row.step not in names:
            yield _dead(context, delivery, row, envelope, f"{row.step} does not react to {envelope.type}")
            return
        names = (row.step,)
    plan = topology.plan
    steps = [context.step(plan.saga, plan.version, name) for name in names]
    events = [read_input(step, envelope.type, envelope.branch, envelope.payload) for step in steps]
    if row is not None and len(steps) > 1:
        # The transaction that uses the row up has to keep every step: first each gets a row of its own.
        yield _split(envelope, row, names)
        return
    if row is None and not elsewhere:
        wanted = [(step, input_class(step, envelope.type)) for step in steps]
        context.routes.learn(envelope, delivery.topic, topology, wanted)
    for step, event in zip(steps, events, strict=True):
        plan_step = topology.steps[step.name]
        yield _step_item(
            envelope=envelope,
            delivery=delivery,
            row=row,
            topology=topology,
            plan_step=plan_step,
            step=step,
            event=event,
            run_id=(envelope.saga_id, step.name, run_branch(plan_step, envelope.branch)),
        )


def _along(context: ServiceContext, envelope: Envelope, delivery: Delivery, route: Route) -> Iterable[Item]:
    """Return the steps of an event like others before it."""
    payload, saga_id, branch = envelope.payload, envelope.saga_id, envelope.branch
    try:
        return [
            _step_item(
                envelope=envelope,
                delivery=delivery,
                row=None,
                topology=route.topology,
                plan_step=plan_step,
                step=step,
                event=wanted.model_validate_json(payload),
                run_id=(saga_id, step.name, run_branch(plan_step, branch) if branch else ""),
            )
            for plan_step, step, wanted in route.steps
        ]
    except ValidationError as error:
        return (_unread(context, delivery, None, envelope, error),)


def _parked(
    context: ServiceContext,
    envelope: Envelope,
    delivery: Delivery,
    row: DeliveryRow | None,
    reason: str,
    steps: tuple[str, ...] = ("",),
) -> AsideItem:
    context.count("parked")
    if context.first(f"parked: {reason}"):
        log.warning("%s: sagas are parked until a replica can go on with them: %s", context.service, reason)
    return AsideItem(
        delivery=delivery,
        row=row,
        reason=Reason.PARKED,
        saga_id=envelope.saga_id,
        steps=(row.step,) if row is not None and row.step else steps,
        message_id=envelope.id,
        attempt=row.attempt if row is not None else 0,
        first_at=row.first_at if row is not None else None,
        error=reason,
        # Drawn anew each time: replicas whose code differs must not wake for it in the same order for ever.
        delay_seconds=context.tuning.parked_seconds * (0.75 + context.rng.random() / 2),
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
        first_at=row.first_at,
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
        attempt=row.attempt + 1 if row is not None else 0,
        error=reason,
    )


def _unread(
    context: ServiceContext, delivery: Delivery, row: DeliveryRow | None, envelope: Envelope, error: Exception
) -> AsideItem:
    """Return a delivery whose payload cannot be read: a dead letter, or one that waits for its blob."""
    reason = misfit_text(misread(error, envelope.payload, delivery))
    tried = row.attempt + 1 if row is not None else 1
    pause = pause_for_blob(delivery, tried)
    if pause is None:
        return _dead(context, delivery, row, envelope, reason)
    return AsideItem(
        delivery=delivery,
        row=row,
        reason=Reason.RETRY,
        saga_id=envelope.saga_id,
        steps=(row.step if row is not None else "",),
        message_id=envelope.id,
        attempt=tried,
        first_at=row.first_at if row is not None else None,
        error=reason,
        delay_seconds=pause,
    )


def buried(context: ServiceContext, item: StepItem | EndItem | CommandItem | PlainItem, error: Exception) -> AsideItem:
    """Return the item as a dead letter: not even its failure could be written."""
    # A trouble begins with the name of what it carries, and hides what is marked in its text.
    name, _, text = (str(error) if isinstance(error, HandlerTrouble) else said_of(error)).partition(": ")
    reason = f"{name} inside saga: {text}"
    if isinstance(item, PlainItem):
        return buried_plain(context, item, reason)
    step = item.step.name if isinstance(item, StepItem) else ""
    return _dead(context, item.delivery, item.row, item.envelope, reason, step)


def _forget(row: DeliveryRow) -> AsideItem:
    return AsideItem(delivery=row.raw, row=row, reason=None)
