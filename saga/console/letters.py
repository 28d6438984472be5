"""Show dead letters, grouped by what they died of, and replay or discard them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response

from saga._core.letters import LetterFilter
from saga.console.asking import MAX_TEXT, only_known, page_of, text_of
from saga.console.house import LISTED, House, NotHere, need
from saga.console.people import Role
from saga.console.rendering import in_htmx
from saga.console.visits import visit_of
from saga.desk import Mode
from saga.errors import SettingsError
from saga.operating import DeadLetterDesk
from saga.ports import OperatingStore

TEXTS = ("service", "saga_id", "step", "error")
BIGGEST = 2**63
PAGE = 100
"""Letters that one request acts on: as many go in a second."""


class Act(StrEnum):
    """Name what can be done to dead letters."""

    REPLAY = "replay"
    DISCARD = "discard"


ROLES = {Act.REPLAY: Role.OPERATE, Act.DISCARD: Role.ADMIN}


async def letters_values(house: House, request: Request) -> dict[str, object]:
    """Read the groups and a page of letters."""
    given = request.query_params
    only_known(given, {*TEXTS, "database", "after"})
    database = text_of(given, "database")
    wanted = letter_filter(given)
    groups = await house.reader.letter_groups()
    page = await house.reader.letters(wanted, after=page_of(given), limit=LISTED, database=database)
    query = {name: getattr(wanted, name) for name in TEXTS} | {"database": database}
    return {
        "groups": groups,
        "page": page,
        "wanted": wanted,
        "database": database,
        "databases": house.reader.databases,
        "query": query,
        "filtered": any(query.values()),
        "after": given.get("after", ""),
    }


async def letter_page(house: House, request: Request) -> Response:
    """Show one letter with its message, where that is allowed."""
    database, number = str(request.path_params["database"]), int(request.path_params["letter_id"])
    visit = visit_of(request)
    if not 0 < number < BIGGEST:
        raise NotHere("there is no dead letter of such a number")
    found = await house.reader.letter(database, number, payloads=house.seen_by(visit.user))
    if found is None:
        raise NotHere("there is no such dead letter any more: it was replayed or discarded")
    line, payload = found
    values = {"line": line, "payload": payload, "payload_role": house.payloads}
    return house.pages.page(request, "letter.html", values)


async def act_on_letters(house: House, request: Request) -> Response:
    """Replay or discard one page of the letters that match, or tell how many match.

    What dies after the dry run is not touched: `up_to` says which was the last letter then.
    """
    form = visit_of(request).form
    act, why = _act_of(form), form.get("why", "").strip()
    who = need(request, ROLES[act], act.value).name
    if not why:
        raise SettingsError("say why: the reason goes into the audit trail")
    database = form.get("database", "")
    store = await house.reader.database(database)
    mode = Mode.DO if form.get("mode") == Mode.DO else Mode.DRY_RUN
    up_to = _number(form, "up_to") or await store.last_dead()
    wanted = replace(letter_filter(form), ids=_ids(form), up_to_id=up_to)
    found = await store.list_dead(wanted, after_id=_number(form, "after"), limit=PAGE) if up_to else ()
    done = await _do(store, act, tuple(letter.id for letter in found), who, why) if mode is Mode.DO and found else 0
    template = "_acted_letters.html" if in_htmx(request) else "acted_letters.html"
    values: dict[str, object] = {
        "act": act,
        "mode": mode,
        "why": why,
        "database": database,
        "wanted": wanted,
        "found": [(letter.id, letter.service, letter.step, letter.error) for letter in found],
        "more": len(found) == PAGE,
        "total": _number(form, "so_far") + done,
        "after": found[-1].id if found else 0,
        "up_to": up_to,
        "fields": {name: form[name] for name in (*TEXTS, "ids", "act", "database", "why") if name in form},
    }
    return house.pages.page(request, template, values)


async def _do(store: OperatingStore, act: Act, ids: tuple[int, ...], who: str, why: str) -> int:
    async with DeadLetterDesk(store) as desk:
        wanted = LetterFilter(ids=ids)
        if act is Act.DISCARD:
            return await desk.discard(wanted, who=who, why=why)
        done = 0
        async with aclosing(desk.replay(wanted, per_second=PAGE, who=who, why=why)) as passes:
            async for progress in passes:
                done = progress.letters
        return done


def letter_filter(given: Mapping[str, str]) -> LetterFilter:
    """Return the filter that an address or a form names; raises SettingsError for nonsense in it."""
    return LetterFilter(
        service=text_of(given, "service"),
        saga_id=text_of(given, "saga_id"),
        step=text_of(given, "step"),
        error=text_of(given, "error"),
    )


def _act_of(form: Mapping[str, str]) -> Act:
    try:
        return Act(form.get("act", ""))
    except ValueError:
        raise SettingsError(f"choose what to do: {', '.join(Act)}") from None


def _ids(form: Mapping[str, str]) -> tuple[int, ...]:
    ids = form.get("ids", "").split()
    if len(ids) > MAX_TEXT or not all(_is_number(each) for each in ids):
        raise SettingsError(f"ids= takes up to {MAX_TEXT} numbers of letters")
    return tuple(int(each) for each in ids)


def _number(form: Mapping[str, str], name: str) -> int:
    value = form.get(name, "")
    return int(value) if _is_number(value) else 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19  # noqa: PLR2004 - an int8
