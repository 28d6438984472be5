"""Show what else there is: the outbox, breakers, who runs, who hears whom, plans, and what people did."""

from __future__ import annotations

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from saga._core.drawing import graph_svg, topology_svg
from saga._core.overview import Card
from saga._core.queues import AuditFilter
from saga.console.asking import only_known, page_of, text_of
from saga.console.history import changed_by
from saga.console.house import LISTED, House, NotHere

OUTBOX_CARDS = frozenset({Card.OUTBOX})
BREAKER_CARDS = frozenset({Card.BREAKERS})
CONSUMER_CARDS = frozenset({Card.CONSUMERS})
TOPOLOGY_CARDS = frozenset({Card.PLANS, Card.CONSUMERS})
PLAN_CARDS = frozenset({Card.PLANS, Card.SAGAS})
AUDIT_CARDS = frozenset({Card.AUDITS})
AUDIT_TEXTS = ("saga_id", "who", "verb")


async def outbox_values(house: House, request: Request) -> dict[str, object]:
    """Read the outboxes."""
    del request
    return {"outboxes": await house.reader.outboxes()}


async def breaker_values(house: House, request: Request) -> dict[str, object]:
    """Read the breakers."""
    del request
    return {"breakers": await house.reader.breakers(), "hears": house.reader.hears}


async def consumer_values(house: House, request: Request) -> dict[str, object]:
    """Read who runs, and how far they are."""
    del request
    return {"consumers": await house.reader.consumers(), "hears": house.reader.hears}


async def topology_values(house: House, request: Request) -> dict[str, object]:
    """Read who hears whom."""
    del request
    found = await house.reader.topology()
    drawing = topology_svg(found.plans, anchor="#run-") if found.plans else ""
    return {"map": found, "drawing": Markup(drawing)}  # noqa: S704 - escaped where it is drawn


async def plan_values(house: House, request: Request) -> dict[str, object]:
    """Read all plans."""
    del request
    return {"plans": await house.reader.plans()}


async def plan_page(house: House, request: Request) -> Response:
    """Show one plan; raises NotHere."""
    plan = await house.reader.plan(str(request.path_params["hash"]))
    if plan is None:
        raise NotHere("the coordinator has no plan of this hash, or it was written by another version of saga")
    drawing = Markup(graph_svg(plan, anchor="#run-"))  # noqa: S704 - escaped where it is drawn
    return house.pages.page(request, "plan.html", {"plan": plan, "drawing": drawing})


async def audit_values(house: House, request: Request) -> dict[str, object]:
    """Read a page of what people did."""
    given = request.query_params
    only_known(given, {*AUDIT_TEXTS, "after"})
    wanted = AuditFilter(**{name: text_of(given, name) for name in AUDIT_TEXTS})
    page = await house.reader.audits(wanted, after=page_of(given), limit=LISTED)
    return {
        "wanted": wanted,
        "page": page,
        "acts": [(each, changed_by(each.audit)) for each in page.lines],
        "query": {name: getattr(wanted, name) for name in AUDIT_TEXTS},
        "filtered": wanted != AuditFilter(),
        "after": given.get("after", ""),
    }
