"""Run a step that takes a whole batch: its deliveries of one transaction in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

from saga._core.answers import concluded
from saga._core.batch import Batch, Runs
from saga._core.budget import deadline_of
from saga._core.definition import Binding
from saga._core.ids import idempotency_key
from saga._core.participant import Meeting
from saga._core.rows import RunId, RunRow, Snapshot
from saga._core.run import Run
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import answer_in, raise_if_store
from saga._runtime.items import StepItem
from saga._runtime.pacing import turned_down_early
from saga._runtime.steps import begun_run, keep, meeting_of, write_end
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing
from saga.errors import DeclarationError
from saga.ports import UnitOfWork


class SetTrouble(Exception):
    """Leave a transaction because a step that takes a batch has failed; nobody knows for which of its items."""

    def __init__(self, items: Sequence[StepItem], reason: HandlerTrouble) -> None:
        self.items = items
        self.reason = reason
        super().__init__(str(reason))


async def run_set(
    context: ServiceContext, unit: UnitOfWork, seen: Snapshot, writing: Writing, items: Sequence[StepItem]
) -> None:
    """Do with deliveries of one step what their run rows and gates say, those that run in one call.

    A refusal is stored without a rollback: the step changes nothing for what it refuses. Raises SetTrouble, StoreError.
    """
    with ExitStack() as spans:
        begun: list[tuple[StepItem, RunRow]] = []
        taken: set[RunId] = set()
        for item in items:
            row = _begun(context, seen, writing, item, taken, spans)
            if row is not None:
                taken.add(item.run_id)
                begun.append((item, row))
        if not begun:
            return
        for (item, row), raw in zip(begun, await _results(context, unit, writing, begun), strict=True):
            try:
                _, answer = answer_in(raw, item.step, context.limits)
            except HandlerTrouble as trouble:
                raise SetTrouble([item for item, _ in begun], trouble) from trouble
            ended = concluded(row, answer, writing.now)
            writing.put(ended)
            write_end(context, writing, item.topology.plan, ended, row.traceparent)


def _begun(
    context: ServiceContext, seen: Snapshot, writing: Writing, item: StepItem, taken: set[RunId], spans: ExitStack
) -> RunRow | None:
    """Return the run that begins now, None for a delivery that does not run."""
    known = writing.run(item.run_id, seen)
    meeting = Meeting.DUPLICATE if item.run_id in taken else meeting_of(seen, item, known)
    context.count(meeting.value)
    if meeting is not Meeting.RUN:
        keep(context, writing, item, meeting)
        return None
    about = ("saga.step", item.step.name)
    span = spans.enter_context(context.tracer.process(item.delivery, item.envelope, about, writing.now))
    writing.held.add(span)
    row = begun_run(item, known, writing.now, span.traceparent)
    too_late = turned_down_early(context, item, row, writing.now)
    if too_late is None:
        return row
    writing.put(too_late)
    write_end(context, writing, item.topology.plan, too_late, span.traceparent)
    return None


async def _results(
    context: ServiceContext, unit: UnitOfWork, writing: Writing, begun: Sequence[tuple[StepItem, RunRow]]
) -> Sequence[Any]:
    """Call the handler and return what it makes of each event."""
    items = [item for item, _ in begun]
    step = items[0].step
    runs = tuple(_run(item, row) for item, row in begun)
    events = Batch(item.event for item in items)

    async def handler(events: Batch[Any], lead: Run) -> Any:
        return await step.handler(events, Runs(runs=runs, lead=lead))

    lead = Run(saga_id="", step=step.name, door=unit)
    values: dict[Binding | int, Any] = {Binding.INPUT: events}
    try:
        raw = await context.call(writing.timer, handler, step.bindings, values, lead, step.timeout_seconds)
        return _one_each(raw, len(items), step.name)
    except HandlerTrouble as trouble:
        raise_if_store(trouble)
        raise SetTrouble(items, trouble) from trouble


def _run(item: StepItem, row: RunRow) -> Run:
    return Run(
        saga_id=row.saga_id,
        step=row.step,
        branch=row.branch,
        attempt=row.attempt,
        tenant=row.tenant,
        deadline=deadline_of(item.topology, row.step, row.expires_at),
        idempotency_key=idempotency_key(row.saga_id, row.step, row.branch),
    )


def _one_each(raw: Any, count: int, name: str) -> Sequence[Any]:
    if not isinstance(raw, list | tuple):
        msg = f"{name} takes a Batch and returned {type(raw).__qualname__}; return Batch([...]), one for each event"
        raise HandlerTrouble(DeclarationError(msg))
    results = cast("Sequence[Any]", raw)
    if len(results) != count:
        msg = f"{name} was given {count} events and returned {len(results)} results; return one for each, in order"
        raise HandlerTrouble(DeclarationError(msg))
    return results
