"""Name every address of the console, and what answers there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from saga._core.overview import Card
from saga.console import rooms
from saga.console.acting import act
from saga.console.house import House, NotHere
from saga.console.letters import act_on_letters, letter_page, letters_values
from saga.console.listing import counts, export, list_values
from saga.console.many import act_on_all
from saga.console.one import by_trace, saga_values
from saga.console.overview import CARDS, overview_values
from saga.console.rendering import STATIC_TYPES, root_of, static_file
from saga.console.streams import Part, Stream

Values = Callable[[House, Request], Awaitable[Mapping[str, object]]]
FOREVER = "max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Be a page with a live part: `{name}.html` around `_{name}.html`, made anew when one of `cards` has changed."""

    name: str
    path: str
    values: Values
    cards: frozenset[Card]


async def _overview(house: House, request: Request) -> Mapping[str, object]:
    del request
    return await overview_values(house)


VIEWS = (
    View(name="overview", path="/", values=_overview, cards=CARDS),
    View(name="sagas", path="/sagas", values=list_values, cards=frozenset({Card.SAGAS, Card.LETTERS})),
    View(name="letters", path="/dead-letters", values=letters_values, cards=frozenset({Card.LETTERS})),
    View(name="outbox", path="/outbox", values=rooms.outbox_values, cards=rooms.OUTBOX_CARDS),
    View(name="breakers", path="/breakers", values=rooms.breaker_values, cards=rooms.BREAKER_CARDS),
    View(name="consumers", path="/consumers", values=rooms.consumer_values, cards=rooms.CONSUMER_CARDS),
    View(name="topology", path="/topology", values=rooms.topology_values, cards=rooms.TOPOLOGY_CARDS),
    View(name="plans", path="/plans", values=rooms.plan_values, cards=rooms.PLAN_CARDS),
    View(name="audit", path="/audit", values=rooms.audit_values, cards=rooms.AUDIT_CARDS),
)

Find = Callable[[], House]
"""Return the open house; raises StoreUnavailable while there is none."""
Endpoint = Callable[[House, Request], Awaitable[ASGIApp]]


def router(find: Find) -> Router:
    """Return what answers every address."""

    def at(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        async def answer(request: Request) -> ASGIApp:
            return await endpoint(find(), request)

        return Route(path, answer, methods=[method], name=path)

    return Router(
        [
            Route("/static/{name:path}", _static),
            *(at(view.path, partial(_page, view)) for view in VIEWS),
            *(at(f"/live/{view.name}", partial(_live, view)) for view in VIEWS),
            at("/live/saga", _live_saga),
            at("/sagas/{saga_id:path}", _saga),
            at("/by-trace/{trace_id}", by_trace),
            at("/counts", counts),
            at("/export", export),
            at("/act", act, "POST"),
            at("/act-on-all", act_on_all, "POST"),
            at("/act-on-letters", act_on_letters, "POST"),
            at("/dead-letters/{database:path}/{letter_id:int}", letter_page),
            at("/plans/{hash}", rooms.plan_page),
        ],
        redirect_slashes=False,
        default=_nothing_here,
    )


async def _nothing_here(*_: object) -> None:
    raise NotHere("there is no such page")


async def _page(view: View, house: House, request: Request) -> Response:
    values = await view.values(house, request)
    asked = request.url.query
    # Behind the first page of a list everything keeps its place: nothing is live there.
    live = "" if request.query_params.get("after") else _live_at(request, view.name, asked)
    return house.pages.page(request, f"{view.name}.html", {**values, "live": live})


async def _live(view: View, house: House, request: Request) -> Stream:
    async def mark() -> object:
        marks = (await house.changes.get()).marks
        return tuple(marks.get(card) for card in sorted(view.cards))

    async def text() -> str:
        return house.pages.text(request, f"_{view.name}.html", await view.values(house, request))

    return Stream(house, Part(mark=mark, text=text))


async def _saga(house: House, request: Request) -> Response:
    saga_id = str(request.path_params["saga_id"])
    values = await saga_values(house, request, saga_id)
    live = _live_at(request, "saga", urlencode({"id": saga_id, "view": str(values["tab"])}))
    return house.pages.page(request, "saga.html", {**values, "live": live})


async def _live_saga(house: House, request: Request) -> Stream:
    saga_id = request.query_params.get("id", "")

    async def mark() -> object:
        return await house.reader.revision(saga_id)

    async def text() -> str:
        return house.pages.text(request, "_saga.html", await saga_values(house, request, saga_id))

    return Stream(house, Part(mark=mark, text=text))


def _live_at(request: Request, name: str, query: str) -> str:
    return f"{root_of(request)}/live/{name}" + (f"?{query}" if query else "")


async def _static(request: Request) -> Response:
    name = str(request.path_params["name"])
    if name not in STATIC_TYPES:
        raise NotHere("there is no such file")
    headers = {"cache-control": FOREVER if "v" in request.query_params else "no-cache"}
    return Response(static_file(name), media_type=STATIC_TYPES[name], headers=headers)
