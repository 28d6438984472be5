"""Be the desk's page: ask for money, see what waits, approve and reject. The console is mounted beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from examples.approval.travel import Answered, Requested, answer, request
from saga import KeyConflict
from saga.app import App
from saga.console import Console

PAGE = """<!doctype html>
<title>Travel</title>
<h1>Travel</h1>
<form method="post" action="/requests">
  <input name="who" placeholder="who" required> <input name="amount" type="number" min="1" value="400" required>
  <button>Ask</button>
</form>
<table>
{rows}
</table>
<p><a href="/console/">All sagas</a></p>
"""
ROW = "<tr><td>{who}</td><td>{amount}</td><td>{state}</td><td>{more}</td></tr>"
BUTTONS = """<form method="post" action="/requests/{id}">
  <input name="by" placeholder="your name" required>
  <button name="yes" value="true">Approve</button> <button name="yes" value="false">Reject</button>
</form>"""


def travel_web(app: App, database: Path) -> Starlette:
    """Return the page of the desk that runs in `app`, whose SQLite file is `database`."""

    async def show(_: Request) -> Response:
        return HTMLResponse(PAGE.format(rows="\n".join(map(_row, _requests(database)))))

    console = Console(f"sqlite:///{database}", desk=app.desk)  # for programs on this machine only

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with app, console:
            yield

    routes = [
        Route("/", show),
        Route("/requests", ask, methods=["POST"]),
        Route("/requests/{id}", decide, methods=["POST"]),
        Mount("/console", console),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    said = {ValidationError: say, KeyConflict: say}
    return Starlette(routes=routes, middleware=[hosts], exception_handlers=said, lifespan=lifespan)


async def ask(http: Request) -> Response:
    """Start a saga; its key is what the answer will name it by."""
    name = uuid4().hex[:8]
    await request(Requested.model_validate({**await _form(http), "id": name}), key=name)
    return RedirectResponse("/", 303)


async def decide(http: Request) -> Response:
    """Hand the answer in. It returns once the answer is stored; what comes of it is the saga's."""
    await answer(Answered.model_validate(await _form(http)), key=http.path_params["id"])
    return RedirectResponse("/", 303)


async def say(_: Request, error: Exception) -> Response:
    """Tell what was wrong with a form: a field, or that another answer has been stored before."""
    return PlainTextResponse(str(error), 409 if isinstance(error, KeyConflict) else 400)


async def _form(http: Request) -> dict[str, str]:
    """Return the fields of a form of this page; what another site sends is turned down."""
    if http.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "this form is not from here")
    fields = parse_qs((await http.body()).decode(), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def _requests(database: Path) -> Sequence[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from request order by rowid desc limit 50")]


def _row(request: dict[str, Any]) -> str:
    shown = {name: escape(str(value)) for name, value in request.items()}
    return ROW.format(**shown, more=BUTTONS.format(**shown) if request["state"] == "open" else shown["reason"])
