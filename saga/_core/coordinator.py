"""Decide what the coordinator does about one saga.

The rules, in order (docs/architecture.md explains them):

1. Everything the records demand has a run, all done -> completed, whatever the phase, unless an undo has begun.
2. The pivot has run -> only forward; the timeout is cleared.
3. A refusal, a failure, a cancel or a due timeout -> ask the pivot's service, alone, to close.
4. It has closed (or there is no pivot) -> ask every other service of the plan, seen or not.
5. Something proves that the saga cannot complete -> undo each run whose own service and every service
   hosting a step after it have answered, and whose actual descendants are undone.
6. All services have answered and every run is undone -> compensated.

`decide` tolerates any order and repetition of its inputs; knowledge of a run only rises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from saga._core.bodies import (
    CancelRequested,
    Closed,
    Committed,
    Outcome,
    Report,
    RunFact,
    RunReported,
    TooLate,
    UndoFailed,
    Undone,
)
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.plan import Topology
from saga._core.words import RANK, Cause, Effects, Ending, RunKey, RunStatus

RESEND_FIRST = timedelta(seconds=30)
RESEND_CAP = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Tell a decision that the instance's due time has passed."""


Input = Report | Due


@dataclass(frozen=True, slots=True, kw_only=True)
class SendClose:
    """Ask a service to close the saga."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendUndo:
    """Ask a run's service to undo it."""

    key: RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Publish how the saga ended."""

    outcome: Outcome


Effect = SendClose | SendUndo | Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Hold the new instance and what is to be sent in the same transaction."""

    instance: Instance
    effects: tuple[Effect, ...]


def decide(topology: Topology, instance: Instance, received: Input, now: datetime) -> Decision:
    """Return what follows from one input; `now` is the coordinator's database clock.

    Pure and total: any input in any phase is legal, a repeated one changes nothing.
    """
    if instance.phase in ENDED:
        return Decision(instance=instance, effects=())
    effects: list[Effect] = []
    known = _learn(topology, _planned(instance), received)
    if isinstance(received, Due):
        known = _pass_time(topology, known, now, effects)
    settled = _settle(topology, known, now, effects)
    if any(isinstance(effect, SendClose | SendUndo) for effect in effects):
        first = not isinstance(received, Due) or settled.resends == instance.resends
        settled = replace(settled, sent_at=now, resends=0 if first else settled.resends)
    settled = replace(settled, due_at=_due_at(topology, settled))
    return Decision(instance=settled, effects=tuple(effects))


def _planned(instance: Instance) -> Instance:
    """Return an instance whose plan is known by now: that it was not is no reason to be stuck any more."""
    if instance.stuck is not Cause.PLAN_UNKNOWN:
        return instance
    return replace(instance, stuck=None, stuck_detail="")


# --- what an input teaches -------------------------------------------------------------------------


def _learn(topology: Topology, instance: Instance, received: Input) -> Instance:
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
        case Due():
            return instance
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


# --- what time does ------------------------------------------------------------------------------------


def _timeout_at(topology: Topology, instance: Instance) -> datetime:
    return instance.expires_at - timedelta(milliseconds=topology.plan.forward_window_ms)


def _resend_at(instance: Instance) -> datetime | None:
    owed = Answer.ASKED in instance.answers.values() or UndoStep.ASKED in instance.undos.values()
    if not owed or instance.sent_at is None or instance.phase is Phase.COMMITTED:
        return None
    pause: timedelta = min(RESEND_FIRST * 2 ** min(instance.resends, 10), RESEND_CAP)
    return instance.sent_at + pause


def _due_at(topology: Topology, instance: Instance) -> datetime | None:
    if instance.phase in ENDED:
        return None
    times = [_resend_at(instance)]
    if instance.phase is Phase.RUNNING and instance.stuck is None:
        times.append(_timeout_at(topology, instance))
    if instance.stuck is None:
        times.append(instance.expires_at)
    return min((time for time in times if time is not None), default=None)


