"""Decide what a step does whose effect is a child saga: a saga of its own, undone with its parent.

The run of the step is an intent as long as its child is open. The child's start row lies in the same database and
names the parent's run in its `input`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from saga._core.answers import Emitted, done
from saga._core.bodies import Outcome
from saga._core.participant import Turn, compensated
from saga._core.rows import RunRow
from saga._core.words import Ending, RunKey, RunStatus, UndoStatus

PARENT_TYPE = "saga.parent"
"""The input type of a start that a step of another saga has made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Name the run that has started a child saga."""

    saga_id: str
    key: RunKey


def parent_input(saga_id: str, key: RunKey) -> bytes:
    """Return what a child's start row remembers of its parent."""
    return orjson.dumps({"saga": saga_id, "step": key.step, "branch": key.branch})


def parent_of(start: RunRow) -> Parent | None:
    """Return the run that has started this saga, None when no run has."""
    if start.input_type != PARENT_TYPE:
        return None
    found: dict[str, str] = orjson.loads(start.input or b"{}")
    return Parent(saga_id=found["saga"], key=RunKey(step=found["step"], branch=found["branch"]))


def waits_for_child(run: RunRow | None) -> bool:
    """Return whether the end of the child says how the run ends."""
    return run is not None and run.status is RunStatus.INTENT and run.undo is UndoStatus.NONE


def child_ended(run: RunRow | None, outcome: Outcome, emitted: Emitted | None, now: datetime) -> Turn:
    """Return what the child's ending does to the run that started it.

    `emitted` is what the parent goes on with, where the child has completed and the run waits for it. A child that
    completes although its undo is wanted will be undone: its coordinator has been asked. A stuck child leaves
    its parent waiting: a person looks after the child.
    """
    if run is None or outcome.ending is Ending.STUCK:
        return Turn()
    if run.undo is UndoStatus.WANTED:
        if outcome.ending is not Ending.COMPENSATED:
            return Turn()
        ended = run if run.status is RunStatus.DONE else replace(run, status=RunStatus.FAILED)
        return compensated(ended, now)
    if not waits_for_child(run):
        return Turn()
    if outcome.ending is Ending.COMPLETED:
        if emitted is None:
            return Turn()
        ended = done(run, emitted, now)
        return Turn(run=ended, emit=ended)
    ended = _undone_child(run, outcome, now)
    return Turn(run=ended, emit=ended)


def _undone_child(run: RunRow, outcome: Outcome, now: datetime) -> RunRow:
    """Return the run of a child that was undone: refused with the child's refusal, else failed."""
    if outcome.refusal is not None:
        return replace(
            run,
            status=RunStatus.REFUSED,
            result_type=outcome.refusal.type,
            result=outcome.refusal.data,
            done_at=now,
        )
    error = f"the child saga was undone ({outcome.cause}): {outcome.detail}"[:200]
    return replace(run, status=RunStatus.FAILED, error=error, done_at=now)
