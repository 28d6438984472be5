"""Index steps that may not be a plan yet: who emits what, what leads where, which runs exclude each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush

from saga._core.plan import PlanStep, scopes_of


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Be the steps of one saga version and its starts (name to event), before anything is known to fit."""

    saga: str
    version: int
    starts: Mapping[str, str]
    steps: tuple[PlanStep, ...]

    @cached_property
    def by_name(self) -> Mapping[str, PlanStep]:
        """Return steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def emitters(self) -> Mapping[str, tuple[str, ...]]:
        """Return who emits each event, starts included, sorted."""
        found: dict[str, list[str]] = {}
        for name, event in self.starts.items():
            found.setdefault(event, []).append(name)
        for step in self.steps:
            for event in step.emits:
                found.setdefault(event, []).append(step.name)
        return {event: tuple(sorted(names)) for event, names in sorted(found.items())}

    @cached_property
    def reacting(self) -> Mapping[str, tuple[str, ...]]:
        """Return who reacts to each event, sorted."""
        found: dict[str, list[str]] = {}
        for step in self.steps:
            for taken in step.inputs:
                found.setdefault(taken.event, []).append(step.name)
        return {event: tuple(sorted(names)) for event, names in found.items()}

    def children(self, name: str) -> tuple[str, ...]:
        """Return the steps that react to what the step or start `name` emits."""
        events = (self.starts[name],) if name in self.starts else self.by_name[name].emits
        return tuple(child for event in events for child in self.reacting.get(event, ()))

    def reached(self, first: Iterable[str]) -> frozenset[str]:
        """Return all steps reached from `first`, which count themselves."""
        found: set[str] = set()
        open_ends = list(first)
        while open_ends:
            name = open_ends.pop()
            if name not in found:
                found.add(name)
                open_ends.extend(self.children(name))
        return frozenset(found)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Return steps after all their causes, then by name; steps on or after a cycle are missing."""
        waiting = {
            step.name: sum(
                emitter in self.by_name for taken in step.inputs for emitter in self.emitters.get(taken.event, ())
            )
            for step in self.steps
        }
        ready = sorted(name for name, causes in waiting.items() if causes == 0)
        found: list[str] = []
        while ready:
            name = heappop(ready)
            found.append(name)
            for child in self.children(name):
                waiting[child] -= 1
                if waiting[child] == 0:
                    heappush(ready, child)
        return tuple(found)

    @cached_property
    def scopes(self) -> Mapping[str, str]:
        """Return the fan-out each event belongs to, `""` outside of one."""
        return scopes_of(next(iter(self.starts.values()), ""), self.steps)

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Return each step's place in the order."""
        return {name: number for number, name in enumerate(self.order)}

    def cycle(self) -> tuple[str, ...]:
        """Return the steps of one cycle, each followed by one it leads to; empty when there is none."""
        stuck = {name for name in self.by_name if name not in self.rank}
        if not stuck:
            return ()
        way = [min(stuck)]
        # Going from a stuck step to one of its stuck causes never ends, so it must meet itself.
        while True:
            taken = self.by_name[way[-1]].inputs
            cause = min(name for i in taken for name in self.emitters.get(i.event, ()) if name in stuck)
            if cause in way:
                return tuple(reversed(way[way.index(cause) :]))
            way.append(cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coexistence:
    """Answer whether two emissions can happen in one saga; the draft must be without cycles.

    Every step emits one of its alternatives. Two emissions can both happen iff there is a way to each
    from the start on which no step would have to choose twice. The step later in the order is never
    on the way to the earlier one, so its choice is free, and the question moves on to its causes.
    """

    draft: Draft
    _known: dict[frozenset[tuple[str, str]], bool] = field(default_factory=dict[frozenset[tuple[str, str]], bool])

    def both(self, one: tuple[str, str], other: tuple[str, str]) -> bool:
        """Return whether the emissions `one` and `other`, each (step or start, event), can both happen."""
        if one[0] == other[0]:
            return one[1] == other[1]
        pair = frozenset((one, other))
        if pair not in self._known:
            self._known[pair] = self._find(one, other)
        return self._known[pair]

    def _find(self, one: tuple[str, str], other: tuple[str, str]) -> bool:
        earlier, later = sorted((one, other), key=lambda emission: self.draft.rank.get(emission[0], -1))
        if later[0] in self.draft.starts:
            return True
        # Of a join each input is looked at alone, so that too many rather than too few pairs count as possible.
        for taken in self.draft.by_name[later[0]].inputs:
            emitters = self.draft.emitters.get(taken.event, ())
            if not any(self.both(earlier, (emitter, taken.event)) for emitter in emitters):
                return False
        return True
