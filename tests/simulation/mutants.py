"""Take out one guard after another, and see how soon the simulation notices."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from tests.simulation.fleet import keep_garbage
from tests.simulation.killers import KILLERS
from tests.simulation.mutant import Mutant
from tests.simulation.mutant_list import MUTANTS
from tests.simulation.plans import SCHEDULES_OF_A_PLAN
from tests.simulation.rules import PatchDoesNotApply, mutated
from tests.simulation.schedule import simulate

MOST_SCHEDULES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Be how a mutant fared; `schedules` is 0 when nothing noticed it, else the last of them has the seed `seed`.

    `seconds` is the processor time it took.
    """

    guard: str
    schedules: int
    violation: str
    seed: int = -1
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the row of the table."""
        after = f"{self.schedules:6}" if self.schedules else " never"
        return f"{self.guard[:76]:76} {after}  {self.violation[:90]}"


def hunt(mutant: Mutant, *, afresh: bool = False) -> Killed:
    """Run schedules without a guard until one of them fails; unless `afresh`, first the one that failed last time."""
    began = time.process_time()
    try:
        rules = mutated(mutant.module, mutant.old, mutant.new)
    except PatchDoesNotApply:
        return Killed(guard=mutant.guard, schedules=0, violation=f"the text is gone from {mutant.module.__name__}")
    for number, seed in enumerate(_seeds(-1 if afresh else KILLERS.get(mutant.guard, -1)), 1):
        ran = simulate(seed, rules)
        if ran.violation:
            spent = time.process_time() - began
            return Killed(guard=mutant.guard, schedules=number, violation=ran.violation, seed=seed, seconds=spent)
    return Killed(guard=mutant.guard, schedules=0, violation="", seconds=time.process_time() - began)


def _seeds(known: int) -> Iterator[int]:
    if known >= 0:
        yield known
    for number in islice(count(), MOST_SCHEDULES):
        # Each plan once before any comes a second time: plans differ more than schedules.
        plan, again = number % 1_250, number // 1_250
        yield plan * SCHEDULES_OF_A_PLAN + again


def hunt_number(task: tuple[int, bool]) -> Killed:
    """Run schedules without the guard that has this place in the list."""
    keep_garbage()
    number, afresh = task
    return hunt(MUTANTS[number], afresh=afresh)


def hunt_all(processes: int = 0, *, afresh: bool = False) -> Iterator[Killed]:
    """Hunt every mutant, on all cores, and yield how each fared, in the order of the list."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        yield from pool.imap(hunt_number, [(number, afresh) for number in range(len(MUTANTS))], chunksize=1)


def write_killers(found: list[Killed]) -> None:
    """Write the table of seeds anew."""
    path = Path(__file__).with_name("killers.py")
    head = path.read_text().partition("KILLERS:")[0]
    rows = "".join(f'    "{killed.guard}": {killed.seed},\n' for killed in found if killed.schedules)
    path.write_text(f"{head}KILLERS: dict[str, int] = {{\n{rows}}}\n")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="keep the seeds that were found, for the tests to try first"
    )
    parser.add_argument("--processes", type=int, default=0, help="how many processes; all cores if not given")
    given = parser.parse_args()
    found: list[Killed] = []
    for killed in hunt_all(given.processes, afresh=True):
        found.append(killed)
        sys.stdout.write(f"{killed}\n")
        sys.stdout.flush()
    if given.keep:
        write_killers(found)
    dead = sum(bool(killed.schedules) for killed in found)
    sys.stdout.write(f"cpu_seconds={sum(killed.seconds for killed in found):.0f}\n")
    sys.stdout.write(f"killed={dead}/{len(found)}\n")
    return 0 if dead == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
