"""Decide what somebody sees of payloads: nothing, what is not marked, or that it is sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from saga._core.children import PARENT_TYPE
from saga._core.events import MARK_KEY
from saga._core.frozen import replace
from saga._core.gathering import GATHERED_TYPE, elements_of, gathered_of
from saga._core.rows import DeliveryRow, InstanceRow, RunRow
from saga._core.sealing import BlobReference, read_place, stands_in
from saga._core.whole import Payloads, PayloadView, RunPayloads, Shown
from saga.errors import Undecodable

LARGEST_BYTES = 64 * 1024
"""A payload over this is not written out."""
MOST_VIEWS = 50
"""How many elements of a fan-out, or events of a join, are written out."""
_DEPTH = 32
_NOTHING: Mapping[str, Any] = {}
_REFUSAL = 7
"""Where a run in an instance's state has its refusal."""

Schemas = Mapping[str, Mapping[str, Any]]
"""The JSON schema of each wire type that is known here, with its marks."""


def view(wire_type: str, payload: bytes | None, schemas: Schemas, payloads: Payloads) -> PayloadView:
    """Return a payload as somebody may see it."""
    if not payload:
        return PayloadView(shown=Shown.NONE, type=wire_type)
    size = len(payload)
    if stands_in(payload):
        return PayloadView(shown=_place(payload), type=wire_type, bytes=size)
    if payloads is Payloads.HIDDEN:
        return PayloadView(shown=Shown.HIDDEN, type=wire_type, bytes=size)
    schema = schemas.get(wire_type)
    if schema is None and wire_type != PARENT_TYPE:
        return PayloadView(shown=Shown.UNKNOWN, type=wire_type, bytes=size)
    if size > LARGEST_BYTES:
        return PayloadView(shown=Shown.LARGE, type=wire_type, bytes=size)
    try:
        found: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return PayloadView(shown=Shown.UNREADABLE, type=wire_type, bytes=size)
    redacted = found if schema is None else _redacted(found, schema, schema, 0)
    text = orjson.dumps(redacted, option=orjson.OPT_INDENT_2).decode()
    shown = Shown.WHOLE if redacted == found else Shown.REDACTED
    return PayloadView(shown=shown, type=wire_type, bytes=size, text=text)


def _place(payload: bytes) -> Shown:
    try:
        return Shown.ELSEWHERE if isinstance(read_place(payload), BlobReference) else Shown.SEALED
    except Undecodable:
        return Shown.UNREADABLE


def _redacted(value: object, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> object:
    """Return a value with a word in the place of whatever its schema marks; too deep to follow is marked, too."""
    if depth > _DEPTH:
        return "<too deep>"
    if MARK_KEY in schema:
        return f"<{schema[MARK_KEY]}>"
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        branches.append(root.get("$defs", {}).get(name, {}))
    if isinstance(value, dict):
        properties: Mapping[str, Any] = schema.get("properties", {})
        more: object = schema.get("additionalProperties")
        others: Mapping[str, Any] = cast("Mapping[str, Any]", more) if isinstance(more, dict) else _NOTHING
        fields = cast("dict[str, object]", value)
        value = {name: _redacted(v, properties.get(name, others), root, depth + 1) for name, v in fields.items()}
    elif isinstance(value, list):
        rows = cast("list[object]", value)
        items: list[Mapping[str, Any]] = list(schema.get("prefixItems", ()))
        rest: Mapping[str, Any] = schema["items"] if isinstance(schema.get("items"), dict) else {}
        value = [_redacted(v, items[i] if i < len(items) else rest, root, depth + 1) for i, v in enumerate(rows)]
    # Whichever alternative it is: what any of them marks is not shown.
    for branch in branches:
        value = _redacted(value, branch, root, depth + 1)
    return value


def run_payloads(run: RunRow, schemas: Schemas, payloads: Payloads) -> RunPayloads:
    """Return what a run has taken and given, each event by itself."""

    def views(parts: Sequence[tuple[str, bytes]]) -> tuple[PayloadView, ...]:
        return tuple(view(wire_type, payload, schemas, payloads) for wire_type, payload in parts[:MOST_VIEWS])

    taken: list[tuple[str, bytes]] = [(run.input_type, run.input)] if run.input else []
    if run.input and run.input_type == GATHERED_TYPE:
        taken = [part for parts in gathered_of(run).values() for part in parts]
    given: list[tuple[str, bytes]] = [(run.result_type, run.result)] if run.result else []
    if run.result and run.fan_out is not None:
        given = [(run.result_type, element) for element in elements_of(run.result)]
    return RunPayloads(service=run.service, step=run.step, branch=run.branch, inputs=views(taken), results=views(given))


# --- without them --------------------------------------------------------------------------------------------


def bare_run(run: RunRow) -> RunRow:
    """Return a run without payloads; that a start has heard of its end stays to be seen."""
    return replace(run, input=None, result=None, outcome=None if run.outcome is None else b"{}")


def bare_delivery(row: DeliveryRow) -> DeliveryRow:
    """Return a waiting delivery without its message's value and headers."""
    return replace(row, raw=replace(row.raw, value=None, headers=()))


def bare_instance(row: InstanceRow) -> InstanceRow:
    """Return a saga without the payloads of refusals; raises ValueError for a state of another version."""
    state: dict[str, Any] = orjson.loads(row.state)
    if state.get("refusal"):
        state["refusal"] = [state["refusal"][0], ""]
    for run in state.get("runs", ()):
        if len(run) > _REFUSAL and run[_REFUSAL]:
            run[_REFUSAL] = {"type": run[_REFUSAL]["type"], "data": ""}
    return replace(row, state=orjson.dumps(state))
