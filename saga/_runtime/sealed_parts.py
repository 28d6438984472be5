"""Find the payloads inside of others: what a join has gathered, the elements of a fan-out, refusals in reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson

from saga._core.children import PARENT_TYPE
from saga._core.events import subject_field
from saga._core.gathering import GATHERED_TYPE
from saga._core.ids import event_id
from saga._core.rows import RunRow
from saga.ports.sealing import About

Work = Callable[[bytes, About], Awaitable[bytes]]


def subject_of(wire_type: str, payload: bytes) -> str:
    """Return whom a payload is about, as its class says; "" where that is nobody."""
    name = subject_field(wire_type)
    if not name:
        return ""
    try:
        found: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    value = cast("dict[str, object]", found).get(name) if isinstance(found, dict) else None
    return "" if value is None else str(value)


async def each_of_input(run: RunRow, work: Work) -> bytes | None:
    """Return the input of a run with work done on its payload, or on each event that a join has gathered."""
    if run.input is None or run.input_type == PARENT_TYPE:
        return run.input
    message_id = f"{event_id(run.saga_id, run.step, run.branch)}#input"
    if run.input_type != GATHERED_TYPE:
        return await work(run.input, About(message_id=message_id, type=run.input_type, tenant=run.tenant))
    gathered: dict[str, dict[str, list[str]]] = orjson.loads(run.input)
    for branches in gathered.values():
        for entry in branches.values():
            about = About(message_id=message_id, type=entry[0], tenant=run.tenant)
            entry[1] = (await work(entry[1].encode(), about)).decode()
    return orjson.dumps(gathered, option=orjson.OPT_SORT_KEYS)


async def each_of_result(run: RunRow, work: Work) -> bytes | None:
    """Return the result of a run with work done on its payload, or on each element of a fan-out."""
    if run.result is None:
        return None
    message_id = f"{event_id(run.saga_id, run.step, run.branch)}#result"
    about = About(message_id=message_id, type=run.result_type, tenant=run.tenant)
    if run.fan_out is None:
        return await work(run.result, about)
    elements: list[str] = orjson.loads(run.result)
    return orjson.dumps([(await work(element.encode(), about)).decode() for element in elements])


async def each_refusal(body: bytes, saga_id: str, tenant: str, work: Work) -> bytes:
    """Return a report, a list or an outcome with work done on its refusals; what is no JSON as it is."""
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    for refusal in _refusals(found):
        wire_type, data = refusal.get("type"), refusal.get("data")
        if isinstance(wire_type, str) and isinstance(data, str):
            about = About(message_id=f"{saga_id}#refusal", type=wire_type, tenant=tenant)
            refusal["data"] = (await work(data.encode(), about)).decode()
    return orjson.dumps(found)


def _refusals(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, dict):
        return []
    body = cast("dict[str, Any]", found)
    runs: object = body.get("runs")
    places: list[object] = [body]
    if isinstance(runs, list):
        places += cast("list[object]", runs)
    held = [cast("dict[str, Any]", place).get("refusal") for place in places if isinstance(place, dict)]
    return [cast("dict[str, Any]", refusal) for refusal in held if isinstance(refusal, dict)]
