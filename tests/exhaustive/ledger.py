"""Keep the books of effects, independently of any run row, and say when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from saga._core.instance import Phase
from saga._core.plan import Topology, Undoing
from saga._core.words import Effects, RunKey, Takes


class Violation(AssertionError):
    """Say which invariant does not hold."""


class Standing(StrEnum):
    """Say what has become of a step's effect, in its database or at the gateway."""

    LIVE = "live"
    UNDONE = "undone"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Be one entry: what a run did, what it emitted (`""`: nothing, `fan_out` times) and which runs made it run."""

    key: RunKey
    standing: Standing
    emitted: str
    causes: tuple[RunKey, ...]
    fan_out: int | None = None

    @property
    def step(self) -> str:
        """Return the step of the run."""
        return self.key.step


Ledger = Mapping[RunKey, Mark]


def _causes(ledger: Ledger, mark: Mark) -> Iterator[RunKey]:
    """Yield the runs that made a run happen, nearest first."""
    open_ends = [*mark.causes]
    while open_ends:
        cause = open_ends.pop(0)
        if cause in ledger:
            yield cause
            open_ends += ledger[cause].causes


def check_change(topology: Topology, before: Ledger, after: Ledger) -> None:
    """Raise Violation unless what has changed was allowed to."""
    pivot = topology.pivot.name if topology.pivot else ""
    for key, mark in after.items():
        old = before.get(key)
        if old == mark:
            continue
        name = mark.step
        if mark.standing is Standing.LIVE:
            if old is not None:
                raise Violation(f"{name} took effect twice")
            # A call with nothing to undo is not waited for: it may arrive while the saga is being undone.
            if topology.steps[name].effects is Effects.LOCAL or _counts(topology, mark):
                _check_causes(topology, after, mark)
        if mark.standing is Standing.UNDONE:
            if name == pivot or any(cause.step == pivot for cause in _causes(after, mark)):
                raise Violation(f"{name} was undone: it is the pivot or was caused by it")
            for other in after.values():
                if other.standing is Standing.LIVE and key in _causes(after, other) and _counts(topology, other):
                    raise Violation(f"{name} was undone before {other.step}, which it had caused")


def _check_causes(topology: Topology, ledger: Ledger, mark: Mark) -> None:
    """Raise Violation unless every event of a run has come, once from each branch, and its emitter stands."""
    for cause in mark.causes:
        known = ledger.get(cause)
        if cause.step != topology.plan.start and not (known and known.standing is Standing.LIVE):
            raise Violation(f"{mark.step} ran though {cause}, its cause, does not stand")
    step = topology.steps[mark.step]
    for taken in step.inputs:
        sources = [cause for cause in mark.causes if _emitted(topology, ledger, cause) == taken.event]
        fans = [ledger[cause].fan_out for cause in mark.causes if _emitted(topology, ledger, cause) in topology.gathers]
        wanted = 1
        if taken.takes is Takes.EVERY:
            counts = {int(cause.branch.partition("of")[2]) for cause in sources if cause.branch}
            wanted = 0 if 0 in fans and not sources else max(counts, default=1)
        if len(sources) != wanted:
            raise Violation(f"{mark.step} ran with {len(sources)} of {wanted} {taken.event}")


def _emitted(topology: Topology, ledger: Ledger, cause: RunKey) -> str:
    return topology.plan.start_event if cause.step == topology.plan.start else ledger[cause].emitted


def _counts(topology: Topology, mark: Mark) -> bool:
    return topology.steps[mark.step].undoing is not Undoing.NOTHING


def check_end(topology: Topology, phase: Phase, ledger: Ledger) -> None:
    """Raise Violation unless the effects are those of a saga that has ended so."""
    live = {key: mark for key, mark in ledger.items() if mark.standing is Standing.LIVE}
    if phase is Phase.COMPENSATED:
        left = sorted(str(key) for key, mark in live.items() if _counts(topology, mark))
        if left:
            raise Violation(f"compensated, but left in effect: {', '.join(left)}")
    if phase in (Phase.COMPLETED, Phase.READY):
        demanded: set[RunKey] = set()
        open_ends = list(_asked(topology, topology.plan.start_event, "", None))
        while open_ends:
            key = open_ends.pop()
            if key in demanded:
                continue
            demanded.add(key)
            if key not in live:
                raise Violation(f"completed, but not in effect: {key}")
            open_ends += _asked(topology, live[key].emitted, key.branch, live[key].fan_out)
        if live.keys() != demanded:
            raise Violation(f"completed, but never demanded: {sorted(live.keys() - demanded)}")


def _asked(topology: Topology, event: str, branch: str, fan_out: int | None) -> Iterator[RunKey]:
    """Yield what an emitted event asks for: said once more here, so that production is held against it."""
    branches = [branch] if fan_out is None else [f"{number}of{fan_out}" for number in range(1, fan_out + 1)]
    for step in topology.plan.steps:
        for taken in step.inputs:
            gathers = taken.takes is Takes.EVERY
            if taken.event == event:
                yield from (RunKey(step=step.name, branch="" if gathers else each) for each in branches)
            if gathers and fan_out == 0 and topology.scopes[taken.event] == event:
                yield RunKey(step=step.name)
