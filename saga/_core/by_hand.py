"""Decide what it means that a person says what a step has done, or that it counts as undone; see `acting`."""

from __future__ import annotations

from dataclasses import replace

import orjson

from saga._core.bodies import ResolveRun, SkipRun
from saga._core.branches import branches_of
from saga._core.closure import demanded
from saga._core.effects import Effect, Send
from saga._core.ids import run_path
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep, freed
from saga._core.limits import DEFAULT_LIMITS
from saga._core.plan import PlanStep, Topology
from saga._core.verbs import CancelSaga, HoldSaga, ReleaseSaga, ResolveStep, RetryStep, SkipStep, Verb
from saga._core.versions import planned_type
from saga._core.words import Cause, Effects, Part, RunKey, RunStatus, StepKind, Takes, Verdict
from saga.errors import VerbRefused

RESULT_BYTES = DEFAULT_LIMITS.value_bytes // 2
"""How large a result may be that a person gives: it travels inside of a command, as base64."""

_SETTLED = (RunStatus.DONE, RunStatus.REFUSED)


def step_of(topology: Topology, key: RunKey) -> PlanStep:
    """Return the step of a run; raises VerbRefused when the plan has none of that name."""
    step = topology.steps.get(key.step)
    if step is None or step.kind is StepKind.RECEIVE:
        names = ", ".join(sorted(name for name, s in topology.steps.items() if s.kind is not StepKind.RECEIVE))
        msg = f"{topology.plan.saga} v{topology.plan.version} has no step {key.step!r}; its steps are {names}"
        raise VerbRefused(msg)
    return step


def blocking(topology: Topology, instance: Instance) -> tuple[RunKey, ...]:
    """Return the runs that the saga waits for, sorted: what a person can retry, skip or resolve.

    Undos that have failed and calls in doubt come alone, since nothing moves without somebody. Else it is what has
    been asked for and not been answered.
    """
    failed = {key for key, undo in instance.undos.items() if undo is UndoStep.FAILED}
    if failed or instance.doubts:
        return tuple(sorted(failed | instance.doubts))
    if instance.phase in (Phase.RUNNING, Phase.COMMITTED):
        return tuple(sorted(key for key in demands(topology, instance) if not is_settled(instance, key)))
    return tuple(sorted(key for key, undo in instance.undos.items() if undo is UndoStep.ASKED))


def aimed(topology: Topology, instance: Instance, verb: Verb) -> tuple[Verb, ...]:
    """Return the verb for each run it stands for; raises VerbRefused when a retry of everything finds nothing.

    A retry without a step stands for all that the saga waits for, and any verb with a step but no branch for
    those of its branches that the saga waits for.
    """
    if isinstance(verb, CancelSaga | HoldSaga | ReleaseSaga) or verb.key.branch or instance.phase in ENDED:
        return (verb,)
    waiting = blocking(topology, instance)
    if verb.key.step:
        keys = tuple(key for key in waiting if key.step == verb.key.step) or (verb.key,)
    else:
        keys = waiting if isinstance(verb, RetryStep) else ()
    if not keys:
        msg = f"saga {instance.saga_id} waits for no step" if isinstance(verb, RetryStep) else "name the step"
        raise VerbRefused(msg)
    return tuple(replace(verb, key=key) for key in keys)


def demands(topology: Topology, instance: Instance) -> dict[RunKey, tuple[RunKey, ...]]:
    """Return every run that a done one asks for, with those that do."""
    found: dict[RunKey, tuple[RunKey, ...]] = {}
    for fact in instance.runs.values():
        if fact.status is RunStatus.DONE:
            for key in demanded(topology, fact):
                found[key] = (*found.get(key, ()), fact.key)
    return found


def is_settled(instance: Instance, key: RunKey) -> bool:
    """Return whether a run is known to have ended for good."""
    fact = instance.runs.get(key)
    return fact is not None and fact.status in _SETTLED


def check_waited_for(topology: Topology, instance: Instance, key: RunKey) -> None:
    """Raise VerbRefused for a run that nothing has asked for yet."""
    if key in demands(topology, instance):
        return
    msg = f"{run_path(key.step, key.branch)} is not what the saga waits for: nothing it reacts to has happened"
    raise VerbRefused(msg)


def unstuck(instance: Instance) -> Instance:
    """Return the instance once somebody has done something about it; if it gets stuck again, it says so again."""
    return replace(freed(instance), told=None)


# --- skip ----------------------------------------------------------------------------------------------------


def skip(topology: Topology, instance: Instance, verb: SkipStep, effects: list[Effect]) -> Instance:
    """Count a run as undone where the saga undoes it, else as done with the given result."""
    key = verb.key
    if key.step in topology.services:
        return _skip_service(instance, key.step)
    step = step_of(topology, key)
    if key in instance.undos:
        return _skip_undo(instance, step, verb, effects)
    _check_forward(topology, instance, step, verb)
    command = SkipRun(
        step=key.step,
        branch=key.branch,
        part=Part.ACTION,
        reason=verb.reason,
        result_type=verb.result_type,
        result=verb.result,
        causes=demands(topology, instance)[key],
    )
    effects.append(Send(service=step.service, command=command))
    return instance


