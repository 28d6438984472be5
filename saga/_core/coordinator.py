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

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from saga._core.acting import act, owed_services
from saga._core.bodies import Hold, Keep, Outcome, Release, Report, RunFact
from saga._core.closure import (
    alarmed,
    attempts_made,
    built_on,
    cannot_complete,
    is_child,
    is_compensated,
    is_complete,
    is_overspent,
    may_undo,
    needs_undo,
    only_received,
    pivot_has_run,
)
from saga._core.deadlines import due_at, keep_at, keep_until, overdue_at, resend_at, timeout_at, within_at
from saga._core.effects import Effect, Send, SendClose, SendUndo, SettleChild, Tell
from saga._core.frozen import replace
from saga._core.ids import run_path
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep, kept_until
from saga._core.learning import learn, planned
from saga._core.plan import Topology
from saga._core.verbs import Verb
from saga._core.words import Cause, Effects, Ending, Kind, Mark, RunStatus, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Tell a decision that the instance's due time has passed."""


Input = Report | Due | Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Hold the new instance and what is to be sent in the same transaction."""

    instance: Instance
    effects: tuple[Effect, ...]


def decide(topology: Topology, instance: Instance, received: Input, now: datetime) -> Decision:
    """Return what follows from one input; `now` is the coordinator's database clock.

    Pure and total for reports and time: any of them in any phase is legal, a repeated one changes nothing. A
    person's verb that cannot be done raises VerbRefused. A held saga learns and does nothing.
    """
    effects: list[Effect] = []
    known = planned(instance)
    if isinstance(received, Verb):
        known = act(topology, known, received, now, effects)
    elif instance.phase in ENDED:
        return Decision(instance=instance, effects=())
    elif isinstance(received, Due):
        known = _pass_time(topology, known, now, effects)
    else:
        known = alarmed(topology, learn(topology, known, received))
    settled = _tell_stuck(known, now, effects) if known.mark is Mark.HELD else _settle(topology, known, now, effects)
    if effects and any(isinstance(effect, SendClose | SendUndo | Send) for effect in effects):
        first = not isinstance(received, Due) or settled.resends == instance.resends
        settled = replace(settled, sent_at=now, resends=0 if first else settled.resends)
    due = due_at(topology, settled)
    if due != settled.due_at:
        settled = replace(settled, due_at=due)
    return Decision(instance=settled, effects=tuple(effects))


def completed(topology: Topology, instance: Instance, now: datetime) -> Decision:
    """Return what follows for a saga that goes forward, and of which everything has run."""
    effects: list[Effect] = []
    ended = _complete(topology, instance, now, effects)
    return Decision(instance=replace(ended, due_at=due_at(topology, ended)), effects=tuple(effects))


# --- what time does ------------------------------------------------------------------------------------


def _pass_time(topology: Topology, instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    again = resend_at(instance)
    if again is not None and now >= again:
        effects.extend(_unanswered(instance))
        instance = replace(instance, resends=instance.resends + 1)
    if now >= keep_at(topology, instance):
        until = keep_until(topology, instance, now)
        instance = _owing(instance, owed_services(topology), Kind.KEEP, int(until.timestamp()))
        instance = replace(instance, keep_until=until)
        effects.extend(Send(service=name, command=Keep(until=until)) for name in owed_services(topology))
    if instance.mark is Mark.HELD or instance.phase is Phase.READY:
        return instance
    if now >= overdue_at(instance) and instance.stuck is None:
        detail = "still open at the end of its forward window"
        if only_received(topology, instance):
            detail = "has received events from outside and never started"
        instance = replace(instance, stuck=Cause.OVERDUE, stuck_detail=detail)
    return _pass_deadlines(topology, instance, now)


def _pass_deadlines(topology: Topology, instance: Instance, now: datetime) -> Instance:
    if instance.phase is not Phase.RUNNING or instance.cause is not None:
        return instance
    timeout = timeout_at(topology, instance)
    if timeout is not None and now >= timeout:
        return replace(instance, cause=Cause.DEADLINE, detail="the saga's timeout passed")
    within, key = within_at(topology, instance)
    if within is not None and key is not None and now >= within:
        detail = f"{run_path(key.step, key.branch)} was not done within its time"
        return replace(instance, cause=Cause.DEADLINE, detail=detail)
    return instance


def _unanswered(instance: Instance) -> list[Effect]:
    found: list[Effect] = []
    for (service, kind), number in instance.owed.items():
        found.append(Send(service=service, command=_marking(instance, kind, number)))
    if instance.mark is Mark.HELD or instance.phase is Phase.COMMITTED:
        return found
    found += [SendClose(service=name) for name, answer in instance.answers.items() if answer is Answer.ASKED]
    found += [SendUndo(key=key) for key, undo in instance.undos.items() if undo is UndoStep.ASKED]
    return found


def _owing(instance: Instance, services: tuple[str, ...], kind: Kind, number: int) -> Instance:
    return replace(instance, owed={**instance.owed, **{(service, kind): number for service in services}})


def _marking(instance: Instance, kind: Kind, number: int) -> Hold | Release | Keep:
    if kind is Kind.KEEP:
        return Keep(until=kept_until(instance))
    return Hold(number=number) if kind is Kind.HOLD else Release(number=number)


# --- what follows ---------------------------------------------------------------------------------------


def _settle(topology: Topology, instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    if not instance.undos and not _is_called_back(topology, instance) and is_complete(topology, instance):
        return _complete(topology, instance, now, effects)
    if instance.phase in (Phase.RUNNING, Phase.READY):
        instance = _leave_running(topology, instance)
    if instance.phase is Phase.ASKING:
        instance = _ask_pivot(topology, instance, effects)
    if instance.phase is Phase.CLOSING:
        instance = _close_and_undo(topology, instance, effects)
        if is_compensated(topology, instance):
            return _settling_children(topology, _end(instance, Phase.COMPENSATED, now, effects), effects)
    return _tell_stuck(instance, now, effects)


def _tell_stuck(instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    if instance.stuck is None or instance.told is Ending.STUCK:
        return instance
    outcome = Outcome(
        ending=Ending.STUCK,
        cause=instance.stuck,
        refusal=instance.refusal,
        detail=instance.stuck_detail,
        at=now,
    )
    effects.append(Tell(outcome=outcome))
    return replace(instance, told=Ending.STUCK)


def _is_called_back(topology: Topology, instance: Instance) -> bool:
    """Return whether a child saga is undone with its parent: then it does not help that everything has run."""
    return instance.cause is Cause.CANCELLED and is_child(topology, instance)


def _complete(topology: Topology, instance: Instance, now: datetime, effects: list[Effect]) -> Instance:
    if is_child(topology, instance) and not instance.settled:
        if instance.phase is Phase.READY:
            return instance
        ready = _end(instance, Phase.COMPLETED, now, effects, Standing.PROVISIONAL)
        # What closed it is over, since all has run; only its parent can have it undone now.
        return replace(ready, phase=Phase.READY, cause=None, detail="", ended_at=None)
    return _settling_children(topology, _end(instance, Phase.COMPLETED, now, effects), effects)


def _settling_children(topology: Topology, ended: Instance, effects: list[Effect]) -> Instance:
    """Let the children go as well: nobody will call them back; those that were undone have ended already."""
    effects.extend(
        SettleChild(key=fact.key)
        for fact in ended.runs.values()
        if fact.step in topology.steps and topology.steps[fact.step].effects is Effects.CHILD
    )
    return ended


def _leave_running(topology: Topology, instance: Instance) -> Instance:
    if pivot_has_run(topology, instance):
        return _commit(instance)
    instance = _blame(instance)
    if instance.cause is None and is_overspent(topology, instance):
        detail = f"its runs have taken {attempts_made(instance)} attempts, {topology.plan.attempts} are allowed"
        instance = replace(instance, cause=Cause.FAILED, detail=detail)
    if instance.cause is None:
        return instance
    return replace(instance, phase=Phase.ASKING if topology.pivot else Phase.CLOSING)


def _commit(instance: Instance) -> Instance:
    return replace(instance, phase=Phase.COMMITTED, cause=None, detail="")


def _blame(instance: Instance) -> Instance:
    failed: RunFact | None = None
    for fact in instance.runs.values():
        if fact.status is RunStatus.REFUSED:
            return replace(instance, cause=Cause.REFUSED, detail=fact.step, refusal=fact.refusal)
        if fact.status is RunStatus.FAILED and failed is None:
            failed = fact
    if failed is None:
        return instance
    return replace(instance, cause=Cause.FAILED, detail=f"{failed.step}: {failed.error}"[:500])


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
    needed = built_on(topology, instance)
    ready = [
        fact.key
        for fact in instance.runs.values()
        if fact.key not in instance.undos and needs_undo(topology, fact) and may_undo(topology, instance, fact, needed)
    ]
    effects.extend(SendUndo(key=key) for key in ready)
    return replace(instance, undos={**instance.undos, **dict.fromkeys(ready, UndoStep.ASKED)})


def _end(
    instance: Instance, phase: Phase, now: datetime, effects: list[Effect], standing: Standing = Standing.FINAL
) -> Instance:
    ending = Ending.COMPLETED if phase is Phase.COMPLETED else Ending.COMPENSATED
    compensated = phase is Phase.COMPENSATED
    outcome = Outcome(
        ending=ending,
        cause=instance.cause if compensated else None,
        refusal=instance.refusal if compensated else None,
        detail=instance.detail if compensated else "",
        standing=standing,
        at=now,
    )
    # Nobody has to close or undo any more, but what a person has released must hear of it.
    effects[:] = [*(effect for effect in effects if isinstance(effect, Send)), Tell(outcome=outcome)]
    return replace(instance, phase=phase, told=ending, stuck=None, stuck_detail="", ended_at=now, due_at=None)
