"""Learn what a report teaches the coordinator about one saga.

Any order and repetition is legal: what is known of a run only rises, and a final answer stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from saga._core.bodies import (
    CancelRequested,
    Closed,
    Committed,
    InDoubt,
    Obeyed,
    Report,
    RunFact,
    RunReported,
    Settled,
    TooLate,
    UndoFailed,
    Undone,
)
from saga._core.frozen import replace
from saga._core.instance import Answer, Instance, Phase, UndoStep, freed
from saga._core.plan import Topology
from saga._core.words import RANK, Cause, Kind, Mark, RunKey, RunStatus


def learn(topology: Topology | None, instance: Instance, received: Report) -> Instance:
    """Return the instance with what a report says; a late or repeated report teaches nothing.

    Runs of steps that are not in the plan are nobody's; without a topology all are kept.
    """
    match received:
        case RunReported(fact=fact):
            return _with_facts(topology, instance, (fact,))
        case Closed(service=service, runs=runs):
            return _with_facts(topology, _with_answer(instance, service, Answer.CLOSED), runs)
        case Committed(service=service, runs=runs):
            return _with_facts(topology, _with_answer(instance, service, Answer.COMMITTED), runs)
        case Undone(step=step, branch=branch):
            return _with_undo(instance, RunKey(step=step, branch=branch), UndoStep.DONE)
        case Obeyed(service=service, command=command, number=number):
            return _with_obeyed(instance, service, command, number)
        case Settled():
            return replace(instance, settled=True)
        case UndoFailed() | TooLate() | CancelRequested() | InDoubt():
            return _learn_trouble(instance, received)
        case _:
            assert_never(received)


def only_adds(topology: Topology, instance: Instance, received: Report) -> bool:
    """Return whether a report does nothing but add a run to a saga that goes forward.

    Nothing but its end can follow from it, so it may be learned together with the next one of this sort, and then
    decided about once.
    """
    return (
        isinstance(received, RunReported)
        and received.fact.status is RunStatus.DONE
        and (instance.phase is Phase.RUNNING or instance.phase is Phase.COMMITTED)
        and instance.cause is None
        and instance.stuck is None
        and instance.mark is Mark.FREE
        and not instance.undos
        and not topology.plan.attempts
    )


def _with_obeyed(instance: Instance, service: str, command: Kind, number: int) -> Instance:
    if instance.owed.get((service, command)) != number:
        return instance
    return replace(instance, owed={key: n for key, n in instance.owed.items() if key != (service, command)})


def _learn_trouble(instance: Instance, received: UndoFailed | TooLate | CancelRequested | InDoubt) -> Instance:
    if isinstance(received, InDoubt):
        return _with_doubt(instance, received)
    if isinstance(received, CancelRequested):
        if instance.cause is not None or instance.phase not in (Phase.RUNNING, Phase.READY):
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


def _with_doubt(instance: Instance, received: InDoubt) -> Instance:
    key = RunKey(step=received.step, branch=received.branch)
    known = instance.runs.get(key)
    settled = known is not None and known.status in (RunStatus.DONE, RunStatus.REFUSED)
    if instance.undos.get(key) is UndoStep.DONE or (settled and key not in instance.undos):
        return instance
    detail = f"{received.step}: {received.reason}"[:500]
    return replace(instance, doubts=instance.doubts | {key}, stuck=Cause.IN_DOUBT, stuck_detail=detail)


def _without_doubts(instance: Instance, keys: Iterable[RunKey]) -> Instance:
    if not instance.doubts:
        return instance
    doubts = instance.doubts.difference(keys)
    if doubts == instance.doubts:
        return instance
    over = not doubts and instance.stuck is Cause.IN_DOUBT
    instance = replace(instance, doubts=doubts)
    return freed(instance) if over else instance


def _is_answered(instance: Instance, late: TooLate) -> bool:
    """Return whether the command was obeyed in time: only a repetition of it came too late."""
    if late.step:
        return instance.undos.get(RunKey(step=late.step, branch=late.branch)) is UndoStep.DONE
    return instance.answers.get(late.service) in (Answer.CLOSED, Answer.COMMITTED)


def _with_answer(instance: Instance, service: str, answer: Answer) -> Instance:
    if instance.answers.get(service) in (Answer.CLOSED, Answer.COMMITTED):
        return instance
    return replace(instance, answers={**instance.answers, service: answer})


def _with_facts(topology: Topology | None, instance: Instance, facts: Iterable[RunFact]) -> Instance:
    runs: dict[RunKey, RunFact] = {}
    ended: list[RunKey] = []
    for fact in facts:
        key = fact.key
        known = runs.get(key) or instance.runs.get(key)
        named = topology is None or fact.step in topology.steps or fact.step == topology.plan.start
        if named and (known is None or RANK[fact.status] > RANK[known.status]):
            runs[key] = fact
            if fact.status in (RunStatus.DONE, RunStatus.REFUSED):
                ended.append(key)
    if not runs:
        return instance
    return _without_doubts(replace(instance, runs={**instance.runs, **runs}), ended)


def _with_undo(instance: Instance, key: RunKey, undo: UndoStep) -> Instance:
    if instance.undos.get(key) is UndoStep.DONE:
        return instance
    if undo is UndoStep.DONE:
        instance = _without_doubts(instance, (key,))
    undos = {**instance.undos, key: undo}
    over = instance.stuck is Cause.UNDO_FAILED and UndoStep.FAILED not in undos.values()
    instance = replace(instance, undos=undos)
    return freed(instance) if over else instance


# --- the plan ------------------------------------------------------------------------------------------


def planned(instance: Instance) -> Instance:
    """Return an instance whose plan is known by now: that it was not is no reason to be stuck any more."""
    if instance.stuck is not Cause.PLAN_UNKNOWN:
        return instance
    return freed(instance)


def learn_unplanned(
    instance: Instance, reports: Iterable[Report], plan: str, look_again_at: datetime | None = None
) -> Instance:
    """Return an instance that keeps what is reported of a saga whose plan is not known, marked as stuck.

    Everything is learned, answers to commands too: another coordinator may know the plan and have sent them.
    """
    for report in reports:
        instance = learn(None, instance, report)
    detail = f"plan {plan[:12]} is not known to the coordinator: add its file to the plans folder"
    # Seldom, while nobody knows what to do: such rows must not fill the pages of the due ones.
    instance = replace(instance, due_at=look_again_at)
    if instance.stuck is not None:
        return instance  # what it is stuck with stays true, and must not be forgotten once the plan is known
    return replace(instance, stuck=Cause.PLAN_UNKNOWN, stuck_detail=detail)
