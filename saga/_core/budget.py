"""Reckon with a saga's deadline: when it is, how long the way there takes, whether it is still worth a start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from saga._core.instance import Instance
from saga._core.plan import PlanStep, Topology
from saga._core.words import RunStatus

SAMPLE_CAP = 64
SAMPLES_NEEDED = 16
SAMPLE_EVERY = timedelta(seconds=1)
VALID_FOR = timedelta(minutes=10)

Paces = Mapping[str, float]
"""The seconds a step takes when it is quick, from the end of its last cause to its own, by its name."""


def deadline_of(topology: Topology, step: str, expires_at: datetime) -> datetime | None:
    """Return when the saga is closed if its pivot, or all of it, has not run; None for a step after the pivot.

    Whatever runs after the pivot has no deadline: the timeout is cleared once the pivot has run.
    """
    if topology.pivot is not None and step in topology.after[topology.pivot.name]:
        return None
    return expires_at - topology.forward_window


# --- the way ahead -----------------------------------------------------------------------------------------------


def seconds_ahead(topology: Topology, step: str, paces: Paces) -> float:
    """Return the least time from the end of a step until its saga has no deadline any more.

    That is when the pivot has run, or all steps where there is none. Of several alternatives the quickest counts, of
    steps side by side the slowest. What nothing is known of takes no time, but for the delay it declares. A step
    that does not lead to the pivot has nothing ahead.
    """
    known: dict[str, float] = {}

    def ahead(name: str) -> float:
        if name not in known:
            taken = topology.steps[name]
            ways = [side_by_side(event) for event in taken.emits] + [0.0] * taken.ends
            known[name] = min(ways, default=0.0)
        return known[name]

    def side_by_side(event: str) -> float:
        return max((whole(follower) for follower in topology.reacting.get(event, ())), default=0.0)

    def whole(follower: PlanStep) -> float:
        if not _leads(topology, follower.name):
            return 0.0
        own = max(paces.get(follower.name, 0.0), follower.delay_ms / 1000)
        is_pivot = topology.pivot is not None and follower.name == topology.pivot.name
        return own if is_pivot else own + ahead(follower.name)

    return ahead(step) if _leads(topology, step) else 0.0


def _leads(topology: Topology, step: str) -> bool:
    pivot = topology.pivot
    return pivot is None or step == pivot.name or pivot.name in topology.after[step]


def turned_down(topology: Topology, step: str, paces: Paces, expires_at: datetime, now: datetime) -> str:
    """Return why a step is not worth starting any more, "" while it is."""
    deadline = deadline_of(topology, step, expires_at)
    if deadline is None or not _leads(topology, step):
        return ""
    left, needed = (deadline - now).total_seconds(), seconds_ahead(topology, step, paces)
    if left >= needed and left > 0:
        return ""
    return f"turned down early: the remaining path takes about {needed:.3g} s and {max(0.0, left):.3g} s are left"


# --- what is learned ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Hold how long the last runs of one step took, one a second at most, and when the newest was taken."""

    seconds: tuple[float, ...] = ()
    at: datetime

    @property
    def pace(self) -> float | None:
        """Return the time of a quick run, None before enough are known: a tenth of the runs are quicker."""
        if len(self.seconds) < SAMPLES_NEEDED:
            return None
        return sorted(self.seconds)[len(self.seconds) // 10]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Hold the samples of the steps of one plan."""

    samples: Mapping[str, Sample] = field(default_factory=dict[str, Sample])

    def paces(self, now: datetime) -> dict[str, float]:
        """Return the paces that are known and not too old."""
        fresh = {name: sample.pace for name, sample in self.samples.items() if now - sample.at < VALID_FOR}
        return {name: pace for name, pace in fresh.items() if pace is not None}


def learned(topology: Topology, history: History, before: Instance, after: Instance, now: datetime) -> History:
    """Return the history with the runs that `after` knows to be done and `before` did not."""
    samples: dict[str, Sample] = {}
    for key, fact in after.runs.items() if after.runs is not before.runs else ():
        known = before.runs.get(key)
        if known is fact:
            continue
        if fact.status is not RunStatus.DONE or (known is not None and known.status is RunStatus.DONE):
            continue
        sample = samples.get(fact.step) or history.samples.get(fact.step)
        if sample is not None and len(sample.seconds) >= SAMPLES_NEEDED and now - sample.at < SAMPLE_EVERY:
            continue
        causes = [after.runs[cause].at for cause in fact.causes if cause in after.runs]
        if fact.step not in topology.steps or not causes:
            continue
        took = max(0.0, (fact.at - max(causes)).total_seconds())
        if sample is None:
            samples[fact.step] = Sample(seconds=(took,), at=now)
        else:
            samples[fact.step] = Sample(seconds=(*sample.seconds, took)[-SAMPLE_CAP:], at=now)
    return History(samples={**history.samples, **samples}) if samples else history
