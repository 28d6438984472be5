"""Ask the outside system: by the call itself, or by the step's `confirm`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from saga._core.answers import Emitted, Refused, Work, work_of
from saga._core.breaker import CallOutcome
from saga._core.budget import deadline_of
from saga._core.definition import Binding, CompensationDefinition, StepDefinition
from saga._core.doubt import Memory, Question
from saga._core.ids import idempotency_key
from saga._core.limits import Limits
from saga._core.plan import Topology
from saga._core.rows import RunRow
from saga._core.run import Run
from saga._core.step import NotFound
from saga._core.story import LONG_WAIT
from saga._core.words import Purpose, UndoStatus
from saga._runtime.beating import Hold
from saga._runtime.handlers import Result, answer_in, call
from saga._runtime.inputs import inputs_of_run
from saga._runtime.tracing import NO_SPAN
from saga._runtime.trouble import HandlerTrouble
from saga.ports import Below, Span, SpanKind, Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Be what came back from outside: an answer, NOT_FOUND of a probe, or the text of what went wrong.

    `result` is what the handler returned with an answer. `outcome` is what the dependency has shown, None for nothing.
    `error` is what went wrong. `span` is the call's, held until it is known what follows.
    """

    answer: Emitted | Refused | NotFound | str
    result: Result = None
    outcome: CallOutcome | None = None
    error: BaseException | None = None
    span: Span = NO_SPAN


def memory_of(called: StepDefinition | CompensationDefinition, lease_seconds: float) -> Memory:
    """Return what the dependency of an external step or compensation says of its calls and keys.

    `called_at` is written before a call, which begins within its lease or not at all: that much longer it may last.
    """
    assert called.dependency is not None
    begins_within = timedelta(seconds=lease_seconds)
    return Memory(max_in_flight=begins_within + called.dependency.max_in_flight, key_ttl=called.dependency.key_ttl)


async def ask(
    tracer: Tracer, topology: Topology, step: StepDefinition, hold: Hold, question: Question, limits: Limits
) -> Heard | None:
    """Make the call, or ask the probe, and return what was heard; None when the run was lost meanwhile."""
    run = hold.run
    asked = "confirm" if question is Question.PROBE else "call"
    given = _given(topology, run, question)
    attributes = {"saga.id": run.saga_id, "saga.step": run.step, "saga.purpose": given.purpose.value}
    heard: Heard | None = None
    with tracer.span(f"{asked} {run.step}", SpanKind.INTERNAL, run.traceparent, attributes, below(run)) as span:
        outcome: CallOutcome | None = None
        try:
            values = inputs_of_run(step, run)
            outcome = CallOutcome.FAILED
            handler, bindings = step.handler, step.bindings
            if question is Question.PROBE:
                assert step.confirm is not None
                handler, bindings = step.confirm, (Binding.INPUT, Binding.RUN)
            with hold.call:
                raw = await call(handler, bindings, values, given, step.timeout_seconds)
                outcome = CallOutcome.ANSWERED
                heard = _heard(raw, step, question, limits)
        except Exception as error:  # noqa: BLE001 - the user's code, or what it has returned: the attempt counts
            trouble = error if isinstance(error, HandlerTrouble) else HandlerTrouble(error)
            heard = Heard(answer=str(trouble), outcome=outcome, error=trouble.error)
        if heard is not None:
            if isinstance(heard.answer, Refused):
                span.set("saga.refusal", heard.answer.type)
            span.hold()
            heard = replace(heard, span=span)
    return heard


def below(run: RunRow) -> Below:
    """Return where the span of a call stands: in a new trace if the run has been waiting for long."""
    since = run.first_called_at if run.undo is UndoStatus.INTENT else run.created_at
    waits = since is not None and run.called_at is not None and run.called_at - since > LONG_WAIT
    return Below.LINK if waits else Below.PARENT


def _given(topology: Topology, run: RunRow, question: Question) -> Run:
    acting = question is Question.CALL and work_of(run) is Work.ACT
    return Run(
        saga_id=run.saga_id,
        step=run.step,
        branch=run.branch,
        attempt=run.attempt + 1,
        purpose=Purpose.ACT if acting else Purpose.RESOLVE,
        tenant=run.tenant,
        deadline=deadline_of(topology, run.step, run.expires_at),
        idempotency_key=idempotency_key(run.saga_id, run.step, run.branch, run.generation),
    )


def _heard(raw: object, step: StepDefinition, question: Question, limits: Limits) -> Heard:
    if question is Question.PROBE and isinstance(raw, NotFound):
        return Heard(answer=raw, outcome=CallOutcome.ANSWERED)
    result, answer = answer_in(raw, step, limits)
    return Heard(answer=answer, result=result, outcome=CallOutcome.ANSWERED)
