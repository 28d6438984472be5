"""Decide what a person's verb does to a saga; a verb that cannot be done raises VerbRefused and changes nothing.

All of them are safe to repeat: a hold of a held saga, or the retry of an undo that is under way, sends its
command again at most. What a person says in place of a handler is decided in `by_hand`.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from saga._core.bodies import Hold, Release, RetryRun
from saga._core.by_hand import check_waited_for, resolve, skip, step_of, unstuck
from saga._core.effects import Effect, Send
from saga._core.frozen import replace
from saga._core.ids import run_path
from saga._core.instance import ENDED, Instance, Phase, UndoStep
from saga._core.plan import Topology
from saga._core.verbs import CancelSaga, HoldSaga, ReleaseSaga, ResolveStep, RetryStep, SkipStep, Verb
from saga._core.words import Cause, Kind, Mark, RunKey, RunStatus
from saga.errors import VerbRefused


def act(topology: Topology, instance: Instance, verb: Verb, now: datetime, effects: list[Effect]) -> Instance:
    """Return the instance once a person has spoken, and add what has to be sent; raises VerbRefused."""
    if instance.phase in ENDED:
        msg = f"saga {instance.saga_id} has ended ({instance.phase}); nothing can be done about it any more"
        raise VerbRefused(msg)
    match verb:
        case CancelSaga(reason=reason):
            return _cancel(instance, reason)
        case HoldSaga() | ReleaseSaga():
            return _mark(topology, instance, verb, now, effects)
        case RetryStep(key=key):
            return _retry(topology, instance, key, effects)
        case SkipStep():
            return skip(topology, instance, verb, effects)
        case ResolveStep():
            return resolve(topology, instance, verb, effects)
        case _:
            assert_never(verb)


def owed_services(topology: Topology) -> tuple[str, ...]:
    """Return every service that keeps rows of the saga: those with steps, and the starter."""
    return tuple(sorted({*topology.services, topology.plan.starter}))


# --- the whole saga ------------------------------------------------------------------------------------------


def _cancel(instance: Instance, reason: str) -> Instance:
    if instance.phase is Phase.COMMITTED:
        msg = f"saga {instance.saga_id} is past its pivot and can only go forward; skip or retry the step it waits for"
        raise VerbRefused(msg)
    if instance.phase is Phase.READY:
        msg = f"saga {instance.saga_id} has done its part in another saga; cancel the one that started it"
        raise VerbRefused(msg)
    if instance.cause is not None or instance.phase is not Phase.RUNNING:
        return instance
    return replace(instance, cause=Cause.CANCELLED, detail=reason[:500])


def _mark(
    topology: Topology, instance: Instance, verb: HoldSaga | ReleaseSaga, now: datetime, effects: list[Effect]
) -> Instance:
    wanted = Mark.HELD if isinstance(verb, HoldSaga) else Mark.FREE
    if instance.mark is wanted:
        return instance
    number = instance.number + 1
    held = wanted is Mark.HELD
    command = Hold(number=number) if held else Release(number=number)
    kind, other = (Kind.HOLD, Kind.RELEASE) if held else (Kind.RELEASE, Kind.HOLD)
    services = owed_services(topology)
    effects.extend(Send(service=service, command=command) for service in services)
    owed = {key: owes for key, owes in instance.owed.items() if key[1] is not other}
    owed |= {(service, kind): number for service in services}
    paused = instance.paused if held else instance.paused + (now - (instance.held_at or now))
    held_at = now if held else None
    return replace(instance, mark=wanted, number=number, owed=owed, held_at=held_at, paused=paused)


# --- one run -------------------------------------------------------------------------------------------------


def _retry(topology: Topology, instance: Instance, key: RunKey, effects: list[Effect]) -> Instance:
    step = step_of(topology, key)
    where = run_path(key.step, key.branch)
    fact, undo = instance.runs.get(key), instance.undos.get(key)
    if undo is UndoStep.DONE or (undo is None and fact is not None and fact.status is not RunStatus.INTENT):
        state = "undone" if undo else fact.status if fact else ""
        msg = f"{where} is {state}; there is nothing to try again"
        raise VerbRefused(msg)
    if key in instance.doubts:
        msg = (
            f"{where} is in doubt past the life of its key, so the call must not be repeated; "
            f"find out what came of it and resolve it"
        )
        raise VerbRefused(msg)
    if undo is None:
        check_waited_for(topology, instance, key)
    effects.append(Send(service=step.service, command=RetryRun(step=key.step, branch=key.branch)))
    if undo is not UndoStep.FAILED:
        return instance
    return _unfailed(replace(instance, undos={**instance.undos, key: UndoStep.ASKED}))


def _unfailed(instance: Instance) -> Instance:
    failed = UndoStep.FAILED in instance.undos.values()
    if failed or instance.stuck is not Cause.UNDO_FAILED:
        return instance
    return unstuck(instance)
