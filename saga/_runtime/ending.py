"""Tell the starter how its saga ended, in the transaction that writes the outcome into the start row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import ValidationError

from saga._core.bodies import Outcome, RefusalData
from saga._core.definition import StartDefinition
from saga._core.events import Event, Refusal
from saga._core.records import decode_outcome, encode_outcome
from saga._core.rows import RunRow
from saga._core.run import Ended, Run
from saga._core.words import Ending
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import HandlerTrouble, call_end, raise_if_store
from saga._runtime.items import EndItem
from saga.ports import SpanKind, UnitOfWork


async def end_turn(context: ServiceContext, unit: UnitOfWork, item: EndItem, start: RunRow | None) -> RunRow | None:
    """Run `on_end` and return the start row with its outcome, None when there is nothing new to tell.

    A stuck saga that a person got moving ends a second time; completed and compensated are final.
    Raises HandlerTrouble, StoreError.
    """
    if start is None or not _is_news(start, item.outcome):
        return None
    attributes = {"saga.id": start.saga_id, "saga.ending": item.outcome.ending.value}
    name = f"process {item.delivery.topic}"
    with context.tracer.span(name, SpanKind.CONSUMER, item.envelope.traceparent, attributes):
        if item.start is not None and item.start.on_end is not None:
            try:
                ended = _ended(context, item.start, start, item.outcome)
            except ValidationError as error:
                raise HandlerTrouble(error) from error
            run = Run(saga_id=start.saga_id, step=start.step, tenant=start.tenant, door=unit)
            try:
                await call_end(item.start.on_end, ended, run)
            except HandlerTrouble as trouble:
                raise_if_store(trouble)
                raise
    return replace(start, outcome=encode_outcome(item.outcome))


def _is_news(start: RunRow, outcome: Outcome) -> bool:
    if start.outcome is None:
        return True
    before = decode_outcome(start.outcome)
    return before.ending is Ending.STUCK and outcome.ending is not Ending.STUCK


def ended_of(start_event: type[Event], row: RunRow, outcome: Outcome, refusals: Mapping[str, type[Refusal]]) -> Ended:
    """Return how a saga ended, with the refusal typed where its class is known here."""
    return Ended(
        ending=outcome.ending,
        saga_id=row.saga_id,
        start=start_event.model_validate_json(row.result or b"{}"),
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
    return ended_of(start.event, row, outcome, context.refusals)
