"""Write and read the JSON bodies of reports and outcomes; docs/protocol.md shows them.

Keys that would be empty are left out, keys not known here are ignored. Free text is cut to its limit on
both sides and loses what JSON or PostgreSQL cannot hold (lone surrogates, U+0000): an odd error message
must not keep a record from being written.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from saga._core.bodies import (
    DETAIL_CHARS,
    CancelRequested,
    Closed,
    Committed,
    InDoubt,
    Obeyed,
    Outcome,
    Report,
    RunReported,
    Settled,
    TooLate,
    UndoFailed,
    Undone,
)
from saga._core.facts import fact_from_json, fact_to_json, read_refusal, read_run, refusal_to_json
from saga._core.fields import Json, clean_text, each, load_object, name_in, number_in, text_in, word_in
from saga._core.frozen import builder
from saga._core.ids import run_path
from saga._core.times import format_time, parse_time
from saga._core.words import Cause, Ending, Kind, RunKey, Standing
from saga.errors import Undecodable

_ENDINGS = {ending.value: ending for ending in Ending}
_CAUSES = {cause.value: cause for cause in Cause}
_STANDINGS = {standing.value: standing for standing in Standing}
_reported = builder(RunReported)
_MARKING = {kind.value: kind for kind in (Kind.HOLD, Kind.RELEASE, Kind.KEEP)}


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
        case InDoubt(step=step, branch=branch, reason=reason):
            return orjson.dumps({"run": run_path(step, branch), "reason": clean_text(reason, DETAIL_CHARS)})
        case Obeyed(service=service, command=command, number=number):
            return orjson.dumps({"service": service, "command": command.value, "number": number})
        case CancelRequested(reason=reason):
            return orjson.dumps({"reason": clean_text(reason, DETAIL_CHARS)})
        case Settled():
            return b"{}"


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the JSON body of an outcome; raises TooLarge for a refusal over its limit."""
    body: Json = {"ending": outcome.ending.value, "at": format_time(outcome.at)}
    if outcome.cause is not None:
        body["cause"] = outcome.cause.value
    if outcome.refusal is not None:
        body["refusal"] = refusal_to_json(outcome.refusal)
    if outcome.detail:
        body["detail"] = clean_text(outcome.detail, DETAIL_CHARS)
    if outcome.standing is not Standing.FINAL:
        body["standing"] = outcome.standing.value
    return orjson.dumps(body)


def decode_report(kind: Kind, payload: bytes) -> Report:
    """Return the report an envelope of this kind carries; raises Undecodable, whatever the bytes are."""
    read = _READ_REPORT.get(kind)
    if read is None:
        msg = f"a {kind.value} is not a report"
        raise Undecodable(msg)
    return read(load_object(payload))


def decode_outcome(payload: bytes) -> Outcome:
    """Return the outcome in a payload; raises Undecodable, whatever the bytes are."""
    body = load_object(payload)
    return Outcome(
        ending=word_in(body, "ending", _ENDINGS),
        cause=word_in(body, "cause", _CAUSES) if "cause" in body else None,
        refusal=read_refusal(body),
        detail=text_in(body, "detail", DETAIL_CHARS),
        standing=word_in(body, "standing", _STANDINGS) if "standing" in body else Standing.FINAL,
        at=parse_time(name_in(body, "at"), "at"),
    )


def _closed(body: Json) -> Closed:
    return Closed(service=name_in(body, "service"), runs=each(body, "runs", fact_from_json))


def _committed(body: Json) -> Committed:
    return Committed(service=name_in(body, "service"), runs=each(body, "runs", fact_from_json))


def _undone(body: Json) -> Undone:
    run = read_run(body.get("run"))
    return Undone(step=run.step, branch=run.branch)


def _undo_failed(body: Json) -> UndoFailed:
    run = read_run(body.get("run"))
    return UndoFailed(step=run.step, branch=run.branch, reason=text_in(body, "reason", DETAIL_CHARS))


def _too_late(body: Json) -> TooLate:
    run = read_run(body["run"]) if "run" in body else RunKey(step="")
    service, reason = name_in(body, "service"), text_in(body, "reason", DETAIL_CHARS)
    return TooLate(service=service, step=run.step, branch=run.branch, reason=reason)


def _in_doubt(body: Json) -> InDoubt:
    run = read_run(body.get("run"))
    return InDoubt(step=run.step, branch=run.branch, reason=text_in(body, "reason", DETAIL_CHARS))


def _obeyed(body: Json) -> Obeyed:
    return Obeyed(
        service=name_in(body, "service"), command=word_in(body, "command", _MARKING), number=number_in(body, "number")
    )


_READ_REPORT: dict[Kind, Callable[[Json], Report]] = {
    Kind.RUN: lambda body: _reported(fact=fact_from_json(body)),
    Kind.CLOSED: _closed,
    Kind.COMMITTED: _committed,
    Kind.UNDONE: _undone,
    Kind.UNDO_FAILED: _undo_failed,
    Kind.TOO_LATE: _too_late,
    Kind.CANCEL: lambda body: CancelRequested(reason=text_in(body, "reason", DETAIL_CHARS)),
    Kind.IN_DOUBT: _in_doubt,
    Kind.OBEYED: _obeyed,
    Kind.SETTLED: lambda body: Settled(),  # noqa: ARG005 - nothing is in it
}
