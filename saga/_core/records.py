"""Write and read the JSON bodies of reports, commands and outcomes; docs/protocol.md shows them.

Keys that would be empty are left out, keys not known here are ignored. Free text is cut to its limit on
both sides and loses what JSON or PostgreSQL cannot hold (lone surrogates, U+0000): an odd error message
must not keep a record from being written.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from saga._core.bodies import (
    DETAIL_CHARS,
    ERROR_CHARS,
    CancelRequested,
    Close,
    Closed,
    Command,
    Committed,
    Outcome,
    RefusalData,
    Report,
    RunFact,
    RunReported,
    TooLate,
    Undo,
    UndoFailed,
    Undone,
)
from saga._core.fields import (
    Json,
    as_object,
    checked_name,
    clean_text,
    each,
    load_object,
    name_in,
    text_in,
    word_in,
)
from saga._core.ids import run_path
from saga._core.limits import DEFAULT_LIMITS, check_depth
from saga._core.times import format_time, parse_time
from saga._core.words import COMMAND_KINDS, Cause, Ending, Kind, RunKey, RunStatus, UndoStatus
from saga.errors import TooLarge, Undecodable

_STATUSES = {status.value: status for status in RunStatus}
_UNDOS = {undo.value: undo for undo in UndoStatus}
_ENDINGS = {ending.value: ending for ending in Ending}
_CAUSES = {cause.value: cause for cause in Cause}
_MAX_ATTEMPTS = 2**31 - 1


# --- writing -----------------------------------------------------------------------------------------------


def encode_report(report: Report) -> bytes:
    """Return the JSON body of a report; raises TooLarge for a refusal over its limit."""
    match report:
        case RunReported(fact=fact):
            return orjson.dumps(fact_to_json(fact))
        case Closed(service=service, runs=runs) | Committed(service=service, runs=runs):
            return orjson.dumps({"service": service, "runs": [fact_to_json(fact) for fact in runs]})
        case Undone(step=step, branch=branch):
            return orjson.dumps({"run": run_path(step, branch)})
        case UndoFailed(step=step, branch=branch, reason=reason):
            return orjson.dumps({"run": run_path(step, branch), "reason": clean_text(reason, DETAIL_CHARS)})
        case TooLate(service=service, step=step, branch=branch, reason=reason):
            body: Json = {"service": service, "reason": clean_text(reason, DETAIL_CHARS)}
            return orjson.dumps(body | {"run": run_path(step, branch)} if step else body)
        case CancelRequested(reason=reason):
            return orjson.dumps({"reason": clean_text(reason, DETAIL_CHARS)})


def encode_command(command: Command) -> bytes:
    """Return the JSON body of a command."""
    match command:
        case Close():
            return b"{}"
        case Undo(step=step, branch=branch):
            return orjson.dumps({"run": run_path(step, branch)})


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the JSON body of an outcome; raises TooLarge for a refusal over its limit."""
    body: Json = {"ending": outcome.ending.value, "at": format_time(outcome.at)}
    if outcome.cause is not None:
        body["cause"] = outcome.cause.value
    if outcome.refusal is not None:
        body["refusal"] = _refusal_to_json(outcome.refusal)
    if outcome.detail:
        body["detail"] = clean_text(outcome.detail, DETAIL_CHARS)
    return orjson.dumps(body)


def fact_to_json(fact: RunFact) -> Json:
    """Return what stands in JSON for a fact; raises TooLarge for a refusal over its limit."""
    entry: Json = {
        "run": run_path(fact.step, fact.branch),
        "status": fact.status.value,
        "at": format_time(fact.at),
        "attempts": fact.attempts,
    }
    if fact.causes:
        entry["causes"] = [run_path(cause.step, cause.branch) for cause in fact.causes]
    if fact.emits:
        entry["emits"] = list(fact.emits)
    if fact.refusal is not None:
        entry["refusal"] = _refusal_to_json(fact.refusal)
    if fact.undo is not UndoStatus.NONE:
        entry["undo"] = fact.undo.value
    if fact.error:
        entry["error"] = clean_text(fact.error, ERROR_CHARS)
    return entry


def _refusal_to_json(refusal: RefusalData) -> Json:
    # The payload stands as a string: embedded as an object it would come back with other bytes.
    if len(refusal.data) > DEFAULT_LIMITS.refusal_bytes:
        msg = (
            f"refusal {refusal.type} has {len(refusal.data)} bytes, at most {DEFAULT_LIMITS.refusal_bytes} "
            "are allowed: keep what explains the refusal and leave out the rest"
        )
        raise TooLarge(msg)
    return {"type": refusal.type, "data": refusal.data.decode()}


