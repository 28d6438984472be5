"""Learn what a report teaches the coordinator about one saga.

Any order and repetition is legal: what is known of a run only rises, and a final answer stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from saga._core.bodies import (
    CancelRequested,
    Closed,
    Committed,
    Report,
    RunFact,
    RunReported,
    TooLate,
    UndoFailed,
    Undone,
)
from saga._core.instance import Answer, Instance, Phase, UndoStep
from saga._core.plan import Topology
from saga._core.words import RANK, Cause, RunKey


def learn(topology: Topology, instance: Instance, received: Report) -> Instance:
    """Return the instance with what a report says; a late or repeated report teaches nothing."""
    match received:
        case RunReported(fact=fact):
            return _with_facts(topology, instance, (fact,))
        case Closed(service=service, runs=runs):
            return _with_facts(topology, _with_answer(instance, service, Answer.CLOSED), runs)
        case Committed(service=service, runs=runs):
            return _with_facts(topology, _with_answer(instance, service, Answer.COMMITTED), runs)
        case Undone(step=step, branch=branch):
            return _with_undo(instance, RunKey(step=step, branch=branch), UndoStep.DONE)
        case UndoFailed() | TooLate() | CancelRequested():
            return _learn_trouble(instance, received)
        case _:
            assert_never(received)


def _learn_trouble(instance: Instance, received: UndoFailed | TooLate | CancelRequested) -> Instance:
    if isinstance(received, CancelRequested):
        if instance.cause is not None or instance.phase is not Phase.RUNNING:
            return instance
        return replace(instance, cause=Cause.CANCELLED, detail=received.reason[:500])
    if isinstance(received, TooLate):
        if _is_answered(instance, received):
            return instance
        detail = f"{received.step or received.service}: {received.reason}"[:500]
        return replace(instance, stuck=Cause.TOO_LATE, stuck_detail=detail)
    key = RunKey(step=received.step, branch=received.branch)
    if instance.undos.get(key) is UndoStep.DONE:
        return instance
    detail = f"{received.step}: {received.reason}"[:500]
    return replace(_with_undo(instance, key, UndoStep.FAILED), stuck=Cause.UNDO_FAILED, stuck_detail=detail)


def _is_answered(instance: Instance, late: TooLate) -> bool:
    """Return whether the command was obeyed in time: only a repetition of it came too late."""
    if late.step:
        return instance.undos.get(RunKey(step=late.step, branch=late.branch)) is UndoStep.DONE
    return instance.answers.get(late.service) in (Answer.CLOSED, Answer.COMMITTED)


def _with_answer(instance: Instance, service: str, answer: Answer) -> Instance:
    if instance.answers.get(service) in (Answer.CLOSED, Answer.COMMITTED):
        return instance
    return replace(instance, answers={**instance.answers, service: answer})


def _with_facts(topology: Topology, instance: Instance, facts: Iterable[RunFact]) -> Instance:
    runs = dict(instance.runs)
    for fact in facts:
        known = runs.get(fact.key)
        named = fact.step in topology.steps or fact.step == topology.plan.start
        if named and (known is None or RANK[fact.status] > RANK[known.status]):
            runs[fact.key] = fact
    return replace(instance, runs=runs)


def _with_undo(instance: Instance, key: RunKey, undo: UndoStep) -> Instance:
    if instance.undos.get(key) is UndoStep.DONE:
        return instance
    undos = {**instance.undos, key: undo}
    freed = instance.stuck is Cause.UNDO_FAILED and UndoStep.FAILED not in undos.values()
    return replace(instance, undos=undos, stuck=None if freed else instance.stuck)


# --- the plan ------------------------------------------------------------------------------------------


def planned(instance: Instance) -> Instance:
    """Return an instance whose plan is known by now: that it was not is no reason to be stuck any more."""
    if instance.stuck is not Cause.PLAN_UNKNOWN:
        return instance
    return replace(instance, stuck=None, stuck_detail="")


def learn_unplanned(instance: Instance, reports: Iterable[Report], plan: str) -> Instance:
    """Return an instance that keeps the facts of a saga whose plan is not known, marked as stuck."""
    runs = dict(instance.runs)
    for report in reports:
        if isinstance(report, RunReported):
            known = runs.get(report.fact.key)
            if known is None or RANK[report.fact.status] > RANK[known.status]:
                runs[report.fact.key] = report.fact
        elif isinstance(report, CancelRequested) and instance.cause is None:
            instance = replace(instance, cause=Cause.CANCELLED, detail=report.reason[:500])
    detail = f"plan {plan[:12]} is not known to the coordinator: add its file to the plans folder"
    # Nothing is due while nobody knows what to do: such rows must not fill the pages of the due ones.
    return replace(instance, runs=runs, stuck=Cause.PLAN_UNKNOWN, stuck_detail=detail, due_at=None)