def _skip_undo(instance: Instance, step: PlanStep, verb: SkipStep, effects: list[Effect]) -> Instance:
    key = verb.key
    where = run_path(key.step, key.branch)
    if instance.undos[key] is UndoStep.DONE:
        msg = f"{where} is undone already"
        raise VerbRefused(msg)
    if verb.result_type or verb.result:
        msg = f"{where} is to be undone, and an undo has no result; leave it out"
        raise VerbRefused(msg)
    command = SkipRun(step=key.step, branch=key.branch, part=Part.COMPENSATION, reason=verb.reason)
    effects.append(Send(service=step.service, command=command))
    # It may be what was too late; another one that is says so again when it is asked again.
    return unstuck(instance) if instance.stuck is Cause.TOO_LATE else instance


def _skip_service(instance: Instance, service: str) -> Instance:
    if instance.stuck is not Cause.TOO_LATE or instance.answers.get(service) is not Answer.ASKED:
        msg = f"{service} can be skipped only when it has come too late to close; skip a step, as service.function"
        raise VerbRefused(msg)
    return unstuck(replace(instance, answers={**instance.answers, service: Answer.CLOSED}))


def _check_forward(topology: Topology, instance: Instance, step: PlanStep, verb: SkipStep) -> None:
    where = run_path(verb.key.step, verb.key.branch)
    if is_settled(instance, verb.key):
        msg = f"{where} is {instance.runs[verb.key].status} already"
        raise VerbRefused(msg)
    if instance.phase not in (Phase.RUNNING, Phase.COMMITTED):
        msg = f"{where} cannot be skipped while the saga is {instance.phase}; only what is to be undone can"
        raise VerbRefused(msg)
    if step.effects is Effects.CHILD:
        msg = f"{where} ends with its child saga; cancel that, or skip what the child waits for"
        raise VerbRefused(msg)
    check_waited_for(topology, instance, verb.key)
    if missing := _missing(topology, instance, step, verb.key.branch):
        msg = f"{where} joins {missing}, which has not happened yet; a step is not skipped before its causes"
        raise VerbRefused(msg)
    _check_result(verb, results_of(step), f"{where} emits")


def _missing(topology: Topology, instance: Instance, step: PlanStep, branch: str) -> str:
    """Return an event of a join that has not come in full, `""` when all have; one from outside may be missing."""
    emitted: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for fact in instance.runs.values():
        for event in (planned_type(topology, each) for each in fact.emits):
            emitted.setdefault(event, set()).add(fact.branch)
            if fact.fan_out is not None:
                counts[event] = fact.fan_out
                emitted[event] = set(branches_of(fact.fan_out))
    received = {event for each in topology.steps.values() if each.kind is StepKind.RECEIVE for event in each.emits}
    for taken in step.joins:
        come = emitted.get(taken.event, set())
        there = branch in come if taken.takes is Takes.ONE else len(come) == counts.get(topology.scopes[taken.event])
        if not there and taken.event not in received:
            return taken.event
    return ""


def results_of(step: PlanStep) -> tuple[str, ...]:
    """Return what a person can say a step has emitted, `""` for nothing; a list is more than they can give."""
    return (*(event for event in step.emits if event != step.fan_out), *[""] * (step.ends or not step.emits))


def _check_result(verb: SkipStep | ResolveStep, allowed: tuple[str, ...], what: str) -> None:
    if verb.result_type not in allowed:
        spelled = " or ".join(event or "nothing" for event in allowed) or "a list, which nobody can give by hand"
        msg = f"{what} {spelled}, not {verb.result_type or 'nothing'}; give the result that what follows goes on with"
        raise VerbRefused(msg)
    if len(verb.result) > RESULT_BYTES:
        msg = f"the result has {len(verb.result)} bytes; at most {RESULT_BYTES} can be given by hand"
        raise VerbRefused(msg)
    if verb.result_type and not _is_object(verb.result):
        msg = f"the result is no {verb.result_type}: write it as a JSON object"
        raise VerbRefused(msg)


def _is_object(payload: bytes) -> bool:
    try:
        return isinstance(orjson.loads(payload), dict)
    except orjson.JSONDecodeError:
        return False


def resolve(topology: Topology, instance: Instance, verb: ResolveStep, effects: list[Effect]) -> Instance:
    """Pass on what came of an outside call; the run, and with it the doubt, ends when its service says so."""
    step = step_of(topology, verb.key)
    where = run_path(verb.key.step, verb.key.branch)
    if step.effects is not Effects.EXTERNAL:
        msg = f"{where} calls nothing outside, so it cannot be in doubt"
        raise VerbRefused(msg)
    if verb.verdict is Verdict.HAPPENED:
        _check_result(verb, (*results_of(step), *step.refuses), f"{where} emits")
        if verb.result_type in step.refuses and len(verb.result) > DEFAULT_LIMITS.refusal_bytes:
            msg = f"the refusal has {len(verb.result)} bytes; at most {DEFAULT_LIMITS.refusal_bytes} are allowed"
            raise VerbRefused(msg)
    elif verb.key not in instance.doubts:
        msg = f"{where} is not in doubt: it is asked again by itself for as long as its call might still happen"
        raise VerbRefused(msg)
    if is_settled(instance, verb.key) and verb.key not in instance.doubts:
        msg = f"{where} is {instance.runs[verb.key].status} already"
        raise VerbRefused(msg)
    command = ResolveRun(
        step=verb.key.step,
        branch=verb.key.branch,
        reason=verb.reason,
        verdict=verb.verdict,
        result_type=verb.result_type if verb.verdict is Verdict.HAPPENED else "",
        result=verb.result if verb.verdict is Verdict.HAPPENED else b"",
    )
    effects.append(Send(service=step.service, command=command))
    return instance
