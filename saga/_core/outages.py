"""Put together what the messages on `saga.breakers` say of each dependency: its verdict, since when, who calls it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from saga._core.breaker import Phase
from saga._core.fleet import CallReport, FleetVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyState:
    """Be what the fleet says of one dependency now.

    A verdict that is over says nothing: then the phase is closed, and each process goes by its own breaker. `since` is
    about when the phase began, as far as the topic still tells, `until` when the verdict is over unless it is repeated.
    `reports` are the newest of each replica, newest first.
    """

    dependency: str
    phase: Phase = Phase.CLOSED
    share: int = 100
    since: datetime | None = None
    until: datetime | None = None
    reports: tuple[CallReport, ...] = ()


@dataclass(slots=True)
class _Heard:
    verdict: FleetVerdict | None = None
    since: datetime | None = None
    last_report_at: datetime | None = None
    reports: dict[tuple[str, str], CallReport] = field(default_factory=dict[tuple[str, str], CallReport])


def dependencies(said: Iterable[CallReport | FleetVerdict], now: datetime) -> tuple[DependencyState, ...]:
    """Return every dependency that is spoken of, by name, from messages in the order in which they were sent."""
    heard: dict[str, _Heard] = {}
    for each in said:
        known = heard.setdefault(each.dependency, _Heard())
        if isinstance(each, CallReport):
            known.reports[(each.service, each.slot)] = each
            known.last_report_at = each.at
            continue
        if known.verdict is None or known.verdict.phase is not each.phase:
            # A verdict does not say when it was made; it follows on a report of the last second.
            known.since = known.last_report_at
        known.verdict = each
    return tuple(_state(name, known, now) for name, known in sorted(heard.items()))


def _state(name: str, known: _Heard, now: datetime) -> DependencyState:
    reports = tuple(sorted(known.reports.values(), key=lambda report: report.at, reverse=True))
    verdict = known.verdict
    if verdict is None or verdict.valid_until <= now:
        return DependencyState(dependency=name, reports=reports)
    return DependencyState(
        dependency=name,
        phase=verdict.phase,
        share=verdict.share,
        since=known.since,
        until=verdict.valid_until,
        reports=reports,
    )
