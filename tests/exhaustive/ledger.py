"""Keep the books of effects, independently of any run row, and say when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from saga._core.instance import Phase
from saga._core.plan import Topology, Undoing
from saga._core.words import Effects


class Violation(AssertionError):
    """Say which invariant does not hold."""


class Standing(StrEnum):
    """Say what has become of a step's effect, in its database or at the gateway."""

    LIVE = "live"
    UNDONE = "undone"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Be one entry: what a step did, what it emitted (`""`: nothing) and which step made it run."""

    step: str
    standing: Standing
    emitted: str
    cause: str


Ledger = Mapping[str, Mark]


def _causes(ledger: Ledger, mark: Mark) -> Iterator[str]:
    """Yield the steps that made a step run, nearest first."""
    while mark.cause in ledger:
        yield mark.cause
        mark = ledger[mark.cause]


def check_change(topology: Topology, before: Ledger, after: Ledger) -> None:
    """Raise Violation unless what has changed was allowed to."""
    pivot = topology.pivot.name if topology.pivot else ""
    for name, mark in after.items():
        old = before.get(name)
        if old == mark:
            continue
        if mark.standing is Standing.LIVE:
            if old is not None:
                raise Violation(f"{name} took effect twice")
            cause = after.get(mark.cause)
            stands = mark.cause == topology.plan.start or (cause and cause.standing is Standing.LIVE)
            # A call with nothing to undo is not waited for: it may arrive while the saga is being undone.
            if not stands and (topology.steps[name].effects is Effects.LOCAL or _counts(topology, mark)):
                raise Violation(f"{name} ran though {mark.cause}, its cause, does not stand")
        if mark.standing is Standing.UNDONE:
            if name == pivot or pivot in _causes(after, mark):
                raise Violation(f"{name} was undone: it is the pivot or was caused by it")
            for other in after.values():
                if other.standing is Standing.LIVE and name in _causes(after, other) and _counts(topology, other):
                    raise Violation(f"{name} was undone before {other.step}, which it had caused")


def _counts(topology: Topology, mark: Mark) -> bool:
    return topology.steps[mark.step].undoing is not Undoing.NOTHING


def check_end(topology: Topology, phase: Phase, ledger: Ledger) -> None:
    """Raise Violation unless the effects are those of a saga that has ended so."""
    live = {mark.step: mark for mark in ledger.values() if mark.standing is Standing.LIVE}
    if phase is Phase.COMPENSATED:
        left = sorted(name for name, mark in live.items() if _counts(topology, mark))
        if left:
            raise Violation(f"compensated, but left in effect: {', '.join(left)}")
    if phase is Phase.COMPLETED:
        demanded: set[str] = set()
        events = [topology.plan.start_event]
        while events:
            for step in topology.reacting.get(events.pop(), ()):
                demanded.add(step.name)
                if step.name not in live:
                    raise Violation(f"completed, but not in effect: {step.name}")
                events.append(live[step.name].emitted)
        if live.keys() != demanded:
            raise Violation(f"completed, but never demanded: {sorted(live.keys() - demanded)}")
