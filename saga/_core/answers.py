"""Decide what a participant does about outside work: what a run needs, what an answer changes, how a run ends.

As in `participant`, every function takes the rows as read under the lock and returns the rows to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from saga._core.bodies import Closed, Committed, Report
from saga._core.participant import ERROR_CHARS, Turn, compensated, compensating, facts_of
from saga._core.plan import PlanStep, Topology
from saga._core.rows import GateRow, RunRow
from saga._core.words import GateState, RunStatus, StepKind, UndoStatus

# --- outside work ------------------------------------------------------------------------------------------


class Work(StrEnum):
    """Say what a run with pending outside work needs next."""

    ACT = "act"
    RESOLVE = "resolve"
    COMPENSATE = "compensate"


def work_of(run: RunRow) -> Work:
    """Return what a taken run needs: its action, the truth about it, or its compensation."""
    if run.undo is UndoStatus.INTENT:
        return Work.COMPENSATE
    return Work.ACT if run.undo is UndoStatus.NONE and run.status is RunStatus.INTENT else Work.RESOLVE


def is_stale(taken: RunRow, current: RunRow | None) -> bool:
    """Return whether an answer must be dropped: the run was taken over, or its undo has begun meanwhile."""
    return current is None or current.revision != taken.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Be an answer that the action has happened; `type` is empty when nothing is emitted."""

    type: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Be an answer that the action has been refused."""

    type: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """Be no answer: the call failed or timed out; it may be repeated at `retry_at`."""

    error: str
    attempts: int
    retry_at: datetime


AnswerFromOutside = Emitted | Refused | Raised


def answered(
    topology: Topology,
    run: RunRow,
    gate: GateRow | None,
    runs: Iterable[RunRow],
    answer: AnswerFromOutside,
    now: datetime,
) -> Turn:
    """Return what an answer to an action does; `run` is the current row, `runs` all of the saga here.

    Forward it ends the run; in a closing gate it also settles the pivot's question; when an undo waits for
    it, it decides whether there is anything to compensate. A raised call in doubt is repeated until answered.
    """
    if run.undo is UndoStatus.WANTED:
        return _answered_for_undo(run, answer, now)
    closing = gate is not None and gate.state is GateState.CLOSING
    if isinstance(answer, Raised):
        return _raised(topology.steps[run.step], run, answer, closing=closing)
    ended = concluded(replace(run, attempt=run.attempt + 1), answer, now)
    if gate is None or not closing or topology.pivot is None or topology.pivot.name != run.step:
        return Turn(run=ended, emit=ended)
    rows = [ended if row.key == run.key else row for row in runs]
    if ended.status is RunStatus.DONE:
        report: Report = Committed(service=run.service, runs=facts_of(rows))
        return Turn(run=ended, emit=ended, gate=replace(gate, state=GateState.OPEN), reports=(report,), release=True)
    report = Closed(service=run.service, runs=facts_of(rows))
    return Turn(run=ended, emit=ended, gate=replace(gate, state=GateState.CLOSED), reports=(report,), release=True)


def _raised(step: PlanStep, run: RunRow, answer: Raised, *, closing: bool) -> Turn:
    tried = run.attempt + 1
    endless = closing or step.kind is StepKind.RETRIABLE
    if endless or tried < answer.attempts:
        again = replace(run, attempt=tried, pending_at=answer.retry_at, owner="", error=answer.error[:ERROR_CHARS])
        return Turn(run=again)
    ended = failed(replace(run, attempt=tried), answer.error)
    return Turn(run=ended, emit=ended)


def _answered_for_undo(run: RunRow, answer: AnswerFromOutside, now: datetime) -> Turn:
    match answer:
        case Emitted():
            return Turn(run=compensating(done(run, answer, now), now), kick=True)
        case Refused():
            return compensated(refused(run, answer, now), now)
        case Raised():
            again = replace(
                run,
                attempt=run.attempt + 1,
                pending_at=answer.retry_at,
                owner="",
                error=answer.error[:ERROR_CHARS],
            )
            return Turn(run=again)


# --- how a run ends ------------------------------------------------------------------------------------------


def done(run: RunRow, answer: Emitted, now: datetime) -> RunRow:
    """Return the run once its action has happened."""
    return replace(
        run,
        status=RunStatus.DONE,
        result_type=answer.type,
        result=answer.payload or None,
        done_at=now,
        pending_at=None,
        owner="",
        error="",
    )


def refused(run: RunRow, answer: Refused, now: datetime) -> RunRow:
    """Return the run once its action was refused; the refusal is its result."""
    return replace(
        run,
        status=RunStatus.REFUSED,
        result_type=answer.type,
        result=answer.payload,
        done_at=now,
        pending_at=None,
        owner="",
        error="",
    )


def concluded(run: RunRow, answer: Emitted | Refused, now: datetime) -> RunRow:
    """Return the run as its answer ends it."""
    return done(run, answer, now) if isinstance(answer, Emitted) else refused(run, answer, now)


def failed(run: RunRow, error: str) -> RunRow:
    """Return the run once its attempts are used up; an external one is in doubt until resolved."""
    return replace(run, status=RunStatus.FAILED, pending_at=None, owner="", error=error[:ERROR_CHARS])
