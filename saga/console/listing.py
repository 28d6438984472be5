"""List sagas, page by page, and send all that match as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from enum import StrEnum

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from saga._core.inspecting import UntoldEnd
from saga._core.letters import LetterFilter
from saga._core.sagas import COUNT_CAP, PHASES, SagaFilter, SagaPage, column_names, values_of
from saga.console.asking import SAGA_FIELDS, is_more, only_known, page_of, query_of, saga_filter
from saga.console.house import LISTED, House
from saga.errors import SettingsError

CHUNK_LINES = 200
NEWEST_LETTERS = 200
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportFormat(StrEnum):
    """Name the files that a list can be taken away as."""

    CSV = "csv"
    JSONL = "jsonl"


async def list_values(house: House, request: Request) -> dict[str, object]:
    """Read a page of the list; what is wrong with the filter is a sentence on the page."""
    only_known(request.query_params, SAGA_FIELDS)
    try:
        wanted, after = saga_filter(request.query_params), page_of(request.query_params)
        page, wrong = await house.reader.sagas(wanted, after=after, limit=LISTED), ""
        dead = await _dead_of(house, page)
        untold = await _untold_of(house, page)
    except SettingsError as error:
        wanted, after, page, wrong = SagaFilter(), "", SagaPage(lines=()), str(error)
        dead, untold = frozenset[str](), dict[str, UntoldEnd]()
    more: dict[str, object] = {
        "dead": dead,
        "untold": untold,
        "wrong": wrong,
        "page": page,
        "after": after,
        "more": is_more(wanted),
    }
    return _counted(wanted, None) | more


async def _dead_of(house: House, page: SagaPage) -> frozenset[str]:
    """Return which open sagas of a page have one of the newest dead letters."""
    if all(line.ended_at is not None for line in page.lines):
        return frozenset()
    letters = await house.reader.letters(LetterFilter(), limit=NEWEST_LETTERS)
    return frozenset(letter.saga_id for letter in letters.lines)


async def _untold_of(house: House, page: SagaPage) -> Mapping[str, UntoldEnd]:
    """Return which sagas of a page have ended without the handler of their end having heard of it."""
    return await house.reader.untold_ends([line.saga_id for line in page.lines]) if page.lines else {}


async def counts(house: House, request: Request) -> Response:
    """Count what matches, in each state; raises SettingsError."""
    only_known(request.query_params, SAGA_FIELDS)
    wanted = saga_filter(request.query_params)
    values = _counted(wanted, await house.reader.phase_counts(wanted))
    return house.pages.page(request, "_counts.html", values)


def _counted(wanted: SagaFilter, found: Mapping[str, int] | None) -> dict[str, object]:
    known = found or {}
    phases = wanted.phases or PHASES
    return {
        "wanted": wanted,
        "query": query_of(wanted),
        "counts": found,
        "matching": sum(known.get(phase, 0) for phase in phases),
        "capped": any(known.get(phase, 0) >= COUNT_CAP for phase in phases),
        "cap": COUNT_CAP - 1,
        "phases": PHASES,
    }


async def export(house: House, request: Request) -> Response:
    """Send all sagas that match as CSV or JSON lines, as they are read."""
    only_known(request.query_params, {*SAGA_FIELDS, "format"})
    wanted = saga_filter(request.query_params)
    try:
        kind = ExportFormat(request.query_params.get("format", "csv"))
    except ValueError:
        raise SettingsError(f"format= is one of {', '.join(ExportFormat)}") from None
    lines = _csv(house, wanted) if kind is ExportFormat.CSV else _jsonl(house, wanted)
    media = "text/csv; charset=utf-8" if kind is ExportFormat.CSV else "application/x-ndjson"
    headers = {"content-disposition": f'attachment; filename="sagas.{kind}"'}
    return StreamingResponse(lines, media_type=media, headers=headers)


async def _csv(house: House, wanted: SagaFilter) -> AsyncGenerator[bytes]:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(column_names())
    async with aclosing(house.reader.export(wanted)) as found:
        number = 0
        async for line in found:
            writer.writerow([cell(value) for value in values_of(line).values()])
            number += 1
            if number % CHUNK_LINES == 0:
                yield _taken(out)
    yield _taken(out)


async def _jsonl(house: House, wanted: SagaFilter) -> AsyncGenerator[bytes]:
    chunk = bytearray()
    async with aclosing(house.reader.export(wanted)) as found:
        async for line in found:
            chunk += orjson.dumps(values_of(line), option=orjson.OPT_APPEND_NEWLINE)
            if len(chunk) > CHUNK_LINES * 200:
                yield bytes(chunk)
                chunk.clear()
    yield bytes(chunk)


def cell(value: object) -> str:
    """Return a value as a table program may have it: one that would be taken for a formula gets a quote before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode()
