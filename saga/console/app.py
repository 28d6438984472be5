"""Offer the console as one object: an ASGI app to serve or to mount, which opens what it reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from typing import Self

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saga._core.events import Event, Refusal
from saga._runtime.trouble import unquoted
from saga.console.guard import Guard
from saga.console.house import House, NotAllowed, NotHere, Shared
from saga.console.people import Authenticate, Role
from saga.console.reading import Reader
from saga.console.rendering import Pages, in_htmx
from saga.console.routes import router
from saga.console.tokens import Tokens
from saga.desk import SagaDesk
from saga.errors import Conflict, Contended, SagaError, SettingsError, StoreUnavailable, TransportUnavailable
from saga.ports import Transport

log = logging.getLogger("saga")

STREAMS = 50
TITLES = {
    400: "That cannot be asked",
    401: "Who is there?",
    403: "Not allowed",
    404: "Not found",
    405: "Not known",
    409: "Not possible now",
    413: "Too large",
    414: "Too long",
    415: "Not a form",
    421: "Not this host",
    500: "An error of the console's",
    503: "Cannot be reached",
}


class Console:
    """Show and act on the sagas of one coordinator: an ASGI app, and an async context manager that opens it.

    `coordinator` is the URL of the coordinator's database, `services` are those of the services' databases and
    `transport` is the broker's; what is not named is not shown. Served by itself it opens by the lifespan protocol.
    Mounted in another app it must be entered by that app's lifespan: `async with console:`.

    Without `authenticate` only programs on this machine may look, and they may do everything. `hosts` are the names it
    goes by, beside those of this machine. `payloads` is the role that may see payloads, None for nobody; fields marked
    `PII` or `Secret` stay hidden, by the classes in `events`. `traces` is where traces are shown, such as
    `http://127.0.0.1:16686/trace/{trace_id}`. `secret` signs forms: replicas behind one address share it. `desk` makes
    what acts, such as `app.desk`; then what is done goes out at once. At most `streams` pages are live, and look for
    news every `tick_seconds`.
    """

    def __init__(
        self,
        coordinator: str,
        *,
        services: Sequence[str] = (),
        transport: str | Transport = "",
        events: Iterable[type[Event | Refusal]] = (),
        authenticate: Authenticate | None = None,
        hosts: Sequence[str] = (),
        payloads: Role | None = None,
        traces: str = "",
        secret: bytes = b"",
        desk: Callable[[], SagaDesk] | None = None,
        streams: int = STREAMS,
        tick_seconds: float = 1.0,
    ) -> None:
        """Check the settings without connecting; raises SettingsError."""
        if traces and ("{trace_id}" not in traces or not traces.startswith(("http://", "https://"))):
            raise SettingsError(f"traces={traces!r}: write an http address with {{trace_id}} in it")
        self._reads = (coordinator, tuple(services), transport, tuple(events))
        self._desk = desk or partial(SagaDesk, coordinator, events=self._reads[3])
        self._payloads = payloads
        self._streams = streams
        self._tick_seconds = tick_seconds
        self._pages = Pages(traces)
        self._router = router(self._open_house)
        self._guard = Guard(
            self._answer, authenticate=authenticate, hosts=hosts, tokens=Tokens(secret), say=self._turn_down
        )
        self._house: House | None = None
        self._stack: AsyncExitStack | None = None
        self._entered = 0

    # --- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the databases; raises SettingsError, StoreUnavailable. Entered again it only counts."""
        if not self._entered:
            async with AsyncExitStack() as stack:
                coordinator, services, transport, events = self._reads
                reader = Reader(coordinator, services=services, transport=transport, events=events)
                await stack.enter_async_context(reader)
                desk = await stack.enter_async_context(self._desk())
                self._house = House(
                    reader=reader,
                    pages=self._pages,
                    desk=desk,
                    payloads=self._payloads,
                    streams=self._streams,
                    tick_seconds=self._tick_seconds,
                    overview=Shared(reader.overview, self._tick_seconds / 2),
                    changes=Shared(reader.changes, self._tick_seconds / 2),
                )
                self._stack = stack.pop_all()
        self._entered += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._entered -= 1
        if self._entered or self._stack is None:
            return
        stack, self._stack = self._stack, None
        house, self._house = self._house, None
        if house is not None:
            house.closing.set()
        await stack.aclose()

    def _open_house(self) -> House:
        if self._house is None:
            raise StoreUnavailable(
                "the console is not open: enter it in the lifespan of the app, `async with console:`"
            )
        return self._house

    @property
    def streams_open(self) -> int:
        """Return how many pages are live."""
        return self._house.live if self._house is not None else 0

    # --- ASGI ----------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            # An app that this one is mounted in may handle exceptions; ours are not its.
            inner = {name: value for name, value in scope.items() if name != "starlette.exception_handlers"}
            await self._guard(inner, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        # Whoever has opened it closes it: what it reads with has to be closed by the task that opened it.
        owns = not self._entered
        try:
            if owns:
                await self.__aenter__()
        except SagaError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            if owns:
                await self.__aexit__()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        request = Request(scope)
        try:
            await self._router(scope, receive, watched)
        except SagaError as error:
            if began:
                raise
            said = self._say(request, _status_of(error), str(error))
            await said(scope, receive, send)
        except Exception as error:
            cannot = "the console cannot answer %s %s"
            log.error(cannot, request.method, request.url.path, exc_info=unquoted(error))  # noqa: TRY400 - no rows
            if began:
                raise
            sentence = "the log of the process says what went wrong"
            await self._say(request, HTTPStatus.INTERNAL_SERVER_ERROR, sentence)(scope, receive, send)

    async def _turn_down(self, request: Request, status: int, sentence: str) -> ASGIApp:
        return self._say(request, status, sentence)

    def _say(self, request: Request, status: int, sentence: str) -> HTMLResponse:
        template = "_told.html" if in_htmx(request) else "told.html"
        title = TITLES.get(status, "Not possible")
        return self._pages.page(request, template, {"title": title, "sentence": sentence}, status=status)


def _status_of(error: SagaError) -> int:
    match error:
        case NotHere():
            return HTTPStatus.NOT_FOUND
        case NotAllowed():
            return HTTPStatus.FORBIDDEN
        case SettingsError():
            return HTTPStatus.BAD_REQUEST
        case StoreUnavailable() | TransportUnavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case Conflict() | Contended():
            return HTTPStatus.CONFLICT
        case _:
            return HTTPStatus.CONFLICT
