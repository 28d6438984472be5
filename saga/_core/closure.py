"""Answer the questions about one saga's records: what is owed, what stands, what has to be undone."""

from __future__ import annotations

from collections.abc import Iterable

from saga._core.bodies import RunFact
from saga._core.instance import Answer, Instance, UndoStep
from saga._core.plan import Topology
from saga._core.words import Cause, Effects, RunKey, RunStatus


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


def cannot_complete(topology: Topology, instance: Instance) -> bool:
    """Return whether something proves that the saga cannot complete any more."""
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


def is_compensated(topology: Topology, instance: Instance) -> bool:
    """Return whether every service has closed and every run that needed it is undone."""
    if any(instance.answers.get(service) is not Answer.CLOSED for service in topology.services):
        return False
    if not cannot_complete(topology, instance):
        return False
    return all(
        instance.undos.get(fact.key) is UndoStep.DONE for fact in instance.runs.values() if needs_undo(topology, fact)
    )


def pivot_has_run(topology: Topology, instance: Instance) -> bool:
    """Return whether the records show that the pivot is done."""
    pivot = topology.pivot
    return pivot is not None and any(
        fact.step == pivot.name and fact.status is RunStatus.DONE for fact in instance.runs.values()
    )
