"""Decide what a participant does when the coordinator passes on what a person, or the clock, has asked for.

As in `participant`, every function takes the rows as read under the exclusive lock and returns the rows to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from saga._core.answers import Emitted, NotHappened, Refused, answered, done
from saga._core.bodies import Hold, InDoubt, Keep, Obeyed, Release, ResolveRun, RetryRun, SkipRun, Undone, kind_of
from saga._core.participant import ERROR_CHARS, Turn, compensated, compensating
from saga._core.plan import Topology
from saga._core.rows import GateRow, RunRow
from saga._core.words import Effects, GateState, Mark, Part, RunKey, RunStatus, UndoStatus, Verdict

Intervention = Hold | Release | Keep | RetryRun | SkipRun | ResolveRun


def intervene(
    topology: Topology,
    service: str,
    saga_id: str,
    command: Intervention,
    *,
    gate: GateRow | None,
    runs: Mapping[RunKey, RunRow],
    expires_at: datetime,
    now: datetime,
) -> Turn:
    """Return what follows from one command; a repeated one makes the same reply and changes nothing."""
    here = gate or GateRow(
        saga_id=saga_id, service=service, plan=topology.plan.hash, state=GateState.OPEN, expires_at=expires_at
    )
    match command:
        case Hold() | Release():
            return _mark(here, service, command)
        case Keep(until=until):
            kept = replace(here, keep_until=max(until, here.keep_until or until))
            obeyed = Obeyed(service=service, command=kind_of(command), number=int(until.timestamp()))
            return Turn(gate=kept, reports=(obeyed,))
        case RetryRun(step=step, branch=branch):
            return _retry(runs.get(RunKey(step=step, branch=branch)), now)
        case SkipRun(part=part, step=step, branch=branch):
            run = runs.get(RunKey(step=step, branch=branch))
            if part is Part.COMPENSATION:
                return _skip_undo(here, run, command, now)
            return _skip(topology, here, run, command, now)
        case ResolveRun():
            run = runs.get(RunKey(step=command.step, branch=command.branch))
            return Turn() if run is None else _resolve(topology, run, gate, runs, command, now)
        case _:
            assert_never(command)


def _mark(gate: GateRow, service: str, command: Hold | Release) -> Turn:
    """Hold or release, by number: an older command than the last one is ignored, and still answered."""
    obeyed = Obeyed(service=service, command=kind_of(command), number=command.number)
    if command.number < gate.mark_number:
        return Turn(reports=(obeyed,))
    mark = Mark.HELD if isinstance(command, Hold) else Mark.FREE
    # A release never opens a gate: what it lets go meets the gate as any delivery does.
    marked = replace(gate, mark=mark, mark_number=command.number)
    return Turn(gate=marked, reports=(obeyed,), release=mark is Mark.FREE)


def _retry(run: RunRow | None, now: datetime) -> Turn:
    """Make everything of the run that waits for an attempt due at once."""
    if run is None:
        return Turn(release=True)
    if run.undo is UndoStatus.FAILED:
        return Turn(run=compensating(run, now), kick=True)
    if run.pending_at is not None and not run.owner:
        return Turn(run=replace(run, pending_at=now), kick=True)
    return Turn(release=True)


def _skip(topology: Topology, gate: GateRow, run: RunRow | None, command: SkipRun, now: datetime) -> Turn:
    """Count a run as done with the given result; one that has ended, or may not run any more, stays as it is.

    A closed gate has listed the run as it was: whatever is undone goes by that list.
    """
    if gate.state is not GateState.OPEN:
        return Turn()
    if run is not None and run.status in (RunStatus.DONE, RunStatus.REFUSED):
        return Turn()
    if run is None and now >= max(gate.expires_at, gate.keep_until or gate.expires_at):
        return Turn()  # it may have run, and its row may have been pruned
    ended = done(run or _unheard_of(topology, gate, command, now), _emitted(command), now)
    if run is not None and run.status is RunStatus.WAITING:
        # A join that has not gathered everything here yet: what the records name has to be undone after it, too.
        ended = replace(ended, causes=tuple(dict.fromkeys((*run.causes, *command.causes))))
    ended = replace(ended, error=_note(command))
    return Turn(run=ended, emit=ended)


def _skip_undo(gate: GateRow, run: RunRow | None, command: SkipRun, now: datetime) -> Turn:
    """Count a run as undone; one without a row can never start any more, and so there is nothing to undo."""
    shut = None if gate.state is GateState.CLOSED else replace(gate, state=GateState.CLOSED)
    if run is None or run.undo is UndoStatus.DONE:
        return Turn(gate=shut, reports=(Undone(step=command.step, branch=command.branch),))
    turn = compensated(run, now)
    assert turn.run is not None
    return replace(turn, gate=shut, run=replace(turn.run, error=_note(command)))


def _note(command: SkipRun) -> str:
    return f"skipped: {command.reason}"[:ERROR_CHARS]


def _unheard_of(topology: Topology, gate: GateRow, command: SkipRun, now: datetime) -> RunRow:
    return RunRow(
        saga_id=gate.saga_id,
        step=command.step,
        branch=command.branch,
        plan=topology.plan.hash,
        status=RunStatus.INTENT,
        causes=command.causes,
        expires_at=gate.expires_at,
        created_at=now,
    )


def _emitted(command: SkipRun | ResolveRun) -> Emitted:
    return Emitted(type=command.result_type, payload=command.result)


def unfit(topology: Topology, run: RunRow | None, reason: str) -> Turn | None:
    """Return what follows from a result that its service cannot read: the call stays in doubt, and says why.

    None for a run that is not in doubt: nothing of it changes.
    """
    if run is None or run.pending_at is not None or topology.steps[run.step].effects is not Effects.EXTERNAL:
        return None
    if run.undo is not UndoStatus.WANTED and not (run.undo is UndoStatus.NONE and run.status is RunStatus.INTENT):
        return None
    doubted = replace(run, error=reason[:ERROR_CHARS])
    return Turn(run=doubted, reports=(InDoubt(step=run.step, branch=run.branch, reason=doubted.error),))


def _resolve(
    topology: Topology,
    run: RunRow,
    gate: GateRow | None,
    runs: Mapping[RunKey, RunRow],
    command: ResolveRun,
    now: datetime,
) -> Turn:
    """Take what a person found out as the answer of the call; one that is answered already stays so.

    That a call has not happened counts only where asking has ended. Else it might still happen, and a command that is
    delivered twice would forget the next call too.
    """
    settled = run.status in (RunStatus.DONE, RunStatus.REFUSED)
    if run.undo not in (UndoStatus.NONE, UndoStatus.WANTED) or settled:
        return Turn()
    if command.verdict is Verdict.NOT_HAPPENED and run.pending_at is not None:
        return Turn()
    answer: Emitted | Refused | NotHappened
    if command.verdict is Verdict.NOT_HAPPENED:
        answer = NotHappened(attempts=run.attempt + 2)
    elif command.result_type in topology.steps[run.step].refuses:
        answer = Refused(type=command.result_type, payload=command.result)
    else:
        answer = _emitted(command)
    return answered(topology, run, gate, runs.values(), answer, now)
