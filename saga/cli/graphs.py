"""Declare `saga graph`: draw a plan, all plans together, or one saga, as SVG, Mermaid or DOT."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import anyio
import typer

from saga._core.drawing import Sheet, graph_svg, sequence_svg, story_of, timeline_svg, topology_svg
from saga._core.drawing.dot import dot
from saga._core.mermaid import mermaid
from saga._core.plan import Plan
from saga.cli.explaining import ServiceUrls, look, unknown
from saga.cli.saying import Exit, fail
from saga.cli.sources import chosen, plan_sentences, sources_at, write_out
from saga.cli.targets import BadTarget
from saga.settings import read_settings


class Form(StrEnum):
    """Name what a drawing is written as."""

    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


class View(StrEnum):
    """Name what is drawn: a plan, all plans together, or one saga in time or as what was said."""

    GRAPH = "graph"
    TOPOLOGY = "topology"
    TIMELINE = "timeline"
    SEQUENCE = "sequence"


_FORMS = {".svg": Form.SVG, ".mmd": Form.MERMAID, ".mermaid": Form.MERMAID, ".dot": Form.DOT, ".gv": Form.DOT}
_BEGINNING = re.compile(r"[0-9a-f]{4,8}|[0-9a-f]{8}-[0-9a-f-]{0,27}")
_OF_ONE_SAGA = (View.TIMELINE, View.SEQUENCE)


def graph(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            show_default=False,
            help="module:attribute, a manifest file, a plan file, a folder of either; or a saga's ID or its start.",
        ),
    ],
    saga: Annotated[str, typer.Option("--saga", metavar="NAME", help="Of several plans, that of this saga.")] = "",
    version: Annotated[int, typer.Option("--version", min=0, help="This version; 0 stands for the newest.")] = 0,
    view: Annotated[View, typer.Option("--view", help="What to draw; the last two are of one saga.")] = View.GRAPH,
    form: Annotated[
        Form | None, typer.Option("--format", help="What to write. (default: by the file's name, else mermaid or svg)")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to. (default: standard output)")
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="URL", help="With a saga's ID: the coordinator's database.")
    ] = "",
    service_store: ServiceUrls = None,
) -> None:
    """Draw a plan, or with a saga's ID where that saga stands.

    `saga graph shop:services --saga checkout -o checkout.svg`, or
    `saga graph 51bf654b-18ef-595f-a406-5eeba5f2293d --view timeline -o saga.svg`.
    """
    with plan_sentences():
        live = len(targets) == 1 and _names_saga(targets[0])
        written = form or (_FORMS.get(output.suffix) if output is not None else None)
        written = written or (Form.SVG if live or view is not View.GRAPH else Form.MERMAID)
        if written is not Form.SVG and (live or view is not View.GRAPH):
            raise BadTarget(f"--format {written.value} draws the graph of a plan only; use --format svg")
        if written is Form.SVG and output is None and form is None and on_terminal():
            raise BadTarget("an SVG drawing is no text for a terminal: name a file with -o, such as -o saga.svg")
        if live:
            text = _one_saga(targets[0], view, store, tuple(service_store or ()))
        else:
            text = _plans(targets, saga, version, view, written)
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_out(text, output)


def on_terminal() -> bool:
    """Return whether what is printed goes to a terminal."""
    return sys.stdout.isatty()


def _names_saga(target: str) -> bool:
    """Return whether a target is a saga's ID or how one begins, and no file."""
    return _BEGINNING.fullmatch(target) is not None and not Path(target).exists()


def _plans(targets: Sequence[str], saga: str, version: int, view: View, form: Form) -> str:
    if view in _OF_ONE_SAGA:
        raise BadTarget(f"--view {view.value} draws one saga; name its ID, and --store URL")
    plans = chosen(sources_at(targets).plans, saga, version)
    if view is View.TOPOLOGY:
        return topology_svg(plans, sheet=Sheet.FILE)
    if len(plans) > 1:
        names = ", ".join(f"--saga {plan.saga} --version {plan.version}" for plan in plans)
        raise BadTarget(f"there are {len(plans)} plans; choose one: {names}; or draw all with --view topology")
    return _plan(next(iter(plans)), form)


def _plan(plan: Plan, form: Form) -> str:
    match form:
        case Form.SVG:
            return graph_svg(plan, sheet=Sheet.FILE)
        case Form.MERMAID:
            return mermaid(plan)
        case Form.DOT:
            return dot(plan)


def _one_saga(saga_id: str, view: View, store: str, services: tuple[str, ...]) -> str:
    url = store or read_settings().settings.coordinator_url
    if not url:
        raise BadTarget("the coordinator's database is not known: name it with --store URL, or set SAGA_STORE")
    found = anyio.run(look, url, services, saga_id)
    if found.row is None:
        fail([unknown(saga_id, found)], Exit.NOTHING)
        raise AssertionError  # never reached: fail raises
    story = story_of(found.row, found.plan, found.now, found.rows)
    match view:
        case View.TIMELINE:
            return timeline_svg(story, sheet=Sheet.FILE)
        case View.SEQUENCE:
            return sequence_svg(story, sheet=Sheet.FILE)
        case View.GRAPH if found.plan is not None:
            return graph_svg(found.plan, story, sheet=Sheet.FILE)
        case View.TOPOLOGY if found.plan is not None:
            return topology_svg((found.plan,), sheet=Sheet.FILE)
        case _:
            raise BadTarget(f"the coordinator's database does not have the plan {found.row.plan[:12]} of this saga")
