"""Write and read the JSON bodies of commands; docs/protocol.md shows them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson

from saga._core.bodies import (
    DETAIL_CHARS,
    Close,
    Command,
    Hold,
    Keep,
    Release,
    ResolveRun,
    RetryRun,
    SkipRun,
    Undo,
)
from saga._core.facts import read_run
from saga._core.fields import Json, as_object, clean_text, each, load_object, name_in, number_in, text_in, word_in
from saga._core.ids import run_path
from saga._core.times import format_time, parse_time
from saga._core.words import Kind, Part, Verdict
from saga.errors import Undecodable

_PARTS = {part.value: part for part in Part}
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


def encode_command(command: Command) -> bytes:
    """Return the JSON body of a command."""
    body: Json = {}
    match command:
        case Close():
            pass
        case Undo(step=step, branch=branch) | RetryRun(step=step, branch=branch):
            body = {"run": run_path(step, branch)}
        case Hold(number=number) | Release(number=number):
            body = {"number": number}
        case Keep(until=until):
            body = {"until": format_time(until)}
        case SkipRun(step=step, branch=branch, reason=reason, part=part):
            body = _explaining(command, step, branch, reason) | {"part": part.value}
            causes: list[str] = [run_path(cause.step, cause.branch) for cause in command.causes]
            body |= {"causes": causes} if causes else {}
        case ResolveRun(step=step, branch=branch, reason=reason, verdict=verdict):
            body = _explaining(command, step, branch, reason)
            body["verdict"] = verdict.value
    return orjson.dumps(body)


def _explaining(command: SkipRun | ResolveRun, step: str, branch: str, reason: str) -> Json:
    return {"run": run_path(step, branch), "reason": clean_text(reason, DETAIL_CHARS)} | _result(command)


def _result(command: SkipRun | ResolveRun) -> Json:
    # A string of base64: embedded as an object it would come back with other bytes.
    if not command.result_type:
        return {}
    return {"result": {"type": command.result_type, "data": base64.b64encode(command.result).decode()}}


def decode_command(kind: Kind, payload: bytes) -> Command:
    """Return the command an envelope of this kind carries; raises Undecodable, whatever the bytes are."""
    read = _READ.get(kind)
    if read is None:
        msg = f"a {kind.value} is not a command"
        raise Undecodable(msg)
    return read(load_object(payload))


def _run_of(body: Json) -> dict[str, Any]:
    run = read_run(body.get("run"))
    return {"step": run.step, "branch": run.branch}


def _explained(body: Json) -> dict[str, Any]:
    found: dict[str, Any] = {**_run_of(body), "reason": text_in(body, "reason", DETAIL_CHARS)}
    if "result" not in body:
        return found
    result = as_object(body["result"], "result")
    written: object = result.get("data")
    if type(written) is not str:
        msg = "result must be an object with type and data (base64)"
        raise Undecodable(msg)
    try:
        data = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        msg = "result.data is not base64"
        raise Undecodable(msg) from None
    return {**found, "result_type": name_in(result, "type"), "result": data}


_READ: dict[Kind, Callable[[Json], Command]] = {
    Kind.CLOSE: lambda body: Close(),  # noqa: ARG005 - nothing is in it
    Kind.UNDO: lambda body: Undo(**_run_of(body)),
    Kind.HOLD: lambda body: Hold(number=number_in(body, "number")),
    Kind.RELEASE: lambda body: Release(number=number_in(body, "number")),
    Kind.KEEP: lambda body: Keep(until=parse_time(name_in(body, "until"), "until")),
    Kind.RETRY: lambda body: RetryRun(**_run_of(body)),
    Kind.SKIP: lambda body: SkipRun(
        **_explained(body),
        part=word_in(body, "part", _PARTS),
        causes=each(body, "causes", read_run) if "causes" in body else (),
    ),
    Kind.RESOLVE: lambda body: ResolveRun(**_explained(body), verdict=word_in(body, "verdict", _VERDICTS)),
}
