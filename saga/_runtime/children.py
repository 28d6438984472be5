"""Start child sagas in the transaction of their parent's step, end the step with the child, and cancel the child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from saga._core import emit
from saga._core.answers import Emitted
from saga._core.bodies import CancelRequested
from saga._core.children import PARENT_TYPE, child_ended, parent_input, parent_of, waits_for_child
from saga._core.definition import Binding, StepDefinition
from saga._core.events import Event
from saga._core.ids import child_id_of
from saga._core.participant import Turn
from saga._core.plan import Topology
from saga._core.rows import OutboxRow, RunRow
from saga._core.run import Ended, Run
from saga._core.start import START
from saga._core.words import Ending, RunKey, RunStatus
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import answer_in, call, payload_of
from saga._runtime.items import EndItem
from saga._runtime.publishing import Publishing, publishing_of
from saga._runtime.trouble import HandlerTrouble
from saga.errors import PlanUnknown
from saga.ports import SpanKind, UnitOfWork


def start_child(
    context: ServiceContext, step: StepDefinition, parent: RunRow, event: Event, now: datetime
) -> tuple[RunRow, RunRow, Sequence[OutboxRow]]:
    """Return the parent's run, waiting for its child, with the child's start row and what publishes it.

    Raises HandlerTrouble when the child's plan is not known: the step is tried again.
    """
    child = step.child
    assert child is not None
    try:
        topology = context.plans.current(child.saga, child.version, context.service)
    except PlanUnknown as error:
        raise HandlerTrouble(error) from error
    plan = topology.plan
    name = f"{child.saga}.v{child.version}"
    start = RunRow(
        saga_id=child_id_of(name, parent.tenant, parent.saga_id, parent.key),
        step=child.start,
        plan=plan.hash,
        tenant=parent.tenant,
        status=RunStatus.DONE,
        causes=(RunKey(step=parent.step, branch=parent.branch),),
        input_type=PARENT_TYPE,
        input=parent_input(parent.saga_id, parent.key),
        result_type=event.wire_type,
        result=payload_of(event),
        attempt=1,
        lane=parent.lane,
        expires_at=now + timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms),
        created_at=now,
        done_at=now,
    )
    attributes = {"saga.id": start.saga_id, "saga.name": plan.saga, "saga.parent.id": parent.saga_id}
    with context.tracer.span(f"create {event.wire_type}", SpanKind.PRODUCER, parent.traceparent, attributes) as span:
        start = replace(start, traceparent=span.traceparent)
        outbox = emit.ended_run(start, plan, now, span.traceparent)
    waiting = replace(parent, status=RunStatus.INTENT, pending_at=None, called_at=now, first_called_at=now)
    return waiting, start, outbox


async def parent_turn(
    context: ServiceContext, unit: UnitOfWork, item: EndItem, start: RunRow, ended: Ended | None, now: datetime
) -> tuple[RunRow, Topology, Turn] | None:
    """Return what the end of a child does to the run that has started it, None when no run has.

    Raises HandlerTrouble for a `completed` that fails, and when this code does not know the parent's plan.
    """
    parent = parent_of(start)
    if parent is None:
        return None
    run_id = (parent.saga_id, parent.key.step, parent.key.branch)
    seen = await unit.read((parent.saga_id,), [run_id])
    run = seen.runs.get(run_id)
    if run is None:
        return None
    topology = context.plans.topology(run.plan)
    if topology is None:
        raise HandlerTrouble(PlanUnknown(f"plan {run.plan[:12]} of the parent saga {run.saga_id} is not known here"))
    emitted = None
    outgoing = publishing_of(context, run, "completed", now=now, causation_id=item.envelope.id)
    if waits_for_child(run) and item.outcome.ending is Ending.COMPLETED:
        assert ended is not None
        plan = topology.plan
        emitted = await _completed(context, context.step(plan.saga, plan.version, run.step), unit, run, ended, outgoing)
    turn = child_ended(run, item.outcome, emitted, now)
    return run, topology, replace(turn, published=tuple(outgoing.rows))


async def _completed(
    context: ServiceContext, step: StepDefinition, unit: UnitOfWork, run: RunRow, ended: Ended, outgoing: Publishing
) -> Emitted:
    if step.child is None or step.child.completed is None:
        return Emitted(type="", payload=b"")
    given = Run(saga_id=run.saga_id, step=run.step, branch=run.branch, tenant=run.tenant, door=unit, outgoing=outgoing)
    bindings = (Binding.INPUT, Binding.RUN)
    raw = await call(step.child.completed, bindings, {Binding.INPUT: ended}, given, step.timeout_seconds)
    _, answer = answer_in(raw, step, context.limits)
    assert isinstance(answer, Emitted)
    return answer


async def cancel_child(
    context: ServiceContext, unit: UnitOfWork, topology: Topology, key: RunKey, about: emit.About
) -> Sequence[OutboxRow]:
    """Return the row that asks the child's coordinator to undo it; none when the child never started."""
    # By the plan and not by the code: a replica whose code has lost the step undoes it too. A child is started here.
    saga_id = child_id_of(topology.steps[key.step].child, about.tenant, about.saga_id, key)
    run_id = (saga_id, f"{context.service}.{START}", "")
    seen = await unit.read((), [run_id])
    start = seen.runs.get(run_id)
    if start is None:
        return ()
    cancel = CancelRequested(reason=f"its parent {about.saga_id} is undone")
    its_own = replace(about, saga_id=saga_id, plan=start.plan, expires_at=start.expires_at, lane=start.lane)
    return (emit.report(cancel, service=context.service, about=its_own),)
