"""List the guards of fan-outs, joins and child sagas."""

from __future__ import annotations

from saga._core import children, closure, coordinator, gathering, participant
from tests.exhaustive import scenarios as s
from tests.exhaustive.mutant import mutant

SHAPE_MUTANTS = (
    mutant(
        "a gather waits for every branch",
        gathering,
        "len(branches) == count",
        "len(branches) >= 1",
        s.FAN_OUT,
    ),
    mutant(
        "a join waits for every event",
        gathering,
        "all((_has(taken",
        "any((_has(taken",
        s.JOIN,
    ),
    mutant(
        "an empty fan-out completes its gather",
        gathering,
        "EMPTY in branches or ",
        "",
        s.FAN_OUT,
    ),
    mutant(
        "a join that waits is no run yet",
        participant,
        "    if run is not None and run.status is not RunStatus.WAITING:\n",
        "    if run is not None:\n",
        s.JOIN,
    ),
    mutant(
        "an empty fan-out asks for its gather",
        closure,
        "if fact.fan_out == 0:",
        "if False:",
        s.FAN_OUT,
    ),
    mutant(
        "an empty fan-out goes to its gather",
        closure,
        "topology.gathers.get(event, ()) if branch == EMPTY else ",
        "",
        s.FAN_OUT,
    ),
    mutant(
        "a gather is asked for once, outside of the branches",
        closure,
        "if gathers(follower, event):",
        "if False:",
        s.FAN_OUT,
    ),
    mutant(
        "a fan-out asks for every branch",
        closure,
        "branches_of(fact.fan_out)",
        "branches_of(fact.fan_out)[:1]",
        s.FAN_OUT_THAT_NOBODY_GATHERS,
    ),
    mutant(
        "a child that is open may have an effect",
        closure,
        "step.effects is not Effects.LOCAL and",
        "step.effects is Effects.EXTERNAL and",
        s.PARENT,
    ),
    mutant(
        "a child that has completed is undone with its parent",
        participant,
        "run.status in (RunStatus.INTENT, RunStatus.DONE)",
        "run.status is RunStatus.INTENT",
        s.PARENT,
    ),
    mutant(
        "the undo of a child is answered when the child is undone",
        children,
        "        if outcome.ending is not Ending.COMPENSATED:\n            return Turn()\n",
        "",
        s.PARENT,
    ),
    mutant(
        "a child called back is undone although everything has run",
        coordinator,
        "return instance.cause is Cause.CANCELLED and is_child(topology, instance)",
        "return False",
        s.CHILD,
    ),
    mutant(
        "a child that has completed late can be called back too",
        coordinator,
        "phase=Phase.READY, cause=None, detail=''",
        "phase=Phase.READY",
        s.LATE_CHILD,
    ),
    mutant(
        "a child that has completed can still be called back",
        coordinator,
        "return replace(ready, phase=Phase.READY, cause=None, detail='', ended_at=None)",
        "return ready",
        s.CHILD,
    ),
)