def _pass_time(topology: Topology, instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    resend_at = _resend_at(instance)
    if resend_at is not None and now >= resend_at:
        effects.extend(SendClose(service=name) for name, answer in instance.answers.items() if answer is Answer.ASKED)
        effects.extend(SendUndo(key=key) for key, undo in instance.undos.items() if undo is UndoStep.ASKED)
        instance = replace(instance, resends=instance.resends + 1)
    if now >= instance.expires_at and instance.stuck is None:
        instance = replace(instance, stuck=Cause.OVERDUE, stuck_detail="still open at the end of its forward window")
    if instance.phase is Phase.RUNNING and instance.cause is None and now >= _timeout_at(topology, instance):
        instance = replace(instance, cause=Cause.DEADLINE, detail="the saga's timeout passed")
    return instance


# --- what follows ---------------------------------------------------------------------------------------


def _settle(topology: Topology, instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    if not instance.undos and is_complete(topology, instance):
        return _end(instance, Phase.COMPLETED, now, effects)
    if instance.phase is Phase.RUNNING:
        instance = _leave_running(topology, instance)
    if instance.phase is Phase.ASKING:
        instance = _ask_pivot(topology, instance, effects)
    if instance.phase is Phase.CLOSING:
        instance = _close_and_undo(topology, instance, effects)
        if _is_compensated(topology, instance):
            return _end(instance, Phase.COMPENSATED, now, effects)
    if instance.stuck is not None and instance.told is not Ending.STUCK:
        instance = replace(instance, told=Ending.STUCK)
        outcome = Outcome(
            ending=Ending.STUCK,
            cause=instance.stuck,
            refusal=instance.refusal,
            detail=instance.stuck_detail,
            at=now,
        )
        effects.append(Tell(outcome=outcome))
    return instance


def _leave_running(topology: Topology, instance: Instance) -> Instance:
    if _pivot_has_run(topology, instance):
        return _commit(instance)
    instance = _blame(instance)
    if instance.cause is None:
        return instance
    return replace(instance, phase=Phase.ASKING if topology.pivot else Phase.CLOSING)


def _commit(instance: Instance) -> Instance:
    return replace(instance, phase=Phase.COMMITTED, cause=None, detail="")


def _blame(instance: Instance) -> Instance:
    for fact in instance.runs.values():
        if fact.status is RunStatus.REFUSED:
            return replace(instance, cause=Cause.REFUSED, detail=fact.step, refusal=fact.refusal)
    for fact in instance.runs.values():
        if fact.status is RunStatus.FAILED:
            return replace(instance, cause=Cause.FAILED, detail=f"{fact.step}: {fact.error}"[:500])
    return instance


def _pivot_has_run(topology: Topology, instance: Instance) -> bool:
    pivot = topology.pivot
    return pivot is not None and any(
        fact.step == pivot.name and fact.status is RunStatus.DONE for fact in instance.runs.values()
    )


def _ask_pivot(topology: Topology, instance: Instance, effects: list[Effect]) -> Instance:
    assert topology.pivot is not None
    service = topology.pivot.service
    answer = instance.answers.get(service)
    match answer:
        case None:
            effects.append(SendClose(service=service))
            return replace(instance, answers={**instance.answers, service: Answer.ASKED})
        case Answer.ASKED:
            if _pivot_has_run(topology, instance):
                return _commit(instance)
            return instance
        case Answer.COMMITTED:
            return _commit(instance)
        case Answer.CLOSED:
            return replace(instance, phase=Phase.CLOSING)
        case _:
            assert_never(answer)


def _close_and_undo(topology: Topology, instance: Instance, effects: list[Effect]) -> Instance:
    unasked = [service for service in topology.services if service not in instance.answers]
    if unasked:
        effects.extend(SendClose(service=service) for service in unasked)
        asked = dict.fromkeys(unasked, Answer.ASKED)
        instance = replace(instance, answers={**instance.answers, **asked})
    if instance.refusal is None:
        # A refusal that comes to light while closing is the better explanation for whoever asks why.
        blamed = _blame(instance)
        instance = blamed if blamed.cause is Cause.REFUSED else instance
    if not _cannot_complete(topology, instance):
        return instance
    ready = [
        fact.key
        for fact in instance.runs.values()
        if fact.key not in instance.undos and needs_undo(topology, fact) and may_undo(topology, instance, fact)
    ]
    effects.extend(SendUndo(key=key) for key in ready)
    return replace(instance, undos={**instance.undos, **dict.fromkeys(ready, UndoStep.ASKED)})


def _end(instance: Instance, phase: Phase, now: datetime, effects: list[Effect]) -> Instance:
    ending = Ending.COMPLETED if phase is Phase.COMPLETED else Ending.COMPENSATED
    compensated = phase is Phase.COMPENSATED
    outcome = Outcome(
        ending=ending,
        cause=instance.cause if compensated else None,
        refusal=instance.refusal if compensated else None,
        detail=instance.detail if compensated else "",
        at=now,
    )
    effects[:] = [Tell(outcome=outcome)]
    return replace(instance, phase=phase, told=ending, stuck=None, stuck_detail="", ended_at=now, due_at=None)


# --- questions ---------------------------------------------------------------------------------------------


def is_complete(topology: Topology, instance: Instance) -> bool:
    """Return whether the start, every emitted event and every step that reacts to one has a run, all done.

    The closure over the records: it needs no order and no step counts.
    """
    start = instance.runs.get(RunKey(step=topology.plan.start))
    if start is None:
        return False
    open_runs = [start]
    while open_runs:
        fact = open_runs.pop()
        if fact.status is not RunStatus.DONE:
            return False
        for key in _demanded(topology, fact):
            follower = instance.runs.get(key)
            if follower is None:
                return False
            open_runs.append(follower)
    return True


def _demanded(topology: Topology, fact: RunFact) -> Iterable[RunKey]:
    for event in fact.emits:
        for step in topology.reacting.get(event, ()):
            yield RunKey(step=step.name, branch=fact.branch)


def _cannot_complete(topology: Topology, instance: Instance) -> bool:
    if instance.undos or instance.cause in (Cause.REFUSED, Cause.FAILED, Cause.CANCELLED):
        return True
    if all(instance.answers.get(service) is Answer.CLOSED for service in topology.services):
        return True
    for fact in instance.runs.values():
        if fact.status in (RunStatus.REFUSED, RunStatus.FAILED):
            return True
        if fact.status is not RunStatus.DONE:
            continue
        for key in _demanded(topology, fact):
            if key not in instance.runs and instance.answers.get(key.service) is Answer.CLOSED:
                return True
    return False


def needs_undo(topology: Topology, fact: RunFact) -> bool:
    """Return whether a run may have an effect: done, or an outside call that nobody has answered for."""
    step = topology.steps.get(fact.step)
    if step is None:
        return False
    if fact.status is RunStatus.DONE:
        return True
    return step.effects is Effects.EXTERNAL and fact.status in (RunStatus.INTENT, RunStatus.FAILED)


def may_undo(topology: Topology, instance: Instance, fact: RunFact) -> bool:
    """Return whether nothing that depends on the run can still run or still stands."""
    hosts = topology.hosts_after[fact.step]
    if any(instance.answers.get(service) is not Answer.CLOSED for service in hosts):
        return False
    return not any(
        fact.key in other.causes and needs_undo(topology, other) and instance.undos.get(other.key) is not UndoStep.DONE
        for other in instance.runs.values()
    )


def _is_compensated(topology: Topology, instance: Instance) -> bool:
    if any(instance.answers.get(service) is not Answer.CLOSED for service in topology.services):
        return False
    if not _cannot_complete(topology, instance):
        return False
    return all(
        instance.undos.get(fact.key) is UndoStep.DONE for fact in instance.runs.values() if needs_undo(topology, fact)
    )


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
    return replace(instance, runs=runs, stuck=Cause.PLAN_UNKNOWN, stuck_detail=detail)
