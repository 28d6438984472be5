"""Take out one guard after another, and see how soon the simulation notices."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from tests.simulation.fleet import keep_garbage
from tests.simulation.mutant import Mutant
from tests.simulation.mutant_list import MUTANTS
from tests.simulation.plans import SCHEDULES_OF_A_PLAN
from tests.simulation.rules import PatchDoesNotApply, mutated
from tests.simulation.schedule import simulate

MOST_SCHEDULES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Be how a mutant fared; `schedules` is 0 when nothing noticed it."""

    guard: str
    schedules: int
    violation: str

    def __str__(self) -> str:
        """Return the row of the table."""
        after = f"{self.schedules:6}" if self.schedules else " never"
        return f"{self.guard[:76]:76} {after}  {self.violation[:90]}"


def hunt(mutant: Mutant) -> Killed:
    """Run schedules without a guard until one of them fails."""
    try:
        rules = mutated(mutant.module, mutant.old, mutant.new)
    except PatchDoesNotApply:
        return Killed(guard=mutant.guard, schedules=0, violation=f"the text is gone from {mutant.module.__name__}")
    for number in islice(count(), MOST_SCHEDULES):
        # Each plan once before any comes a second time: plans differ more than schedules.
        plan, again = number % 1_250, number // 1_250
        ran = simulate(plan * SCHEDULES_OF_A_PLAN + again, rules)
        if ran.violation:
            return Killed(guard=mutant.guard, schedules=number + 1, violation=ran.violation)
    return Killed(guard=mutant.guard, schedules=0, violation="")


def hunt_number(number: int) -> Killed:
    """Run schedules without the guard that has this place in the list."""
    keep_garbage()
    return hunt(MUTANTS[number])


def hunt_all(processes: int = 0) -> Iterator[Killed]:
    """Hunt every mutant, on all cores, and yield how each fared, in the order of the list."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        yield from pool.imap(hunt_number, range(len(MUTANTS)), chunksize=1)


def main() -> int:
    """Print the table."""
    found: list[Killed] = []
    for killed in hunt_all():
        found.append(killed)
        sys.stdout.write(f"{killed}\n")
        sys.stdout.flush()
    dead = sum(bool(killed.schedules) for killed in found)
    sys.stdout.write(f"killed={dead}/{len(found)}\n")
    return 0 if dead == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
