"""Do something to all sagas that match, a page at a time, after a look at what would happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from saga._core.sagas import COUNT_CAP, SagaFilter, SagaLine
from saga.console.acting import ROLES, asked_of, fields_of
from saga.console.asking import SAGA_FIELDS, only_known, page_of, query_of, saga_filter
from saga.console.house import House, need
from saga.console.rendering import in_htmx
from saga.console.visits import visit_of
from saga.desk import Acted, Mode, Result, Verb
from saga.errors import SettingsError, VerbRefused

BULK = ("retry", "cancel", "hold", "release", "skip")
PAGE = 100
SHOWN = 8


@dataclass(slots=True, kw_only=True)
class Tally:
    """Count what has come of a verb, and keep the sentences that were said most."""

    results: Counter[str] = field(default_factory=Counter[str])
    sentences: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def add(self, acted: Acted) -> None:
        """Count one saga."""
        self.results[acted.result.value] += 1
        self.sentences[acted.result.value, acted.sentence.replace(acted.saga_id, "…")] += 1

    def said(self) -> list[tuple[str, str, int]]:
        """Return the sentences that were said most: result, sentence, how often."""
        return [(result, sentence, number) for (result, sentence), number in self.sentences.most_common(SHOWN)]


async def act_on_all(house: House, request: Request) -> Response:
    """Do a verb to one page of what matches and tell where to go on; or tell what it would do to the first page.

    Every saga is a transaction of its own. What has started since the first page is not touched: it comes before it.
    """
    form = visit_of(request).form
    asked = asked_of(form)
    if asked.word not in BULK:
        raise SettingsError(f"{asked.word} is for one saga at a time")
    who = need(request, ROLES[asked.word], asked.word).name
    given = QueryParams(form.get("query", ""))
    only_known(given, SAGA_FIELDS)
    wanted = saga_filter(given)
    after = page_of(form)
    page = await house.reader.sagas(wanted, after=after, limit=PAGE)
    tally = Tally(results=_before(form))
    for line in page.lines:
        tally.add(await _one(house, line, asked.verb, who, asked.why, asked.mode))
    template = "_acted_all.html" if in_htmx(request) else "acted_all.html"
    values: dict[str, object] = {
        "asked": asked,
        "wanted": wanted,
        "query": query_of(wanted),
        "everything": wanted == SagaFilter(),
        "matching": await house.reader.count(wanted) if asked.mode is Mode.DRY_RUN else 0,
        "cap": COUNT_CAP,
        "looked_at": len(page.lines),
        "tally": tally,
        "total": sum(tally.results.values()),
        "after": page.after,
        "fields": fields_of(form),
    }
    return house.pages.page(request, template, values)


async def _one(house: House, line: SagaLine, verb: Verb, who: str, why: str, mode: Mode) -> Acted:
    try:
        return await house.desk.act(line.saga_id, verb, who=who, why=why, mode=mode)
    except VerbRefused as refused:
        return Acted(saga_id=line.saga_id, result=Result.REFUSED, sentence=str(refused))


def _before(form: Mapping[str, str]) -> Counter[str]:
    """Return what the pages before this one came to, as the form carries it along."""
    return Counter({result.value: _number(form.get(f"so_far_{result.value}", "")) for result in Result})


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - an int4
