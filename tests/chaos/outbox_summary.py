"""Say how an outbox run is to be, and in a few lines what it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.outbox_ages import Ages
from tests.chaos.outbox_audit import Found, duplicates

SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Say how much goes wrong; `gap_seconds` is the mean time between two kills, `end_seconds` the time to drain."""

    kills: int = 500
    restarts: int = 50
    broker_kills: int = 30
    freezes: int = 20
    seed: int = 1
    gap_seconds: float = 1.6
    end_seconds: float = 240.0

    @property
    def seconds(self) -> float:
        """Return how long the chaos lasts."""
        return self.kills * self.gap_seconds


@dataclass(slots=True, kw_only=True)
class Report:
    """Hold what came of a run; `problems` is empty when all is well."""

    options: Options
    done: Counter[str] = field(default_factory=Counter[str])
    falls: Counter[str] = field(default_factory=Counter[str])
    undone: Counter[str] = field(default_factory=Counter[str])
    chaos_seconds: float = 0.0
    drain_seconds: float = 0.0
    ages: Ages | None = None
    found: Found | None = None
    problems: list[str] = field(default_factory=list[str])


def lines_of(report: Report) -> list[str]:
    """Say in a few lines what a run came to."""
    options, ages, found = report.options, report.ages, report.found
    lines = [f"seed {options.seed}: {_counts(report.done)} in {report.chaos_seconds:.0f} s"]
    if found is not None:
        keyed = sum(each.key is not None for each in found.written)
        endings = Counter(order.ending or "open" for order in found.orders)
        events = f"{len(found.written)} events ({keyed} with a key)"
        lines += [f"{events}, {len(found.sent)} messages, {duplicates(found)} of them again; {_counts(report.undone)}"]
        lines += [f"{len(found.orders)} sagas: {_counts(endings)}"]
    if ages is not None:
        looks = f"{ages.undisturbed} of {ages.samples} looks"
        waited = f"{ages.waited_keyed:.1f} s with a key, {ages.waited_swept:.1f} s without"
        lines += [f"oldest row {ages.oldest:.1f} s, at most {ages.most} rows; nothing in the way ({looks}): {waited}"]
    lines += [f"drained within {report.drain_seconds:.1f} s"]
    lines += [f"ended by themselves: {_counts(report.falls)}"] if report.falls else []
    if not report.problems:
        return [*lines, "0 lost, 0 made up, 0 out of order, 0 handled twice, 0 left behind"]
    return [*lines, f"{len(report.problems)} problems:", *(f"PROBLEM: {each}" for each in report.problems[:SHOWN])]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
