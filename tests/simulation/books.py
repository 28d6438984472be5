"""Keep the books of effects, independently of any run row, and say when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from saga._core.instance import Phase
from saga._core.plan import Topology, Undoing
from saga._core.words import Effects, StepKind, Takes

Place = tuple[str, str]
"""Step and branch."""

LIVE, UNDONE, REFUSED = "live", "undone", "refused"


class Violation(AssertionError):
    """Say which invariant does not hold."""


class Mark:
    """Be one entry: what a run did, what it emitted (`""`: nothing) and which runs made it run."""

    __slots__ = ("causes", "emitted", "fan_out", "generation", "place", "since", "standing")

    def __init__(self, place: Place, standing: str, emitted: str, causes: tuple[Place, ...]) -> None:
        """Write it down; `generation` and `since` are those of the key of an outside call, `fan_out` counts a list."""
        self.fan_out: int | None = None
        self.generation = 0
        self.since: datetime | None = None
        self.place = place
        self.standing = standing
        self.emitted = emitted
        self.causes = causes


class Books:
    """Hold what one saga has done in all databases and outside; every entry is checked as it is made."""

    __slots__ = ("_pivot", "_start", "_topology", "marks")

    def __init__(self, topology: Topology) -> None:
        """Start empty."""
        self._topology = topology
        self._start = (topology.plan.start, "")
        self._pivot = topology.pivot.name if topology.pivot else ""
        self.marks: dict[Place, Mark] = {}

    def happened(self, place: Place, emitted: str, causes: tuple[Place, ...], *, fan_out: int | None = None) -> None:
        """Write down that a run took effect; once is all it may."""
        if place in self.marks:
            raise Violation(f"effects once: {_named(place)} took effect twice")
        step = self._topology.steps[place[0]]
        # A call with nothing to undo is not waited for: it may arrive while the saga is being undone.
        if step.effects is Effects.LOCAL or step.undoing is not Undoing.NOTHING:
            for cause in causes:
                mark = self.marks.get(cause)
                if not self._comes_from_outside(cause) and (mark is None or mark.standing != LIVE):
                    raise Violation(
                        f"causes stand: {_named(place)} ran though {_named(cause)}, its cause, does not stand"
                    )
        mark = self.marks[place] = Mark(place, LIVE, emitted, causes)
        mark.fan_out = fan_out

    def _comes_from_outside(self, place: Place) -> bool:
        return place == self._start or self._topology.steps[place[0]].kind is StepKind.RECEIVE

    def was_refused(self, place: Place, refusal: str) -> None:
        """Write down that the outside has refused a call; it answers the same from now on."""
        self.marks[place] = Mark(place, REFUSED, refusal, ())

    def undone(self, place: Place, *, repeatable: bool) -> None:
        """Write down that a run's effect was taken back, after those it had caused."""
        mark = self.marks.get(place)
        if mark is None or mark.standing == REFUSED:
            raise Violation(f"undo what happened: {_named(place)} was compensated without having taken effect")
        if mark.standing == UNDONE:
            if repeatable:
                return
            raise Violation(f"undo once: {_named(place)} was compensated twice")
        if place[0] == self._pivot or any(cause[0] == self._pivot for cause in self._causes(mark)):
            raise Violation(f"only forward: {_named(place)} was undone: it is the pivot or was caused by it")
        for other in self.marks.values():
            if other.standing == LIVE and place in self._causes(other) and self._counts(other):
                raise Violation(f"reverse order: {_named(place)} was undone before {_named(other.place)}, its effect")
        mark.standing = UNDONE

    def undone_by_hand(self, place: Place) -> None:
        """Write down that a person has taken back what a run did."""
        mark = self.marks.get(place)
        if mark is not None and mark.standing == LIVE:
            mark.standing = UNDONE

    def _causes(self, mark: Mark) -> Iterator[Place]:
        """Yield the runs that made a run run, near and far."""
        for cause in mark.causes:
            yield cause
            known = self.marks.get(cause)
            if known is not None:
                yield from self._causes(known)

    def _counts(self, mark: Mark) -> bool:
        return self._topology.steps[mark.place[0]].undoing is not Undoing.NOTHING

    def check_end(self, phase: Phase) -> None:
        """Raise Violation unless the effects are those of a saga that has ended so."""
        if phase is Phase.COMPENSATED:
            for mark in self.marks.values():
                if mark.standing == LIVE and self._counts(mark):
                    raise Violation(f"nothing left: compensated, but left in effect: {_named(mark.place)}")
        elif phase is Phase.COMPLETED:
            self._check_completed()

    def _check_completed(self) -> None:
        live = {place for place, mark in self.marks.items() if mark.standing == LIVE}
        demanded: set[Place] = set()
        emitted: list[tuple[str, str, int | None]] = [(self._topology.plan.start_event, "", None)]
        while emitted:
            for place in self._demanded(*emitted.pop()):
                if place in demanded:
                    continue
                demanded.add(place)
                if place not in live:
                    raise Violation(f"all of it: completed, but not in effect: {_named(place)}")
                mark = self.marks[place]
                emitted.append((mark.emitted, place[1], mark.fan_out))
        if live != demanded:
            raise Violation(f"all of it: completed, but never demanded: {sorted(live - demanded)}")

    def _demanded(self, event: str, branch: str, fan_out: int | None) -> Iterator[Place]:
        """Yield the runs that an emission asks for; an empty list asks for those that gather its branches."""
        if fan_out == 0:
            for step in self._topology.plan.steps:
                if any(i.takes is Takes.EVERY and self._topology.scopes[i.event] == event for i in step.inputs):
                    yield (step.name, "")
            return
        branches = [branch] if fan_out is None else [f"{number}of{fan_out}" for number in range(1, fan_out + 1)]
        for step in self._topology.plan.steps:
            for taken in step.inputs:
                if taken.event == event:
                    yield from ((step.name, "" if taken.takes is Takes.EVERY else each) for each in branches)


def _named(place: Place) -> str:
    return f"{place[0]}/{place[1]}" if place[1] else place[0]
