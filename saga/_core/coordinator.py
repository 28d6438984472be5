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

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from saga._core.bodies import Outcome, Report
from saga._core.closure import cannot_complete, is_compensated, is_complete, may_undo, needs_undo, pivot_has_run
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.learning import learn, planned
from saga._core.plan import Topology
from saga._core.words import Cause, Ending, RunKey, RunStatus

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
    known = planned(instance)
    known = _pass_time(topology, known, now, effects) if isinstance(received, Due) else learn(topology, known, received)
    settled = _settle(topology, known, now, effects)
    if any(isinstance(effect, SendClose | SendUndo) for effect in effects):
        first = not isinstance(received, Due) or settled.resends == instance.resends
        settled = replace(settled, sent_at=now, resends=0 if first else settled.resends)
    settled = replace(settled, due_at=_due_at(topology, settled))
    return Decision(instance=settled, effects=tuple(effects))


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
        if is_compensated(topology, instance):
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
    if pivot_has_run(topology, instance):
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


def _ask_pivot(topology: Topology, instance: Instance, effects: list[Effect]) -> Instance:
    assert topology.pivot is not None
    service = topology.pivot.service
    answer = instance.answers.get(service)
    match answer:
        case None:
            effects.append(SendClose(service=service))
            return replace(instance, answers={**instance.answers, service: Answer.ASKED})
        case Answer.ASKED:
            if pivot_has_run(topology, instance):
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
    if not cannot_complete(topology, instance):
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
