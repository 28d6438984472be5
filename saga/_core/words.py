"""Hold the small vocabulary every other module speaks: kinds, statuses and keys."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class StepKind(StrEnum):
    """Say what a step promises: undoable, the point of no return, or certain to succeed in the end.

    RECEIVE is no handler: it stands for an event that comes from outside of the saga.
    """

    STEP = "step"
    PIVOT = "pivot"
    RETRIABLE = "retriable"
    RECEIVE = "receive"


class Priority(StrEnum):
    """Say in which lane a saga goes: urgent ones do not queue behind the others."""

    NORMAL = "normal"
    URGENT = "urgent"


class Takes(StrEnum):
    """Say how many events of one type an input takes: the one of its branch, or that of every branch."""

    ONE = "one"
    EVERY = "every"


class Handles(StrEnum):
    """Say what a step's handler is given: one event, or all of a batch."""

    ONE = "one"
    BATCH = "batch"


class Effects(StrEnum):
    """Say where a step's effect lives: in the service's own database, outside of it, or in a child saga."""

    LOCAL = "local"
    EXTERNAL = "external"
    CHILD = "child"


class RunStatus(StrEnum):
    """Say what is known of a run; knowledge only rises, see `RANK`."""

    WAITING = "waiting"
    INTENT = "intent"
    FAILED = "failed"
    REFUSED = "refused"
    DONE = "done"


RANK: dict[RunStatus, int] = {
    RunStatus.WAITING: 0,
    RunStatus.INTENT: 1,
    RunStatus.FAILED: 2,
    RunStatus.REFUSED: 3,
    RunStatus.DONE: 3,
}


class UndoStatus(StrEnum):
    """Say how far a run's undo has come; WANTED and INTENT have outside work pending."""

    NONE = "none"
    WANTED = "wanted"
    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"


class GateState(StrEnum):
    """Say whether a saga may still run at a service."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Mark(StrEnum):
    """Say whether a person holds a saga; a mark beside its gate, never a state of it."""

    FREE = "free"
    HELD = "held"


class Kind(StrEnum):
    """Name every kind of message on the wire (extension attribute `sagakind`)."""

    EVENT = "event"
    RUN = "run"
    CLOSED = "closed"
    COMMITTED = "committed"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    TOO_LATE = "too_late"
    CANCEL = "cancel"
    IN_DOUBT = "in_doubt"
    OBEYED = "obeyed"
    SETTLED = "settled"
    CLOSE = "close"
    UNDO = "undo"
    HOLD = "hold"
    RELEASE = "release"
    KEEP = "keep"
    RETRY = "retry"
    SKIP = "skip"
    RESOLVE = "resolve"
    OUTCOME = "outcome"


REPORT_KINDS = frozenset(
    {
        Kind.RUN,
        Kind.CLOSED,
        Kind.COMMITTED,
        Kind.UNDONE,
        Kind.UNDO_FAILED,
        Kind.TOO_LATE,
        Kind.CANCEL,
        Kind.IN_DOUBT,
        Kind.OBEYED,
        Kind.SETTLED,
    }
)
COMMAND_KINDS = frozenset(
    {Kind.CLOSE, Kind.UNDO, Kind.HOLD, Kind.RELEASE, Kind.KEEP, Kind.RETRY, Kind.SKIP, Kind.RESOLVE}
)


class Ending(StrEnum):
    """Say how a saga ended; `stuck` needs a person and may still become one of the other two."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"
    STUCK = "stuck"


class Standing(StrEnum):
    """Say whether an outcome is the last word: a child saga that has completed may be undone with its parent."""

    FINAL = "final"
    PROVISIONAL = "provisional"


class Purpose(StrEnum):
    """Say why an external handler is called: to act, or to learn the truth about a call nobody answered."""

    ACT = "act"
    RESOLVE = "resolve"


class Part(StrEnum):
    """Say which half of a step is meant."""

    ACTION = "action"
    COMPENSATION = "compensation"


class Verdict(StrEnum):
    """Say what a person has found out about an outside call in doubt."""

    HAPPENED = "happened"
    NOT_HAPPENED = "not_happened"


class Reason(StrEnum):
    """Say why a delivery lies in a row instead of having been handled."""

    RETRY = "retry"
    DELAYED = "delayed"
    LOCKED = "locked"
    PARKED = "parked"
    HELD = "held"
    DEAD = "dead"


class Cause(StrEnum):
    """Say why the coordinator began to close a saga."""

    REFUSED = "refused"
    FAILED = "failed"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"
    UNDO_FAILED = "undo_failed"
    TOO_LATE = "too_late"
    IN_DOUBT = "in_doubt"
    PLAN_UNKNOWN = "plan_unknown"


class RunKey(NamedTuple):
    """Name one run inside a saga: the step as `service.function` and the branch (`""` unless fanned out).

    A tuple, because it is hashed and compared many times for every record, which a tuple does in C.
    """

    step: str
    branch: str = ""

    @property
    def service(self) -> str:
        """Return the service that hosts the step."""
        return self.step.partition(".")[0]
