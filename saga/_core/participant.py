"""Decide what a participant does with an event or a command; `answers` decides about outside work.

Every function takes the rows as read under the lock and returns the rows to write and what to report;
the shell calls handlers and stores the result in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.bodies import Closed, Committed, InDoubt, RefusalData, Report, RunFact, TooLate, UndoFailed, Undone
from saga._core.frozen import builder, replace
from saga._core.plan import PlanStep, Topology, Undoing
from saga._core.rows import GateRow, OutboxRow, RunRow
from saga._core.words import Effects, GateState, Mark, RunKey, RunStatus, UndoStatus

ERROR_CHARS = 200
_fact = builder(RunFact)


class Meeting(StrEnum):
    """Say what an event meets at its step."""

    RUN = "run"
    DUPLICATE = "duplicate"
    TURNED_AWAY = "turned_away"
    HELD = "held"
    DELAYED = "delayed"
    EXPIRED = "expired"


def meet(
    *,
    gate: GateRow | None,
    run: RunRow | None,
    expires_at: datetime,
    now: datetime,
    not_before: datetime | None = None,
) -> Meeting:
    """Return what to do with an event for a step, given the gate and the run row read under the lock.

    The order matters: a run that exists is never run again, a closed gate speaks before a person's hold, and
    both before the expiry and the step's own delay (`not_before`).
    """
    if run is not None and run.status is not RunStatus.WAITING:
        return Meeting.DUPLICATE
    if gate is not None and gate.state is GateState.CLOSED:
        return Meeting.TURNED_AWAY
    if gate is not None and (gate.state is GateState.CLOSING or gate.mark is Mark.HELD):
        return Meeting.HELD
    until = gate.keep_until if gate is not None and gate.keep_until is not None else expires_at
    if now >= max(until, expires_at):
        return Meeting.EXPIRED
    return Meeting.DELAYED if not_before is not None and now < not_before else Meeting.RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Hold what one command or answer changes: rows to write and reports to send, in one transaction.

    `release` says that held deliveries of the saga go on now. `kick` says that outside work is due at
    once in this process. `cancel_child` asks for the undo of the run's child saga. A run never stored (revision 0)
    is inserted. `published` are the plain events of the handler that has led to this.
    """

    run: RunRow | None = None
    gate: GateRow | None = None
    reports: tuple[Report, ...] = ()
    emit: RunRow | None = None
    release: bool = False
    kick: bool = False
    cancel_child: RunKey | None = None
    published: tuple[OutboxRow, ...] = ()


def fact_of(run: RunRow) -> RunFact:
    """Return what the coordinator may know of a run: outcome, causes and emitted types, no business data.

    A refusal is the exception: its payload travels, since it explains the end of the saga.
    """
    emits = (run.result_type,) if run.status is RunStatus.DONE and run.result_type else ()
    refusal = None
    if run.status is RunStatus.REFUSED:
        refusal = RefusalData(type=run.result_type, data=run.result or b"{}")
    return _fact(
        step=run.step,
        branch=run.branch,
        status=run.status,
        causes=run.causes,
        emits=emits,
        fan_out=run.fan_out,
        at=run.done_at or run.created_at,
        attempts=run.attempt,
        refusal=refusal,
        undo=run.undo,
        error=run.error[:ERROR_CHARS],
    )


def facts_of(runs: Iterable[RunRow]) -> tuple[RunFact, ...]:
    """Return the facts of all runs that have started, in a fixed order."""
    started = (run for run in runs if run.status is not RunStatus.WAITING)
    return tuple(fact_of(run) for run in sorted(started, key=lambda run: (run.step, run.branch)))


