"""Hold what services report, what the coordinator commands, and how a saga ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saga._core.ids import record_id, run_message_id, service_message_id
from saga._core.words import Cause, Ending, Kind, Part, RunKey, RunStatus, Standing, UndoStatus, Verdict

ERROR_CHARS = 200
"""How much of an error travels in a fact."""
DETAIL_CHARS = 500
"""How much of a reason or an outcome's detail travels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalData:
    """Be a refusal as it travels: its wire type and its payload, UTF-8 JSON of at most 1 KiB."""

    type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFact:
    """Be what the coordinator may know of one run.

    `causes` are the runs whose events it reacted to, `emits` the wire types it emitted; `fan_out` counts
    the branches where that was a list, None where it was one event. `refusal` is set when it was refused.
    `undo` is known only in the lists of `Closed` and `Committed`. `error` has
    at most 200 characters.
    """

    step: str
    branch: str = ""
    status: RunStatus
    causes: tuple[RunKey, ...] = ()
    emits: tuple[str, ...] = ()
    fan_out: int | None = None
    at: datetime
    attempts: int = 1
    refusal: RefusalData | None = None
    undo: UndoStatus = UndoStatus.NONE
    error: str = ""

    @property
    def key(self) -> RunKey:
        """Return the run's key inside its saga."""
        return RunKey(self.step, self.branch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReported:
    """Report the outcome of one run."""

    fact: RunFact


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Answer `Close`: the saga never runs here again, and `runs` is the final list."""

    service: str
    runs: tuple[RunFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Answer `Close`: the pivot has run here, so the saga stays open and can only go forward."""

    service: str
    runs: tuple[RunFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """Answer `Undo`: the run is undone, or there was nothing to undo and it never starts."""

    step: str
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoFailed:
    """Answer `Undo`: the compensation has failed for good; a person is needed."""

    step: str
    branch: str = ""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLate:
    """Answer a command after the saga's expiry, when rows may be gone; `step` is empty for `Close`."""

    service: str
    step: str = ""
    branch: str = ""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Ask the coordinator to undo the saga."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """Report that an outside call can no longer be resolved by asking again; a person is needed."""

    step: str
    branch: str = ""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """Answer `Hold`, `Release` and `Keep`: it is in the service's gate row; `number` is the command's own."""

    service: str
    command: Kind
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Tell a child saga that its parent has completed: it will never be undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Tell a service to let nothing more of the saga run and to list what has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Tell a service to undo one run."""

    step: str
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Tell a service to keep what arrives for the saga as rows; an older number is ignored."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Tell a service to go on with what it has kept; an older number is ignored."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Tell a service to keep the saga's rows, and to run its steps, until a later time than its expiry."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun:
    """Tell a service to try a run again: its failed compensation, or its action that waits for an attempt."""

    step: str
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRun:
    """Tell a service to count a run as undone, or as done with the given result, without calling anything.

    `part` says which: a command that comes too late must not count as the other. `result_type` is `""` for a run
    that emits nothing, and for an undo. `causes` are those of the run, should it have no row yet.
    """

    step: str
    branch: str = ""
    part: Part
    reason: str
    result_type: str = ""
    result: bytes = b""
    causes: tuple[RunKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRun:
    """Tell a service what a person found out about a run's outside call in doubt."""

    step: str
    branch: str = ""
    reason: str
    verdict: Verdict
    result_type: str = ""
    result: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Say how a saga ended; `cause` and `detail` say why it did not complete."""

    ending: Ending
    cause: Cause | None = None
    refusal: RefusalData | None = None
    detail: str = ""
    standing: Standing = Standing.FINAL
    at: datetime


Report = RunReported | Closed | Committed | Undone | UndoFailed | TooLate | CancelRequested | InDoubt | Obeyed | Settled
Command = Close | Undo | Hold | Release | Keep | RetryRun | SkipRun | ResolveRun

_KIND_OF: dict[type[Report | Command], Kind] = {
    RunReported: Kind.RUN,
    Closed: Kind.CLOSED,
    Committed: Kind.COMMITTED,
    Undone: Kind.UNDONE,
    UndoFailed: Kind.UNDO_FAILED,
    TooLate: Kind.TOO_LATE,
    CancelRequested: Kind.CANCEL,
    InDoubt: Kind.IN_DOUBT,
    Obeyed: Kind.OBEYED,
    Settled: Kind.SETTLED,
    Close: Kind.CLOSE,
    Undo: Kind.UNDO,
    Hold: Kind.HOLD,
    Release: Kind.RELEASE,
    Keep: Kind.KEEP,
    RetryRun: Kind.RETRY,
    SkipRun: Kind.SKIP,
    ResolveRun: Kind.RESOLVE,
}


def kind_of(body: Report | Command) -> Kind:
    """Return the kind of envelope a report or a command travels in."""
    return _KIND_OF[type(body)]


def report_id(saga_id: str, report: Report, service: str) -> str:
    """Return the message ID of a report by `service`; a repeated report has the same one."""
    match report:
        case RunReported(fact=fact):
            return record_id(saga_id, fact.step, fact.branch, fact.status)
        case (
            Undone(step=step, branch=branch) | UndoFailed(step=step, branch=branch) | InDoubt(step=step, branch=branch)
        ):
            return run_message_id(saga_id, step, branch, kind_of(report))
        case Obeyed(command=command, number=number):
            return f"{service_message_id(saga_id, service, command)}-{number}-obeyed"
        case TooLate(step=step, branch=branch) if step:
            return run_message_id(saga_id, step, branch, Kind.TOO_LATE)
        case _:
            return service_message_id(saga_id, service, kind_of(report))


def command_id(saga_id: str, command: Command, service: str) -> str:
    """Return the message ID of a command to `service`; a command sent again has the same one."""
    match command:
        case Hold(number=number) | Release(number=number):
            return f"{service_message_id(saga_id, service, kind_of(command))}-{number}"
        case Close() | Keep():
            return service_message_id(saga_id, service, kind_of(command))
        case (
            Undo(step=step, branch=branch)
            | RetryRun(step=step, branch=branch)
            | SkipRun(step=step, branch=branch)
            | ResolveRun(step=step, branch=branch)
        ):
            return run_message_id(saga_id, step, branch, kind_of(command))
