"""Add runs to a saga that goes forward: what nearly every record comes to, at a small part of what `decide` costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from saga._core.bodies import RunFact
from saga._core.closure import demanded, is_complete
from saga._core.coordinator import Decision, completed
from saga._core.deadlines import due_at
from saga._core.frozen import builder, changer, replace
from saga._core.instance import Instance, Phase
from saga._core.plan import Topology
from saga._core.words import Mark, RunKey, RunStatus

_decision, _with_runs = builder(Decision), changer(Instance, "runs")
_FORWARD: Final = (Phase.RUNNING, Phase.COMMITTED)


def added(topology: Topology, instance: Instance, facts: Sequence[RunFact], now: datetime) -> Decision | None:
    """Return what follows from these runs, None unless that is at most the end of the saga, or where it is nothing.

    It is what `learn` and `decide` come to for each of them in turn.
    """
    if not _only_watches(topology, instance):
        return None
    runs = {**instance.runs}
    for fact in facts:
        key = RunKey(fact.step, fact.branch)
        if fact.status is not RunStatus.DONE or key in runs or not _is_ordinary(topology, key):
            return None
        runs[key] = fact
    found = _with_runs(instance, runs=runs)
    # The saga has not been complete, or it would have ended: only a run whose followers are all there completes it.
    if not all(_lacks(topology, runs, fact) for fact in facts) and is_complete(topology, found):
        return completed(topology, found, now)
    if instance.due_at is None:
        # Otherwise nothing it is made of has changed.
        found = replace(found, due_at=due_at(topology, found))
    return _decision(instance=found, effects=())


def _only_watches(topology: Topology, instance: Instance) -> bool:
    return (
        topology.simple
        and instance.phase in _FORWARD
        and instance.cause is None
        and instance.stuck is None
        and instance.mark is Mark.FREE
        and not instance.undos
        and not instance.doubts
    )


def _is_ordinary(topology: Topology, key: RunKey) -> bool:
    """Return whether a run is one of the plan's, and not the pivot: that takes the saga into another phase."""
    if key.step not in topology.steps:
        return key == topology.start
    return topology.pivot is None or topology.pivot.name != key.step


def _lacks(topology: Topology, runs: Mapping[RunKey, RunFact], fact: RunFact) -> bool:
    """Return whether a run asks for one that is not known."""
    for key in demanded(topology, fact):  # noqa: SIM110 - a generator costs more than it goes over
        if key not in runs:
            return True
    return False