def close(
    topology: Topology,
    service: str,
    saga_id: str,
    *,
    gate: GateRow | None,
    runs: Iterable[RunRow],
    expires_at: datetime,
    now: datetime,
) -> Turn:
    """Return what `close` does at one service, given its gate and all its runs of the saga.

    A service whose pivot has run stays open and says so. With the external pivot in doubt the gate is
    closing until the call is answered. Otherwise the gate closes and the list in the reply is final.
    Where nothing is known of a saga that has expired, its rows may have been pruned: then it is too late.
    """
    rows = list(runs)
    if gate is None and not rows and now >= expires_at:
        late = TooLate(service=service, reason="no row of the saga after the expiry")
        return Turn(reports=(late,))
    if gate is not None and gate.state is GateState.CLOSED:
        return Turn(reports=(Closed(service=service, runs=facts_of(rows)),))
    pivot = _pivot_run(topology, service, rows)
    if pivot is not None and pivot.status is RunStatus.DONE:
        return Turn(reports=(Committed(service=service, runs=facts_of(rows)),))
    if pivot is not None and in_doubt(topology.steps[pivot.step], pivot):
        closing = _gate(topology, service, saga_id, gate, GateState.CLOSING, expires_at)
        if pivot.pending_at is not None:
            return Turn(gate=closing, kick=True)
        return Turn(gate=closing, run=replace(pivot, pending_at=now, owner=""), kick=True)
    closed = _gate(topology, service, saga_id, gate, GateState.CLOSED, expires_at)
    never = _never_called(topology, pivot)
    if never is not None:
        rows = [never if row.key == never.key else row for row in rows]
    report = Closed(service=service, runs=facts_of(rows))
    return Turn(gate=closed, run=never, emit=never, reports=(report,), release=True)


def _never_called(topology: Topology, pivot: RunRow | None) -> RunRow | None:
    """Return the row of an outside pivot whose call nobody has taken on yet, and nobody may any more."""
    if pivot is None or pivot.status is not RunStatus.INTENT:
        return None
    if topology.steps[pivot.step].effects is not Effects.EXTERNAL:
        return None
    return replace(pivot, status=RunStatus.FAILED, pending_at=None, owner="", error="closed before it was called")


def _pivot_run(topology: Topology, service: str, rows: Iterable[RunRow]) -> RunRow | None:
    if topology.pivot is None or topology.pivot.service != service:
        return None
    name = topology.pivot.name
    return next((run for run in rows if run.step == name), None)


def in_doubt(step: PlanStep, run: RunRow) -> bool:
    """Return whether an outside call of this run may have happened without an answer.

    An intent nobody has taken on has not been called. Whoever takes it on raises its revision before the call, so
    a turn that was decided by the row without a call, and makes an end of it, is then not written but decided anew.
    """
    outside = step.effects is Effects.EXTERNAL and run.status in (RunStatus.INTENT, RunStatus.FAILED)
    return outside and run.called_at is not None


def _gate(
    topology: Topology,
    service: str,
    saga_id: str,
    gate: GateRow | None,
    state: GateState,
    expires_at: datetime,
) -> GateRow:
    if gate is not None:
        return replace(gate, state=state)
    return GateRow(saga_id=saga_id, service=service, plan=topology.plan.hash, state=state, expires_at=expires_at)


# --- undo --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensate:
    """Tell the shell to call the compensation in this transaction and then to write `compensated(run)`."""

    run: RunRow
    gate: GateRow | None


def undo(
    topology: Topology,
    service: str,
    saga_id: str,
    key: RunKey,
    *,
    gate: GateRow | None,
    run: RunRow | None,
    expires_at: datetime,
    now: datetime,
) -> Turn | Compensate:
    """Return what `undo` of one run does, given the rows read under the exclusive lock.

    Idempotent: a repeated command makes the same reply from the row. An undo for a run never heard of
    closes the gate first, so that the run can never start later.
    """
    shut = None
    if gate is None or gate.state is not GateState.CLOSED:
        shut = _gate(topology, service, saga_id, gate, GateState.CLOSED, expires_at)
    undone = Undone(step=key.step, branch=key.branch)
    if run is None:
        late = TooLate(service=service, step=key.step, branch=key.branch, reason="no run row after the expiry")
        return Turn(reports=(late,)) if now >= expires_at else Turn(gate=shut, reports=(undone,))
    step = topology.steps.get(run.step)
    if step is not None and step.effects is Effects.CHILD:
        return _undo_child(run, shut)
    match run.undo:
        case UndoStatus.DONE:
            return Turn(gate=shut, reports=(undone,))
        case UndoStatus.FAILED:
            failed = UndoFailed(step=key.step, branch=key.branch, reason=run.error[:ERROR_CHARS])
            return Turn(gate=shut, reports=(failed,))
        case UndoStatus.WANTED if run.pending_at is None:
            doubt = InDoubt(step=key.step, branch=key.branch, reason=run.error[:ERROR_CHARS])
            return Turn(gate=shut, reports=(doubt,))
        case UndoStatus.WANTED | UndoStatus.INTENT:
            return Turn(gate=shut, kick=True)
        case UndoStatus.NONE:
            return _first_undo(topology.steps.get(run.step), run, shut, now)


