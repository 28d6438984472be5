"""Answer the questions about one saga's records: what is owed, what stands, what has to be undone."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from saga._core.bodies import RunFact
from saga._core.branches import EMPTY, branches_of
from saga._core.frozen import replace
from saga._core.instance import Answer, Instance, UndoStep
from saga._core.plan import PlanStep, Topology
from saga._core.versions import planned_type
from saga._core.words import Cause, Effects, RunKey, RunStatus, StepKind, Takes


def only_received(topology: Topology, instance: Instance) -> bool:
    """Return whether nothing is known of the saga but events from outside, which may come before it starts."""
    for key in instance.runs:
        step = topology.steps.get(key.step)
        if step is None or step.kind is not StepKind.RECEIVE:
            return False
    return bool(instance.runs)


def is_child(topology: Topology, instance: Instance) -> bool:
    """Return whether a step of another saga has started this one: then its start has a cause."""
    start = instance.runs.get(topology.start)
    return start is not None and bool(start.causes)


def is_complete(topology: Topology, instance: Instance) -> bool:
    """Return whether the start, every emitted event and every step that reacts to one has a run, all done.

    The closure over the records: it needs no order and no step counts.
    """
    start = instance.runs.get(topology.start)
    return start is not None and _has_all(topology, instance, start)


def lacks_only_its_start(topology: Topology, instance: Instance) -> bool:
    """Return whether everything has run, and only the record of the start is still on its way.

    Its event has overtaken it. Such a saga is not undone: it is complete once the record is here.
    """
    key = RunKey(step=topology.plan.start)
    begun = [fact for fact in instance.runs.values() if key in fact.causes]
    if key in instance.runs or not begun:
        return False
    start = RunFact(step=key.step, status=RunStatus.DONE, emits=(topology.plan.start_event,), at=begun[0].at)
    return _has_all(topology, instance, start)


def _has_all(topology: Topology, instance: Instance, start: RunFact) -> bool:
    open_runs, seen = [start], {start.key}
    while open_runs:
        fact = open_runs.pop()
        if fact.status is not RunStatus.DONE:
            return False
        for key in demanded(topology, fact):
            follower = instance.runs.get(key)
            if follower is None:
                return False
            if key not in seen:
                seen.add(key)
                open_runs.append(follower)
    return True


def demanded(topology: Topology, fact: RunFact) -> Iterable[RunKey]:
    """Return every run that a done run asks for; an event from outside asks for none, since nobody has to wait for it.

    A join is asked for by each of its events: by plan check it gets all of them or none.
    """
    step = topology.steps.get(fact.step)
    if fact.fan_out is None and not fact.branch and len(fact.emits) == 1:
        keys = topology.demands.get(fact.emits[0])
        if keys is not None:
            return () if step is not None and step.kind is StepKind.RECEIVE else keys
    return _demanded(topology, fact, step)


def _demanded(topology: Topology, fact: RunFact, step: PlanStep | None) -> Iterable[RunKey]:
    if step is not None and step.kind is StepKind.RECEIVE:
        return
    for emitted in fact.emits:
        event = planned_type(topology, emitted)
        if fact.fan_out == 0:
            for gather in topology.gathers.get(event, ()):
                yield RunKey(step=gather.name)
            continue
        branches = (fact.branch,) if fact.fan_out is None else branches_of(fact.fan_out)
        for follower in topology.reacting.get(event, ()):
            if gathers(follower, event):
                yield RunKey(step=follower.name)
            else:
                for branch in branches:
                    yield RunKey(step=follower.name, branch=branch)


def takers(topology: Topology, event: str, branch: str) -> tuple[PlanStep, ...]:
    """Return the steps an event of the plan goes to; that of an empty fan-out goes to the gathers of its branches."""
    return topology.gathers.get(event, ()) if branch == EMPTY else topology.reacting.get(event, ())


def gathers(step: PlanStep, event: str) -> bool:
    """Return whether a step takes the event of every branch, and so runs outside of the branches."""
    return any(taken.takes is Takes.EVERY for taken in step.inputs if taken.event == event)


def cannot_complete(topology: Topology, instance: Instance) -> bool:
    """Return whether something proves that the saga cannot complete any more."""
    if instance.undos or instance.cause in (Cause.REFUSED, Cause.FAILED, Cause.CANCELLED):
        return True
    if all(instance.answers.get(service) is Answer.CLOSED for service in topology.services):
        return not lacks_only_its_start(topology, instance)
    for fact in instance.runs.values():
        if fact.status in (RunStatus.REFUSED, RunStatus.FAILED):
            return True
        if fact.status is not RunStatus.DONE:
            continue
        for key in demanded(topology, fact):
            if key not in instance.runs and instance.answers.get(key.service) is Answer.CLOSED:
                return True
    return False


def needs_undo(topology: Topology, fact: RunFact) -> bool:
    """Return whether a run may have an effect: done, or an outside call or a child saga not answered for."""
    step = topology.steps.get(fact.step)
    if step is None or step.kind is StepKind.RECEIVE:
        return False
    if fact.status is RunStatus.DONE:
        return True
    return step.effects is not Effects.LOCAL and fact.status in (RunStatus.INTENT, RunStatus.FAILED)


def built_on(topology: Topology, instance: Instance) -> frozenset[RunKey]:
    """Return the runs that caused one which still stands; asked once for all, since a fan-out has thousands."""
    return frozenset(
        cause
        for other in instance.runs.values()
        if needs_undo(topology, other) and instance.undos.get(other.key) is not UndoStep.DONE
        for cause in other.causes
    )


def may_undo(topology: Topology, instance: Instance, fact: RunFact, needed: AbstractSet[RunKey]) -> bool:
    """Return whether nothing that depends on the run can still run or still stands; `needed` is from `built_on`."""
    hosts = topology.hosts_after[fact.step]
    if any(instance.answers.get(service) is not Answer.CLOSED for service in hosts):
        return False
    return fact.key not in needed


def is_compensated(topology: Topology, instance: Instance) -> bool:
    """Return whether every service has closed and every run that needed it is undone."""
    if any(instance.answers.get(service) is not Answer.CLOSED for service in topology.services):
        return False
    if not cannot_complete(topology, instance):
        return False
    return all(
        instance.undos.get(fact.key) is UndoStep.DONE for fact in instance.runs.values() if needs_undo(topology, fact)
    )


def attempts_made(instance: Instance) -> int:
    """Return how many attempts the runs known to have ended have taken together."""
    return sum([fact.attempts for fact in instance.runs.values()])


def is_overspent(topology: Topology, instance: Instance) -> bool:
    """Return whether the runs have taken more attempts than the plan allows to all of them."""
    return 0 < topology.plan.attempts < attempts_made(instance)


def alarmed(topology: Topology, instance: Instance) -> Instance:
    """Return the instance with the number of its attempts noted, once they have reached four fifths of the limit."""
    limit = topology.plan.attempts
    if not limit or instance.attempts_alarm:
        return instance
    made = attempts_made(instance)
    if made * 5 < limit * 4:
        return instance
    return replace(instance, attempts_alarm=made)


def pivot_has_run(topology: Topology, instance: Instance) -> bool:
    """Return whether the records show that the pivot is done."""
    pivot = topology.pivot
    return pivot is not None and any(
        fact.step == pivot.name and fact.status is RunStatus.DONE for fact in instance.runs.values()
    )
