"""Run many schedules, on every core there is."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

from tests.simulation.rules import production
from tests.simulation.schedule import simulate

BLOCK = 64
MOST_VIOLATIONS = 20


@dataclass(slots=True, kw_only=True)
class Tally:
    """Be what many schedules came to; `violations` are seeds and what they broke, `counts` how often what happened."""

    schedules: int = 0
    faults: int = 0
    violations: dict[int, str] = field(default_factory=dict[int, str])
    counts: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Return schedules a second, all cores together."""
        return self.schedules / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"schedules={self.schedules} faults={self.faults} violations={len(self.violations)} "
            f"per_second={self.per_second:.0f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Be the seeds of one process: every `processes`-th block after `seed`, until a number or a time is reached."""

    seed: int
    process: int
    processes: int
    schedules: int
    seconds: float

    def seeds(self) -> Iterator[int]:
        """Yield the seeds."""
        blocks = (self.seed + BLOCK * block for block in count(self.process, self.processes))
        return islice((seed for block in blocks for seed in range(block, block + BLOCK)), self.schedules)


def keep_garbage() -> None:
    """Collect seldom: a world is a circle of objects, and its whole memory is small."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def run_share(share: Share) -> Tally:
    """Run the schedules of one process."""
    keep_garbage()
    rules = production()
    tally = Tally()
    began = time.monotonic()
    for seed in share.seeds():
        if time.monotonic() - began > share.seconds or len(tally.violations) >= MOST_VIOLATIONS:
            break
        ran = simulate(seed, rules)
        tally.schedules += 1
        tally.faults += len(ran.struck)
        for what, times in ran.counts.items():
            tally.counts[what] += times
        if ran.violation:
            tally.violations[seed] = ran.violation
    tally.seconds = time.monotonic() - began
    return tally


def run(*, seed: int, processes: int = 0, schedules: int = 10**12, seconds: float = 1e9) -> Tally:
    """Run schedules from `seed` on until there are so many or the time is over; 0 processes are all cores."""
    processes = processes or os.cpu_count() or 1
    shares = [
        Share(seed=seed, process=at, processes=processes, schedules=-(-schedules // processes), seconds=seconds)
        for at in range(processes)
    ]
    if processes == 1:
        return run_share(shares[0])
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        tallies = pool.map(run_share, shares, chunksize=1)
    whole = Tally(seconds=max(tally.seconds for tally in tallies))
    for tally in tallies:
        whole.schedules += tally.schedules
        whole.faults += tally.faults
        whole.violations |= tally.violations
        whole.counts += tally.counts
    return whole