def _undo_child(run: RunRow, shut: GateRow | None) -> Turn:
    """Undo what lives in a child saga: ask for its undo, also again; it answers with its outcome."""
    standing = run.status in (RunStatus.INTENT, RunStatus.DONE)
    if run.undo is UndoStatus.DONE or not standing:
        return Turn(gate=shut, reports=(Undone(step=run.step, branch=run.branch),))
    wanted = None if run.undo is UndoStatus.WANTED else replace(run, undo=UndoStatus.WANTED, pending_at=None)
    return Turn(run=wanted, gate=shut, cancel_child=run.key)


def _first_undo(step: PlanStep | None, run: RunRow, shut: GateRow | None, now: datetime) -> Turn | Compensate:
    if step is None:
        wrong = UndoFailed(step=run.step, branch=run.branch, reason="a start cannot be undone")
        return Turn(reports=(wrong,))
    undone = Undone(step=run.step, branch=run.branch)
    if in_doubt(step, run) and step.undoing is not Undoing.NOTHING:
        wanted = replace(run, undo=UndoStatus.WANTED, pending_at=now, owner="", attempt=0)
        return Turn(run=wanted, gate=shut, kick=True)
    if run.status is not RunStatus.DONE or step.undoing in (Undoing.NOTHING, Undoing.NEVER):
        done = replace(run, undo=UndoStatus.DONE, undone_at=now, pending_at=None, owner="")
        return Turn(run=done, gate=shut, reports=(undone,))
    if step.undoing is Undoing.EXTERNAL:
        return Turn(run=compensating(run, now), gate=shut, kick=True)
    return Compensate(run=run, gate=shut)


def compensating(run: RunRow, now: datetime) -> RunRow:
    """Return the run once its outside compensation is due; that has a key of its own, which nobody has seen yet."""
    return replace(
        run,
        undo=UndoStatus.INTENT,
        pending_at=now,
        owner="",
        attempt=0,
        first_called_at=None,
        called_at=None,
        error="",
    )


def compensated(run: RunRow, now: datetime) -> Turn:
    """Return what follows once the compensation of `run` has succeeded."""
    done = replace(run, undo=UndoStatus.DONE, undone_at=now, pending_at=None, owner="", error="")
    return Turn(run=done, reports=(Undone(step=run.step, branch=run.branch),))


def compensation_raised(run: RunRow, error: str, *, attempts: int, retry_at: datetime) -> Turn:
    """Return what follows once the compensation has raised: tried again at `retry_at`, or failed for good."""
    tried = run.attempt + 1 if run.undo is UndoStatus.INTENT else 1
    if tried < attempts:
        again = replace(
            run,
            undo=UndoStatus.INTENT,
            attempt=tried,
            pending_at=retry_at,
            owner="",
            error=error[:ERROR_CHARS],
        )
        return Turn(run=again)
    failed = replace(run, undo=UndoStatus.FAILED, attempt=tried, pending_at=None, owner="", error=error[:ERROR_CHARS])
    report = UndoFailed(step=run.step, branch=run.branch, reason=error[:ERROR_CHARS])
    return Turn(run=failed, reports=(report,))
