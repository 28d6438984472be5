"""Write and read what is known of one run as JSON: in reports, in lists, and in the coordinator's rows."""

from __future__ import annotations

from functools import lru_cache

import orjson

from saga._core.bodies import ERROR_CHARS, RefusalData, RunFact
from saga._core.fields import (
    Json,
    as_object,
    checked_name,
    clean_text,
    each,
    name_in,
    number_in,
    text_in,
    word_in,
)
from saga._core.frozen import builder
from saga._core.ids import run_path
from saga._core.limits import DEFAULT_LIMITS, check_depth
from saga._core.sealing import stands_in
from saga._core.times import format_time, parse_time
from saga._core.words import RunKey, RunStatus, UndoStatus
from saga.errors import TooLarge, Undecodable

_STATUSES = {status.value: status for status in RunStatus}
_SPELLED = {status: status.value for status in RunStatus}  # `.value` is a slow property
_UNDOS = {undo.value: undo for undo in UndoStatus}
_fact = builder(RunFact)


def fact_to_json(fact: RunFact) -> Json:
    """Return what stands in JSON for a fact; raises TooLarge for a refusal over its limit."""
    entry: Json = {
        "run": run_path(fact.step, fact.branch),
        "status": _SPELLED[fact.status],
        "at": format_time(fact.at),
        "attempts": fact.attempts,
    }
    if fact.causes:
        entry["causes"] = [run_path(cause.step, cause.branch) for cause in fact.causes]
    if fact.emits:
        entry["emits"] = list(fact.emits)
    if fact.fan_out is not None:
        entry["fan_out"] = fact.fan_out
    if fact.refusal is not None:
        entry["refusal"] = refusal_to_json(fact.refusal)
    if fact.undo is not UndoStatus.NONE:
        entry["undo"] = fact.undo.value
    if fact.error:
        entry["error"] = clean_text(fact.error, ERROR_CHARS)
    return entry


def refusal_to_json(refusal: RefusalData) -> Json:
    # The payload stands as a string: embedded as an object it would come back with other bytes.
    if len(refusal.data) > _most(refusal.data):
        msg = (
            f"refusal {refusal.type} has {len(refusal.data)} bytes, at most {_most(refusal.data)} "
            "are allowed: keep what explains the refusal and leave out the rest"
        )
        raise TooLarge(msg)
    return {"type": refusal.type, "data": refusal.data.decode()}


def _most(refusal: bytes) -> int:
    # A sealed payload is larger than what is in it.
    return DEFAULT_LIMITS.sealed_refusal_bytes if stands_in(refusal) else DEFAULT_LIMITS.refusal_bytes


def fact_from_json(entry: object) -> RunFact:
    """Return the fact that `fact_to_json` has written; raises Undecodable."""
    body = as_object(entry, "a run")
    run = read_run(body.get("run"))
    fan_out = number_in(body, "fan_out", most=DEFAULT_LIMITS.branches) if "fan_out" in body else None
    return _fact(
        step=run.step,
        branch=run.branch,
        status=word_in(body, "status", _STATUSES),
        causes=each(body, "causes", read_run) if "causes" in body else (),
        emits=each(body, "emits", checked_name) if "emits" in body else (),
        at=parse_time(name_in(body, "at"), "at"),
        fan_out=fan_out,
        attempts=number_in(body, "attempts", most=2**31 - 1) if "attempts" in body else 1,
        refusal=read_refusal(body) if "refusal" in body else None,
        undo=word_in(body, "undo", _UNDOS) if "undo" in body else UndoStatus.NONE,
        error=text_in(body, "error", ERROR_CHARS) if "error" in body else "",
    )


def read_run(value: object) -> RunKey:
    return _run_at(checked_name(value, "run"))


@lru_cache(1024)
def _run_at(path: str) -> RunKey:
    step, _, branch = path.partition("/")
    if not step:
        msg = f"run is {path[:40]!r}: write it as 'service.function' or 'service.function/2of5'"
        raise Undecodable(msg)
    return RunKey(step=step, branch=branch)


def read_refusal(body: Json) -> RefusalData | None:
    if "refusal" not in body:
        return None
    refusal = as_object(body["refusal"], "refusal")
    text: object = refusal.get("data")
    data = text.encode() if type(text) is str else b""
    if not 0 < len(data) <= _most(data):
        msg = f"refusal.data must be a string of JSON, at most {_most(data)} bytes"
        raise Undecodable(msg)
    check_depth(data, DEFAULT_LIMITS.depth)
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        msg = "refusal.data is not JSON"
        raise Undecodable(msg) from None
    return RefusalData(type=name_in(refusal, "type"), data=data)
