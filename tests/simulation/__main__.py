"""Run the simulation from the command line; see `python -m tests.simulation --help`."""

from __future__ import annotations

import argparse
import sys
import time

from saga._core.flow import flow_lines
from tests.simulation.fleet import run
from tests.simulation.rules import production
from tests.simulation.schedule import kit_of, shrunk, simulate


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def replay(seed: int, *, whole: bool) -> int:
    """Print the history of one schedule, without the faults its violation does not need."""
    rules, kit = production(), kit_of(seed)
    say(f"seed {seed}, plan:")
    for line in flow_lines(kit.plan):
        say(f"    {line}")
    for step in kit.plan.steps:
        say(
            f"    {step.name}: {step.kind}, {step.effects}, undone {step.undoing}, emits {', '.join(step.emits) or '-'}"
        )
    found = simulate(seed, rules)
    hidden = frozenset[int]() if whole or not found.violation else shrunk(seed, rules)
    history: list[str] = []
    ran = simulate(seed, rules, hidden=hidden, history=history)
    faults = [fault.name.lower() for at, fault in enumerate(ran.struck) if at not in hidden]
    say(f"faults ({len(hidden)} more are not needed): {', '.join(faults) or 'none'}")
    for line in history:
        say(line)
    say(ran.violation or "every invariant held")
    return 1 if ran.violation else 0


def main() -> int:
    """Run schedules until the time is over and end with one line of numbers."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to run")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; another one each time if not given")
    parser.add_argument("--processes", type=int, default=0, help="how many processes; all cores if not given")
    parser.add_argument("--counts", action="store_true", help="print how often what has happened")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the history of one schedule, made smaller")
    parser.add_argument("--whole", action="store_true", help="with --replay: keep every fault")
    given = parser.parse_args()
    if given.replay is not None:
        return replay(given.replay, whole=given.whole)
    seed = given.seed if given.seed is not None else time.time_ns() // 1_000_000_000 * 1_000_000
    tally = run(seed=seed, processes=given.processes, seconds=given.seconds)
    if given.counts:
        for what, times in sorted(tally.counts.items(), key=lambda entry: -entry[1]):
            say(f"{times:10} {what}")
    for failed, violation in sorted(tally.violations.items()):
        say(f"seed {failed}: {violation}\n    python -m tests.simulation --replay {failed}")
    say(str(tally))
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
