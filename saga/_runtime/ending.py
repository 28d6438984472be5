"""Tell the starter how its saga ended, in the transaction that writes the outcome into the start row."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from saga._core import emit
from saga._core.bodies import Outcome, RefusalData
from saga._core.children import parent_of
from saga._core.definition import StartDefinition
from saga._core.events import Event, Refusal
from saga._core.frozen import replace
from saga._core.records import decode_outcome, encode_outcome
from saga._core.rows import RunRow
from saga._core.run import Ended, Run
from saga._core.sealing import misread
from saga._core.upcasting import read_payload
from saga._core.words import Ending
from saga._runtime.children import parent_turn
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import call_end, raise_if_store
from saga._runtime.items import EndItem
from saga._runtime.publishing import publishing_of
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.errors import Undecodable
from saga.ports import UnitOfWork


async def end_turn(
    context: ServiceContext, unit: UnitOfWork, item: EndItem, start: RunRow | None, writing: Writing
) -> RunRow | None:
    """Run `on_end` and return the start row with its outcome, None when there is nothing new to tell.

    A stuck saga that a person got moving ends a second time; completed and compensated are final. A child saga
    is the exception: it is completed first and may be undone later, with its parent; its end also ends the step
    that has started it. Raises HandlerTrouble, StoreError.
    """
    if start is None or not _is_news(start, item.outcome):
        return None
    end: Ended | None = None
    about = ("saga.ending", item.outcome.ending.value)
    with context.tracer.process(item.delivery, item.envelope, about, writing.now) as span:
        writing.held.add(span)
        if item.start is not None and item.start.on_end is not None:
            try:
                end = _ended(context, item.start, start, item.outcome)
            except (ValidationError, Undecodable) as error:
                raise HandlerTrouble(error) from error
            # A saga that was stuck ends a second time, and what is published then is something else.
            told, part = replace(start, traceparent=span.traceparent), f"on_end-{item.outcome.ending.value}"
            outgoing = publishing_of(context, told, part, now=writing.now, causation_id=item.envelope.id)
            run = Run(saga_id=start.saga_id, step=start.step, tenant=start.tenant, door=unit, outgoing=outgoing)
            try:
                await call_end(item.start.on_end, end, run)
            except HandlerTrouble as trouble:
                raise_if_store(trouble)
                trouble.span = span
                raise
            writing.outbox.extend(outgoing.rows)
    await _end_parent(context, unit, item, start, writing)
    return replace(start, outcome=encode_outcome(item.outcome))


async def _end_parent(
    context: ServiceContext, unit: UnitOfWork, item: EndItem, start: RunRow, writing: Writing
) -> None:
    if item.start is None or parent_of(start) is None:
        return
    try:
        end = _ended(context, item.start, start, item.outcome)
    except (ValidationError, Undecodable) as error:
        raise HandlerTrouble(error) from error
    try:
        found = await parent_turn(context, unit, item, start, end, writing.now)
    except HandlerTrouble as trouble:
        raise_if_store(trouble)
        raise
    if found is None:
        return
    run, topology, turn = found
    if turn.run is not None:
        writing.put(turn.run)
    about = emit.About(
        saga_id=run.saga_id,
        plan=run.plan,
        tenant=run.tenant,
        expires_at=run.expires_at,
        now=writing.now,
        traceparent=run.traceparent,
        lane=run.lane,
    )
    if turn.emit is not None:
        writing.outbox.extend(emit.ended_run(turn.emit, topology.plan, writing.now, run.traceparent))
    writing.outbox.extend(emit.report(report, service=context.service, about=about) for report in turn.reports)
    writing.outbox.extend(turn.published)


def _is_news(start: RunRow, outcome: Outcome) -> bool:
    if start.outcome is None:
        return True
    before = decode_outcome(start.outcome).ending
    if before is Ending.COMPLETED:
        return outcome.ending is not Ending.COMPLETED and parent_of(start) is not None
    return before is Ending.STUCK and outcome.ending is not Ending.STUCK


def ended_of(start: Event, row: RunRow, outcome: Outcome, refusals: Mapping[str, type[Refusal]]) -> Ended:
    """Return how a saga started with `start` ended, with the refusal typed where its class is known here."""
    return Ended(
        ending=outcome.ending,
        saga_id=row.saga_id,
        start=start,
        cause=outcome.cause,
        refusal=_typed(outcome.refusal, refusals),
        refusal_type=outcome.refusal.type if outcome.refusal else "",
        refusal_json=outcome.refusal.data if outcome.refusal else b"",
        detail=outcome.detail,
    )


def _typed(refusal: RefusalData | None, known: Mapping[str, type[Refusal]]) -> Refusal | None:
    if refusal is None or refusal.type not in known:
        return None
    try:
        return known[refusal.type].model_validate_json(refusal.data)
    except ValidationError:
        return None


def _ended(context: ServiceContext, start: StartDefinition, row: RunRow, outcome: Outcome) -> Ended:
    try:
        event = read_payload(start.event, row.result_type, row.result or b"{}", start.upcasters)
    except (ValidationError, Undecodable) as error:
        raise misread(error, row.result) from error
    return ended_of(event, row, outcome, context.refusals)
