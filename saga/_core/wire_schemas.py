"""Describe headers and bodies of every message as JSON schemas, as docs/protocol.md tells them in words."""

from __future__ import annotations

from typing import Any, Final

from saga._core.bodies import DETAIL_CHARS, ERROR_CHARS
from saga._core.limits import DEFAULT_LIMITS
from saga._core.words import Cause, Ending, Kind, Part, RunStatus, Standing, UndoStatus, Verdict

Schema = dict[str, Any]

ANYTHING: Final[Schema] = {"type": "object"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_BRANCH = r"^([1-9][0-9]{0,8}of[1-9][0-9]{0,8}|0of0)$"


def _text(most: int) -> Schema:
    return {"type": "string", "maxLength": most}


def _name(**more: object) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": DEFAULT_LIMITS.attribute_bytes, **more}


def _number(most: int = 2**53 - 1) -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": most}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    body: Schema = {"type": "object", "properties": properties}
    return body | ({"required": list(required)} if required else {})


def referred(name: str) -> Schema:
    """Return a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


_RUN_NAME = _name(description="service.function, or service.function/2of5 in a branch")
_REASON = _text(DETAIL_CHARS)


def header_schema() -> Schema:
    """Return the schema of the headers of every message that belongs to a saga; others may stand beside them."""
    required = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_sagakind", "ce_sagaid")
    return _object(
        (*required, "ce_sagaplan", "ce_expirytime"),
        ce_specversion={"type": "string", "const": "1.0"},
        ce_id=_name(description="the same when the message is sent again"),
        ce_source=_name(description="/saga/<service>; the coordinator is /saga/saga-coordinator"),
        ce_type=_name(),
        ce_time=_TIME,
        ce_sagakind={"type": "string", "enum": [kind.value for kind in Kind]},
        ce_correlationid=_name(description="the saga ID again"),
        ce_sagaid=_name(description="the saga's ID, and the key of the message"),
        ce_sagaplan=_name(description="the hash of the plan the saga was started under"),
        ce_expirytime=_TIME | {"description": "after it no run starts"},
        ce_causationid=_name(description="the ID of the message that caused this one"),
        ce_sagastep=_name(description="service.function"),
        ce_sagabranch=_name(pattern=_BRANCH),
        ce_sagatenant=_name(),
        ce_sagalane={"type": "string", "enum": ["urgent"]},
        traceparent={"type": "string", "description": "W3C Trace Context"},
        **{"content-type": {"type": "string", "const": "application/json"}},
    )


def headers_of(kind: Kind, wire_type: str) -> Schema:
    """Return the schema of one message's headers."""
    required = ["ce_sagastep"] if kind in (Kind.EVENT, Kind.RUN) else []
    own = _object(
        tuple(required),
        ce_sagakind={"type": "string", "const": kind.value},
        ce_type={"type": "string", "const": wire_type},
    )
    return {"type": "object", "allOf": [referred("headers"), own]}


def body_schemas() -> dict[str, Schema]:
    """Return the schemas that bodies share, by their names in the document."""
    return {
        "headers": header_schema(),
        "run": _object(
            ("run", "status", "at"),
            run=_RUN_NAME,
            status={"type": "string", "enum": [status.value for status in RunStatus]},
            at=_TIME,
            attempts=_number(2**31 - 1) | {"default": 1},
            causes={"type": "array", "items": _RUN_NAME},
            emits={"type": "array", "items": _name()},
            fan_out=_number(DEFAULT_LIMITS.branches),
            refusal=referred("refusal"),
            undo={"type": "string", "enum": [undo.value for undo in UndoStatus], "default": "none"},
            error=_text(ERROR_CHARS),
        ),
        "refusal": _object(
            ("type", "data"),
            type=_name(),
            data={
                "type": "string",
                "minLength": 1,
                "maxLength": DEFAULT_LIMITS.sealed_refusal_bytes,
                "contentMediaType": "application/json",
                "description": "the payload as a string of JSON",
            },
        ),
        "result": _object(("type", "data"), type=_name(), data={"type": "string", "contentEncoding": "base64"}),
    }


def body_of(kind: Kind) -> Schema:
    """Return the schema of the body of a record, a command or an outcome; raises KeyError for an event."""
    return _BODIES[kind]


_RUNS = _object(("service", "runs"), service=_name(), runs={"type": "array", "items": referred("run")})
_ABOUT_A_RUN = _object(("run", "reason"), run=_RUN_NAME, reason=_REASON)
_BODIES: dict[Kind, Schema] = {
    Kind.RUN: referred("run"),
    Kind.CLOSED: _RUNS,
    Kind.COMMITTED: _RUNS,
    Kind.UNDONE: _object(("run",), run=_RUN_NAME),
    Kind.UNDO_FAILED: _ABOUT_A_RUN,
    Kind.TOO_LATE: _object(("service", "reason"), service=_name(), run=_RUN_NAME, reason=_REASON),
    Kind.CANCEL: _object(("reason",), reason=_REASON),
    Kind.IN_DOUBT: _ABOUT_A_RUN,
    Kind.OBEYED: _object(
        ("service", "command", "number"),
        service=_name(),
        command={"type": "string", "enum": ["hold", "release", "keep"]},
        number=_number(),
    ),
    Kind.SETTLED: ANYTHING,
    Kind.CLOSE: ANYTHING,
    Kind.UNDO: _object(("run",), run=_RUN_NAME),
    Kind.HOLD: _object(("number",), number=_number()),
    Kind.RELEASE: _object(("number",), number=_number()),
    Kind.KEEP: _object(("until",), until=_TIME),
    Kind.RETRY: _object(("run",), run=_RUN_NAME),
    Kind.SKIP: _object(
        ("run", "reason", "part"),
        run=_RUN_NAME,
        reason=_REASON,
        part={"type": "string", "enum": [part.value for part in Part]},
        result=referred("result"),
        causes={"type": "array", "items": _RUN_NAME},
    ),
    Kind.RESOLVE: _object(
        ("run", "reason", "verdict"),
        run=_RUN_NAME,
        reason=_REASON,
        verdict={"type": "string", "enum": [verdict.value for verdict in Verdict]},
        result=referred("result"),
    ),
    Kind.OUTCOME: _object(
        ("ending", "at"),
        ending={"type": "string", "enum": [ending.value for ending in Ending]},
        at=_TIME,
        cause={"type": "string", "enum": [cause.value for cause in Cause]},
        refusal=referred("refusal"),
        detail=_REASON,
        standing={"type": "string", "enum": [standing.value for standing in Standing]},
    ),
}
