"""Walk through every reachable state of a world, breadth first, and find the end from each of them."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

from tests.exhaustive.ledger import Violation
from tests.exhaustive.rules import Rules
from tests.exhaustive.scenarios import Bounds, Scenario
from tests.exhaustive.world import State, World


@dataclass(slots=True, kw_only=True)
class Explored:
    """Be what an exploration has seen; `violation` is empty when every invariant holds everywhere."""

    scenario: str
    bounds: Bounds
    states: int = 0
    transitions: int = 0
    ends: int = 0
    seconds: float = 0.0
    violation: str = ""
    trace: tuple[str, ...] = ()
    seen: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        """Say it in one line, and how it came to a violation in more."""
        line = (
            f"{self.scenario} ({_spelled(self.bounds)}): {self.states:,} states, {self.transitions:,} transitions, "
            f"{self.ends:,} ends, {self.seconds:.1f} s"
        )
        if not self.violation:
            return line
        return "\n".join([f"{line}: {self.violation}", *(f"    {at}. {what}" for at, what in enumerate(self.trace, 1))])


def _spelled(bounds: Bounds) -> str:
    return ", ".join(f"{count} {name}" for name, count in bounds._asdict().items() if count) or "nothing odd"


class Exploration:
    """Explore one scenario under one set of rules."""

    def __init__(self, scenario: Scenario, bounds: Bounds, rules: Rules) -> None:
        """Start at the first state."""
        self._world = World(scenario, rules)
        self._states: list[State] = [self._world.first(bounds)]
        self._numbers: dict[State, int] = {self._states[0]: 0}
        self._parents = array("q", [-1])
        self._labels: list[str] = [""]
        self._sources, self._targets = array("q"), array("q")
        self._found = Explored(scenario=scenario.name, bounds=bounds)

    def run(self) -> Explored:
        """Return what there is; stops at the first violation."""
        began = time.process_time()
        at = 0
        try:
            while at < len(self._states):
                self._visit(at)
                at += 1
            at = self._endless()
        except Violation as violation:
            self._blame(at, str(violation))
        else:
            if at >= 0:
                self._blame(at, "from here no end can be reached")
        found = self._found
        found.states, found.transitions = len(self._states), len(self._targets)
        found.seen.update(self._world.dropped)
        found.seconds = time.process_time() - began
        return found

    def _visit(self, at: int) -> None:
        quiet = True
        for label, state, optional in self._world.following(self._states[at]):
            number = self._numbers.get(state)
            if number is None:
                number = self._numbers[state] = len(self._states)
                self._states.append(state)
                self._parents.append(at)
                self._labels.append(label)
            self._sources.append(at)
            self._targets.append(number)
            self._found.seen[label] += 1
            quiet = quiet and (optional or number == at)
        if quiet:
            self._found.ends += 1
            if not self._world.has_ended(self._states[at]):
                phase = self._world.instance(self._states[at].instance).phase
                raise Violation(f"nothing is left to happen and the saga is {phase.value}")

    def _endless(self) -> int:
        """Return a state from which no end can be reached, -1 when there is none."""
        arrivals = _grouped(self._targets, self._sources, len(self._states))
        reached = bytearray(len(self._states))
        queue = [at for at, state in enumerate(self._states) if self._world.has_ended(state)]
        for at in queue:
            reached[at] = 1
        while queue:
            for source in arrivals(queue.pop()):
                if not reached[source]:
                    reached[source] = 1
                    queue.append(source)
        return reached.find(0)

    def _blame(self, at: int, violation: str) -> None:
        self._found.violation = violation
        trace: list[str] = []
        while at > 0:
            trace.append(self._labels[at])
            at = self._parents[at]
        self._found.trace = tuple(reversed(trace))


class _grouped:  # noqa: N801 called like a function
    """Look up the values of a key, packed: a dictionary of lists would not fit."""

    def __init__(self, keys: array[int], values: array[int], count: int) -> None:
        self._starts = array("q", bytes(8 * (count + 1)))
        for key in keys:
            self._starts[key + 1] += 1
        for at in range(count):
            self._starts[at + 1] += self._starts[at]
        filled = array("q", self._starts)
        self._values = array("q", bytes(8 * len(values)))
        for key, value in zip(keys, values, strict=True):
            self._values[filled[key]] = value
            filled[key] += 1

    def __call__(self, key: int) -> array[int]:
        return self._values[self._starts[key] : self._starts[key + 1]]


def explore(scenario: Scenario, bounds: Bounds, rules: Rules) -> Explored:
    """Return what an exploration of `scenario` within `bounds` under `rules` finds."""
    return Exploration(scenario, bounds, rules).run()
