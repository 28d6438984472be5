"""Turn the facts that `saga doctor` has read into findings: how bad, what, and the command that mends it; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from saga._core.doctor.brokers import broker_findings
from saga._core.doctor.databases import database_findings
from saga._core.doctor.facts import Facts
from saga._core.doctor.findings import Code, Found, Limits, Severity
from saga._core.doctor.fleets import fleet_findings, plan_findings
from saga._core.frozen import replace
from saga._core.instance import ENDED

__all__ = ["Code", "Found", "Limits", "Severity", "diagnose", "open_sagas"]

_UNKNOWN = {"TARGET": "TARGET", "TRANSPORT": "kafka://HOST:PORT", "STORE": "URL"}
_ORDER = (Severity.UNAVAILABLE, Severity.WRONG, Severity.RISK)
_ENDED = frozenset(phase.value for phase in ENDED)


def diagnose(facts: Facts, limits: Limits | None = None) -> tuple[Found, ...]:
    """Return everything that is wrong, worst first, each once; empty for a healthy fleet."""
    found = dict.fromkeys(_filled(one, facts) for one in _findings(facts, limits or Limits()))
    return tuple(sorted(found, key=lambda one: _ORDER.index(one.severity)))


def open_sagas(facts: Facts) -> int:
    """Return how many sagas have not ended, as far as a coordinator's database was looked at."""
    return sum(count.sagas for one in facts.databases for count in one.counts if count.phase not in _ENDED)


def _filled(found: Found, facts: Facts) -> Found:
    """Return a finding whose command names what is known instead of words in its place."""
    stores = [one.store for one in facts.databases if "coordinator" in one.components]
    known = {"TARGET": facts.targets, "TRANSPORT": facts.transport, "STORE": stores[0] if stores else ""}
    mend = re.sub(r"SERVICE\[(.*?)\]", lambda named: _target(named[1], facts), found.mend)
    for word, value in known.items():
        parts = re.split(rf"(?<= ){word}(?=[ ;]|$)", mend)
        mend = (value or _UNKNOWN[word]).join(parts)
    return found if mend == found.mend else replace(found, mend=mend)


def _target(service: str, facts: Facts) -> str:
    return facts.runs.get(service) or f"'MODULE:<the attribute of {service}>'"


def _findings(facts: Facts, limits: Limits) -> Iterator[Found]:
    for database in facts.databases:
        yield from database_findings(database, limits, facts.longest_step_seconds)
    if facts.broker is not None:
        yield from broker_findings(facts.broker, limits, open_sagas(facts))
    if facts.fleet is not None:
        yield from fleet_findings(facts.fleet, open_sagas(facts))
    yield from plan_findings(facts.plans)
