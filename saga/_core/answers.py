"""Decide what a participant does about outside work: what a run needs, what an answer changes, how a run ends.

As in `participant`, every function takes the rows as read under the lock and returns the rows to write.

A call nobody answered is *in doubt*: it may have happened, and it may still happen. The same call under the same
key is safe to make again for as long as the outside system knows the key. Only a call that is proven not to have
happened is forgotten, and only then the run's generation, and with it the key, changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.bodies import Closed, Committed, InDoubt, Report
from saga._core.frozen import changer, replace
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


# --- answers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Be an answer that the action has happened; `type` is empty when nothing is emitted.

    With `fan_out` the payload is an array of that many payloads, see `gathering.array_of`.
    """

    type: str
    payload: bytes
    fan_out: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Be an answer that the action has been refused."""

    type: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHappened:
    """Be proof that the call has not happened and cannot happen any more; `attempts` may be made in all."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """Be no answer: the call failed or timed out; it may be repeated at `retry_at`."""

    error: str
    attempts: int
    retry_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """Be no answer: nothing was found, but the call may still be under way.

    That is known better from `ask_at` on; until `call_until` the same call may just be made again.
    """

    ask_at: datetime
    call_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswerable:
    """Be the end of asking: the outside system may have forgotten the key, so that nothing it says is proof."""

    reason: str


AnswerFromOutside = Emitted | Refused | NotHappened | Raised | Unproven | Unanswerable


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
    it, it decides whether there is anything to compensate. A raised call in doubt is repeated until answered,
    and until its key may be forgotten: then it is reported once, and a person brings the answer.
    """
    stopping = run.undo is UndoStatus.WANTED or _is_stopping(topology, run, gate)
    match answer:
        case Unanswerable():
            return _in_doubt(run, answer)
        case Unproven():
            return _unproven(run, answer, now, stopping=stopping)
        case Emitted() | Refused() | NotHappened() | Raised() if run.undo is UndoStatus.WANTED:
            return _answered_for_undo(run, answer, now)
        case Raised():
            closing = gate is not None and gate.state is GateState.CLOSING
            return _raised(topology.steps[run.step], run, answer, closing=closing)
        case NotHappened() if not stopping and _may_try(topology.steps[run.step], run, answer):
            return Turn(run=replace(not_happened(run), pending_at=now), kick=True)
        case Emitted() | Refused() | NotHappened():
            return _settled(topology, _ended(run, answer, now), gate, runs)


def _is_stopping(topology: Topology, run: RunRow, gate: GateRow | None) -> bool:
    """Return whether a close stands in the way of another call; what hangs on the pivot's answer may go on."""
    if gate is None or gate.state is GateState.OPEN:
        return False
    return gate.state is GateState.CLOSED or _is_pivot(topology, run)


def _is_pivot(topology: Topology, run: RunRow) -> bool:
    return topology.pivot is not None and topology.pivot.name == run.step


def _in_doubt(run: RunRow, answer: Unanswerable) -> Turn:
    doubted = replace(run, pending_at=None, owner="", error=answer.reason[:ERROR_CHARS])
    return Turn(run=doubted, reports=(InDoubt(step=run.step, branch=run.branch, reason=doubted.error),))


def _unproven(run: RunRow, answer: Unproven, now: datetime, *, stopping: bool) -> Turn:
    """Forward the same call under the same key gets on with it; who wants it not to happen has to wait for proof.

    The one that waits keeps its owner: whoever takes it sees that a call has not been heard of, and asks again.
    """
    if not stopping and run.status is RunStatus.INTENT and now <= answer.call_until:
        return Turn(run=replace(run, pending_at=now, owner=""), kick=True)
    return Turn(run=replace(run, pending_at=answer.ask_at))


def _may_try(step: PlanStep, run: RunRow, answer: NotHappened) -> bool:
    left = step.kind is StepKind.RETRIABLE or run.attempt + 1 < answer.attempts
    return left and run.status is RunStatus.INTENT


def _ended(run: RunRow, answer: Emitted | Refused | NotHappened, now: datetime) -> RunRow:
    if isinstance(answer, NotHappened):
        return failed(not_happened(run), run.error or "the call has not happened")
    return concluded(replace(run, attempt=run.attempt + 1), answer, now)


def _settled(topology: Topology, ended: RunRow, gate: GateRow | None, runs: Iterable[RunRow]) -> Turn:
    closing = gate is not None and gate.state is GateState.CLOSING
    if gate is None or not closing or not _is_pivot(topology, ended):
        return Turn(run=ended, emit=ended)
    rows = [ended if row.key == ended.key else row for row in runs]
    if ended.status is RunStatus.DONE:
        report: Report = Committed(service=ended.service, runs=facts_of(rows))
        return Turn(run=ended, emit=ended, gate=replace(gate, state=GateState.OPEN), reports=(report,), release=True)
    report = Closed(service=ended.service, runs=facts_of(rows))
    return Turn(run=ended, emit=ended, gate=replace(gate, state=GateState.CLOSED), reports=(report,), release=True)


def _raised(step: PlanStep, run: RunRow, answer: Raised, *, closing: bool) -> Turn:
    tried = run.attempt + 1
    endless = closing or step.kind is StepKind.RETRIABLE
    if endless or tried < answer.attempts:
        again = replace(run, attempt=tried, pending_at=answer.retry_at, owner="", error=answer.error[:ERROR_CHARS])
        return Turn(run=again)
    ended = failed(replace(run, attempt=tried), answer.error)
    return Turn(run=ended, emit=ended)


def _answered_for_undo(run: RunRow, answer: Emitted | Refused | NotHappened | Raised, now: datetime) -> Turn:
    match answer:
        case Emitted():
            return Turn(run=compensating(done(run, answer, now), now), kick=True)
        case Refused():
            return compensated(refused(run, answer, now), now)
        case NotHappened():
            return compensated(failed(not_happened(run), ""), now)
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


def not_happened(run: RunRow) -> RunRow:
    """Return the run once its call is proven not to have happened: nobody has called under the key it has now."""
    return replace(
        run,
        generation=run.generation + 1,
        first_called_at=None,
        called_at=None,
        attempt=run.attempt + 1,
        owner="",
    )


_done = changer(RunRow, "status", "result_type", "result", "fan_out", "done_at", "pending_at", "owner", "error")


def done(run: RunRow, answer: Emitted, now: datetime) -> RunRow:
    """Return the run once its action has happened."""
    return _done(
        run,
        status=RunStatus.DONE,
        result_type=answer.type,
        result=answer.payload or None,
        fan_out=answer.fan_out,
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