def decode_report(kind: Kind, payload: bytes) -> Report:
    """Return the report an envelope of this kind carries; raises Undecodable, whatever the bytes are."""
    read = _READ_REPORT.get(kind)
    if read is None:
        msg = f"a {kind.value} is not a report"
        raise Undecodable(msg)
    return read(load_object(payload))


def decode_command(kind: Kind, payload: bytes) -> Command:
    """Return the command an envelope of this kind carries; raises Undecodable, whatever the bytes are."""
    if kind not in COMMAND_KINDS:
        msg = f"a {kind.value} is not a command"
        raise Undecodable(msg)
    body = load_object(payload)
    if kind is Kind.CLOSE:
        return Close()
    run = _run(body.get("run"))
    return Undo(step=run.step, branch=run.branch)


def decode_outcome(payload: bytes) -> Outcome:
    """Return the outcome in a payload; raises Undecodable, whatever the bytes are."""
    body = load_object(payload)
    return Outcome(
        ending=word_in(body, "ending", _ENDINGS),
        cause=word_in(body, "cause", _CAUSES) if "cause" in body else None,
        refusal=_refusal(body),
        detail=text_in(body, "detail", DETAIL_CHARS),
        at=parse_time(name_in(body, "at"), "at"),
    )


def fact_from_json(entry: object) -> RunFact:
    """Return the fact that `fact_to_json` has written; raises Undecodable."""
    body = as_object(entry, "a run")
    run = _run(body.get("run"))
    attempts: object = body.get("attempts", 1)
    if type(attempts) is not int or not 0 <= attempts <= _MAX_ATTEMPTS:
        msg = f"attempts is {str(attempts)[:40]!r}: write a number that is not negative"
        raise Undecodable(msg)
    return RunFact(
        step=run.step,
        branch=run.branch,
        status=word_in(body, "status", _STATUSES),
        causes=each(body, "causes", _run) if "causes" in body else (),
        emits=each(body, "emits", checked_name) if "emits" in body else (),
        at=parse_time(name_in(body, "at"), "at"),
        attempts=attempts,
        refusal=_refusal(body) if "refusal" in body else None,
        undo=word_in(body, "undo", _UNDOS) if "undo" in body else UndoStatus.NONE,
        error=text_in(body, "error", ERROR_CHARS) if "error" in body else "",
    )


def _run(value: object) -> RunKey:
    step, _, branch = checked_name(value, "run").partition("/")
    if not step:
        msg = f"run is {str(value)[:40]!r}: write it as 'service.function' or 'service.function/2of5'"
        raise Undecodable(msg)
    return RunKey(step=step, branch=branch)


def _refusal(body: Json) -> RefusalData | None:
    if "refusal" not in body:
        return None
    refusal = as_object(body["refusal"], "refusal")
    text: object = refusal.get("data")
    data = text.encode() if type(text) is str else b""
    if not 0 < len(data) <= DEFAULT_LIMITS.refusal_bytes:
        msg = f"refusal.data must be a string of JSON, at most {DEFAULT_LIMITS.refusal_bytes} bytes"
        raise Undecodable(msg)
    check_depth(data, DEFAULT_LIMITS.depth)
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        msg = "refusal.data is not JSON"
        raise Undecodable(msg) from None
    return RefusalData(type=name_in(refusal, "type"), data=data)


def _closed(body: Json) -> Closed:
    return Closed(service=name_in(body, "service"), runs=each(body, "runs", fact_from_json))


def _committed(body: Json) -> Committed:
    return Committed(service=name_in(body, "service"), runs=each(body, "runs", fact_from_json))


def _undone(body: Json) -> Undone:
    run = _run(body.get("run"))
    return Undone(step=run.step, branch=run.branch)


def _undo_failed(body: Json) -> UndoFailed:
    run = _run(body.get("run"))
    return UndoFailed(step=run.step, branch=run.branch, reason=text_in(body, "reason", DETAIL_CHARS))


def _too_late(body: Json) -> TooLate:
    run = _run(body["run"]) if "run" in body else RunKey(step="")
    service, reason = name_in(body, "service"), text_in(body, "reason", DETAIL_CHARS)
    return TooLate(service=service, step=run.step, branch=run.branch, reason=reason)


_READ_REPORT: dict[Kind, Callable[[Json], Report]] = {
    Kind.RUN: lambda body: RunReported(fact=fact_from_json(body)),
    Kind.CLOSED: _closed,
    Kind.COMMITTED: _committed,
    Kind.UNDONE: _undone,
    Kind.UNDO_FAILED: _undo_failed,
    Kind.TOO_LATE: _too_late,
    Kind.CANCEL: lambda body: CancelRequested(reason=text_in(body, "reason", DETAIL_CHARS)),
}
