"""Tell in spans what became of a saga that has ended, from what its coordinator has stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from saga._core.bodies import RunFact
from saga._core.ids import run_path
from saga._core.instance import Instance, Phase, UndoStep
from saga._core.plan import Topology
from saga._core.words import RunStatus

LONG_WAIT: Final = timedelta(minutes=1)
"""After a longer one a new trace begins, with a link to the one before: nobody reads a trace of days."""
REBUILT_RUNS: Final = 500
"""How many runs at most are told of a saga of which nothing was recorded while it went forward."""
UNKNOWN_ERROR: Final = "_OTHER"
"""What OpenTelemetry calls an error whose type is not known: a record has only its text, which may quote a payload."""

_SAMPLED = frozenset("13579bdf")
_TRACEPARENT_CHARS = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpan:
    """Be a span of stored times; with an `error_type` it has failed."""

    name: str
    attributes: Mapping[str, str | int]
    started_at: datetime
    ended_at: datetime
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Be spans told afterwards: `top` below `parent`, the `runs` below `top`.

    Without a `parent` it is a trace of its own, linked to the contexts in `links`.
    """

    top: StoredSpan
    parent: str = ""
    links: tuple[str, ...] = ()
    runs: tuple[StoredSpan, ...] = ()


def is_traceparent(text: str) -> bool:
    """Return whether a text has the form of a W3C `traceparent` of version 00."""
    return len(text) == _TRACEPARENT_CHARS and text.startswith("00-")


def is_sampled(traceparent: str) -> bool:
    """Return whether a W3C `traceparent` says that its trace is recorded."""
    return len(traceparent) == _TRACEPARENT_CHARS and traceparent[-1] in _SAMPLED


def trace_of(traceparent: str) -> str:
    """Return the trace ID in a `traceparent`."""
    return traceparent[3:35]


def followed(instance_trace: str, heard: str) -> bool:
    """Return whether a saga has gone on in another trace, by the context of what was heard of it last.

    What is recorded is not left for what is not: a late record of the way forward must not hide the way back.
    """
    if not heard or trace_of(heard) == trace_of(instance_trace):
        return False
    return is_sampled(heard) or not is_sampled(instance_trace)


def last_heard(instance: Instance) -> datetime:
    """Return when anything of a saga was last known to have happened; its expiry if nothing is."""
    times = [fact.at for fact in instance.runs.values()]
    if instance.sent_at is not None:
        times.append(instance.sent_at)
    return max(times, default=instance.expires_at)


def story_of(topology: Topology, instance: Instance) -> Story | None:
    """Return what is told of a saga that has ended, None where no trace of it is recorded.

    One that ended within its first trace is told there. Otherwise the span, as long as the saga, would make a trace
    of days: it is one of its own, with links. Where only the way back was recorded the runs are told too.
    """
    first, last = instance.traceparent, instance.burst or instance.traceparent
    if not (is_sampled(first) or is_sampled(last)):
        return None
    top = _whole(topology, instance)
    if trace_of(first) == trace_of(last):
        return Story(top=top, parent=first)
    if is_sampled(first):
        return Story(top=top, links=(first, last))
    runs = _runs(topology, instance, top.started_at)
    if top.ended_at - top.started_at <= LONG_WAIT:
        return Story(top=top, parent=last, runs=runs)
    return Story(top=top, links=(last,), runs=runs)


def _whole(topology: Topology, instance: Instance) -> StoredSpan:
    plan = topology.plan
    started_at = instance.expires_at - topology.lifetime
    ended_at = max(started_at, instance.ended_at or started_at)
    runs = [fact for fact in instance.runs.values() if fact.step != topology.start.step]
    attributes: dict[str, str | int] = {
        "saga.id": instance.saga_id,
        "saga.name": plan.saga,
        "saga.version": plan.version,
        "saga.ending": instance.phase.value,
        "saga.steps": sum(fact.status is RunStatus.DONE for fact in runs),
        "saga.retries": sum(max(0, fact.attempts - 1) for fact in runs),
        "saga.undone": sum(undo is UndoStep.DONE for undo in instance.undos.values()),
        "saga.duration_ms": (ended_at - started_at) // timedelta(milliseconds=1),
    }
    if instance.phase is Phase.COMPENSATED:
        attributes["saga.cause"] = instance.cause.value if instance.cause is not None else ""
        if instance.refusal is not None:
            attributes["saga.refusal"] = instance.refusal.type
    return StoredSpan(name=f"saga {plan.saga}", attributes=attributes, started_at=started_at, ended_at=ended_at)


def _runs(topology: Topology, instance: Instance, started_at: datetime) -> tuple[StoredSpan, ...]:
    facts = sorted(instance.runs.values(), key=lambda fact: fact.at)
    return tuple(_run(topology, instance, fact, started_at) for fact in facts[:REBUILT_RUNS])


def _run(topology: Topology, instance: Instance, fact: RunFact, started_at: datetime) -> StoredSpan:
    """Tell a run from the end of what caused it to its own: when its handler began is in no record."""
    causes = [instance.runs[cause].at for cause in fact.causes if cause in instance.runs]
    attributes: dict[str, str | int] = {
        "saga.id": instance.saga_id,
        "saga.name": topology.plan.saga,
        "saga.step": fact.step,
        "saga.status": fact.status.value,
        "saga.attempts": fact.attempts,
        "saga.told_by": "coordinator",
    }
    if fact.branch:
        attributes["saga.branch"] = fact.branch
    return StoredSpan(
        name=f"run {run_path(fact.step, fact.branch)}",
        attributes=attributes,
        started_at=min(max(causes, default=started_at), fact.at),
        ended_at=fact.at,
        error_type=UNKNOWN_ERROR if fact.status is RunStatus.FAILED else "",
    )
