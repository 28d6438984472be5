"""Show one saga: why it is as it is, and what it looks like."""

from __future__ import annotations

from enum import StrEnum

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from saga._core.drawing import graph_svg, sequence_svg, story_of, timeline_svg
from saga._core.explaining import explain
from saga._core.instance import Instance
from saga._core.stored_instance import instance_of
from saga._core.whole import Payloads, SagaWhole
from saga.console.fitting import fit_of, timeout_of
from saga.console.history import history_of, run_views
from saga.console.house import House, NotHere
from saga.console.rendering import at, root_of, saga_path
from saga.console.visits import visit_of
from saga.errors import SettingsError

ANCHOR = "#run-"
TRACE_CHARS = 64


class Tab(StrEnum):
    """Name the ways to look at one saga."""

    TIMELINE = "timeline"
    GRAPH = "graph"
    SEQUENCE = "sequence"
    HISTORY = "history"
    PAYLOADS = "payloads"


async def whole_of(house: House, saga_id: str) -> SagaWhole:
    """Read one saga; raises NotHere."""
    whole = await house.reader.saga(saga_id)
    if whole is None:
        raise NotHere("the coordinator knows no saga of this ID: look at the ID, or search for a part of it")
    return whole


async def saga_values(house: House, request: Request, saga_id: str) -> dict[str, object]:
    """Read what the page of one saga shows; raises NotHere, SettingsError."""
    tab = tab_of(request)
    whole = await whole_of(house, saga_id)
    instance = readable(whole)
    runs = run_views(instance, whole.rows)
    allowed = house.seen_by(visit_of(request).user)
    payloads = await house.reader.payloads(saga_id, payloads=allowed) if tab is Tab.PAYLOADS else ()
    row = whole.row
    told = explain(row, plan=whole.plan, rows=whole.rows, audits=whole.audits, now=whole.now)
    return {
        "whole": whole,
        "line": whole.line,
        "instance": instance,
        "told": told,
        "fit": fit_of(whole, instance, runs, told.mends),
        "timeout": timeout_of(whole, instance),
        "tab": tab,
        "tabs": tuple(Tab),
        "drawing": draw(whole, tab) if instance is not None else "",
        "runs": runs,
        "history": history_of(row, runs, instance, whole.audits) if tab is Tab.HISTORY else (),
        "payloads": payloads,
        "payloads_allowed": allowed is Payloads.ALLOWED,
        "payload_role": house.payloads,
    }


def tab_of(request: Request) -> Tab:
    """Return the way to look that an address names; raises SettingsError."""
    try:
        return Tab(request.query_params.get("view", Tab.TIMELINE))
    except ValueError:
        raise SettingsError(f"view= is one of {', '.join(Tab)}") from None


def readable(whole: SagaWhole) -> Instance | None:
    """Return the coordinator's state, None where another version of saga has written it."""
    try:
        return instance_of(whole.row)
    except (ValueError, KeyError):
        return None


def draw(whole: SagaWhole, tab: Tab) -> Markup:
    """Return the drawing of a tab, "" for one without; the drawing escapes what is in it."""
    story = story_of(whole.row, whole.plan, whole.now, whole.rows)
    if tab is Tab.TIMELINE:
        return Markup(timeline_svg(story, anchor=ANCHOR))  # noqa: S704 - escaped where it is drawn
    if tab is Tab.SEQUENCE:
        return Markup(sequence_svg(story, anchor=ANCHOR))  # noqa: S704 - likewise
    if tab is Tab.GRAPH and whole.plan is not None:
        return Markup(graph_svg(whole.plan, story, anchor=ANCHOR))  # noqa: S704 - likewise
    return Markup()


async def by_trace(house: House, request: Request) -> Response:
    """Go to the saga that a trace belongs to; raises NotHere."""
    trace_id = str(request.path_params["trace_id"])
    saga_id = await house.reader.by_trace(trace_id) if len(trace_id) <= TRACE_CHARS else ""
    if not saga_id:
        raise NotHere(
            "no saga with this trace is open, and no service's rows know it: the trace may be older than they"
        )
    return RedirectResponse(at(root_of(request), saga_path(saga_id), {}), status_code=303)
