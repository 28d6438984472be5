"""Say in a few lines what a run came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from saga import Ending
from tests.chaos.chaos import Report
from tests.chaos.facts import Facts

SHOWN = 40


def lines_of(report: Report) -> list[str]:
    """Return the ledger of a run, then its problems."""
    options, receipts = report.options, report.receipts
    seconds = report.chaos_seconds + report.end_seconds
    what = (
        f"{len(receipts.orders)} sagas, {sum(report.kills.values())} kills, {_counts(report.crashes) or 'no'} crashes"
    )
    when = f"in {report.chaos_seconds:.0f} s, ended {report.end_seconds:.0f} s later"
    repeated = f"{receipts.repeated} placed twice, {receipts.conflicts} keys misused"
    lines = [f"seed {options.seed}: {what} {when}"]
    if report.facts is not None:
        lines += endings(report.facts)
    lines += [
        f"kills: {_counts(report.kills)}; ended by themselves: {_counts(report.falls) or 'none'}",
        f"starts without an answer repeated {receipts.unknown} times; {repeated}",
        f"{len(receipts.orders) / max(seconds, 0.001):.1f} sagas/s over all",
    ]
    if not report.problems:
        return [*lines, "0 lost, 0 doubled, 0 stuck; money, goods and the gateway's books add up"]
    more = len(report.problems) - SHOWN
    lines += [f"PROBLEM: {problem}" for problem in report.problems[:SHOWN]]
    lines += [f"… and {more} more problems"] if more > 0 else []
    return [*lines, f"{len(report.problems)} problems; the logs of all processes are in {options.logs}"]


def endings(facts: Facts) -> list[str]:
    """Return the counts per ending and per reason."""
    counted = Counter(start.ending.value if start.ending else "open" for start in facts.starts)
    undone = [start for start in facts.starts if start.ending is Ending.COMPENSATED]
    lines = [f"endings: {_counts(counted)} ({len(undone) / max(1, len(facts.starts)):.0%} undone)"]
    reasons = Counter(start.reason for start in undone)
    return [*lines, f"undone because of: {_counts(reasons) or 'nothing'}"]


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
