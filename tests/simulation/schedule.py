"""Run the schedule of a seed, and make it smaller when it fails."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tests.simulation.books import Violation
from tests.simulation.chance import Chance, Fault
from tests.simulation.plans import SCHEDULES_OF_A_PLAN, Kit, kit
from tests.simulation.rules import Rules
from tests.simulation.world import World

MOST_RUNS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Be what a schedule came to; `violation` is empty when every invariant held.

    `struck` are the faults in the order in which they came up, also those that were taken back.
    """

    violation: str
    counts: dict[str, int]
    struck: tuple[Fault, ...]
    tasks: int

    @property
    def invariant(self) -> str:
        """Return the invariant that does not hold."""
        return self.violation.partition(":")[0]


def kit_of(seed: int) -> Kit:
    """Return the plan of a seed."""
    return kit(seed // SCHEDULES_OF_A_PLAN)


def simulate(seed: int, rules: Rules, *, hidden: Collection[int] = (), history: list[str] | None = None) -> Ran:
    """Run the schedule of a seed under `rules`, without the faults at the places in `hidden`."""
    chance = Chance(seed, hidden)
    sagas = 2 if chance.random() < 0.12 else 1
    world = World(chance, rules, kit_of(seed), sagas=sagas, history=history)
    violation = ""
    try:
        world.run()
    except Violation as found:
        violation = str(found)
    except Exception as error:  # noqa: BLE001 - a decision that raises is a violation of its own
        violation = f"raises: {type(error).__name__}: {error}"
    return Ran(violation=violation, counts=world.counts, struck=tuple(chance.struck), tasks=world.tasks)


def shrunk(seed: int, rules: Rules) -> frozenset[int]:
    """Return the places of the faults that the violation of a seed does not need."""
    wanted = simulate(seed, rules)
    hidden: frozenset[int] = frozenset()
    runs = 0
    smaller = True
    while smaller and runs < MOST_RUNS:
        smaller = False
        struck = simulate(seed, rules, hidden=hidden).struck
        kinds = [frozenset(at for at, fault in enumerate(struck) if fault is kind) for kind in dict.fromkeys(struck)]
        for group in [*kinds, *(frozenset({at}) for at in range(len(struck)))]:
            if group <= hidden:
                continue
            runs += 1
            if simulate(seed, rules, hidden=hidden | group).invariant == wanted.invariant:
                hidden |= group
                smaller = True
    return hidden
