"""Decide how a run finds out about an outside call, and what it means when nothing is found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from saga._core.answers import NotHappened, Unanswerable, Unproven, Work, work_of
from saga._core.rows import RunRow, TakenRun


class Question(StrEnum):
    """Say how a taken run finds out about its call: by the call itself, by `confirm`, or not at all any more."""

    CALL = "call"
    PROBE = "probe"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Say how long a call may be under way, and for how long the outside system knows its key."""

    max_in_flight: timedelta
    key_ttl: timedelta


def question(taken: TakenRun, memory: Memory, *, probed: bool) -> Question:
    """Return what to ask about the action of a taken run; `probed` says whether its step has a `confirm`.

    What nobody has called is called. After an error that was heard the call is repeated. Where nobody knows
    what came of it, because its owner has died or because it is to be undone, a probe is asked first.
    """
    if taken.called_at is None:
        return Question.CALL
    unheard = work_of(taken.run) is Work.RESOLVE or taken.owner != ""
    repeatable = is_repeatable(taken, memory)
    if probed and (unheard or not repeatable):
        return Question.PROBE
    return Question.CALL if repeatable else Question.NONE


def is_repeatable(taken: TakenRun, memory: Memory) -> bool:
    """Return whether the same call may be made again: it reaches the outside system while that knows the key."""
    run = taken.run
    if run.called_at is None or run.first_called_at is None:
        return True
    return run.called_at + memory.max_in_flight <= run.first_called_at + memory.key_ttl


def nothing_found(
    taken: TakenRun, memory: Memory, *, attempts: int, now: datetime
) -> NotHappened | Unproven | Unanswerable:
    """Return what it means that a probe has found nothing; `now` is later than its answer.

    It was asked after the run was taken. It is proof only if the last call had no time left by then, and if
    the outside system cannot have forgotten the key yet.
    """
    run = taken.run
    if taken.called_at is None or run.first_called_at is None or run.called_at is None:
        return NotHappened(attempts=attempts)
    if is_forgotten(taken, memory, now):
        return forgotten(memory)
    settled_at = taken.called_at + memory.max_in_flight
    if run.called_at >= settled_at:
        return NotHappened(attempts=attempts)
    return Unproven(ask_at=settled_at, call_until=run.first_called_at + memory.key_ttl - memory.max_in_flight)


def is_forgotten(taken: TakenRun, memory: Memory, now: datetime) -> bool:
    """Return whether the outside system may have forgotten the key by now."""
    first = taken.run.first_called_at
    return taken.called_at is not None and first is not None and now >= first + memory.key_ttl


def forgotten(memory: Memory) -> Unanswerable:
    """Return the answer for a run that must not be called again."""
    within = _in_words(memory.key_ttl)
    return Unanswerable(reason=f"no answer within {within}; its key may be forgotten, so it is not called again")


def _in_words(span: timedelta) -> str:
    """Return a span in the largest unit that it has one of at least."""
    for unit, name in ((timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if span >= unit:
            return f"{span / unit:g} {name}"
    return f"{span.total_seconds():g} s"


def as_before(taken: TakenRun, current: RunRow) -> RunRow:
    """Return the stored row of a taken run that was not called, with the time of the call before."""
    return replace(
        current, called_at=taken.called_at, first_called_at=current.first_called_at if taken.called_at else None
    )
