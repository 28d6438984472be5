"""Keep pages live: send a part of a page again whenever what it shows has changed."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from saga.console.house import House
from saga.errors import SagaError

log = logging.getLogger("saga")

REFRESH_TICKS = 10
"""After so many ticks a part is made anew even if nothing has changed: ages grow."""
BEAT_TICKS = 15
LIFE_TICKS = 600
"""After so many ticks a stream ends; its page asks anew, and has to be let in again."""
FULL_RETRY_MS = 30_000
_LINE = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Be the live part of a page: `mark` is another value once there is something new, `text` makes it."""

    mark: Callable[[], Awaitable[object]]
    text: Callable[[], Awaitable[str]]


def event(name: str, data: str) -> bytes:
    """Return one event; whatever is in `data`, it stays one."""
    lines = "\n".join(f"data: {line}" for line in _LINE.split(data))
    return f"event: {name}\n{lines}\n\n".encode()


class Stream:
    """Be the answer that a live page listens to, until its reader goes, the console closes, or its database is away."""

    def __init__(self, house: House, part: Part) -> None:
        self._house = house
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until somebody ends it."""
        del scope
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        house = self._house
        if house.live >= house.streams:
            full = event("full", "too many pages are live: this one is not")
            await send({"type": "http.response.body", "body": f"retry: {FULL_RETRY_MS}\n".encode() + full})
            return
        house.live += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                async with aclosing(self._events()) as events:
                    async for chunk in events:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()
        finally:
            house.live -= 1

    async def _events(self) -> AsyncGenerator[bytes]:
        part, house = self._part, self._house
        mark: object = None
        sent, ticks = "", 0
        yield b": begin\n\n"
        while not house.closing.is_set() and ticks < LIFE_TICKS:
            try:
                found = await part.mark()
                if ticks % REFRESH_TICKS == 0 or found != mark:
                    mark = found
                    text = await part.text()
                    if text != sent:
                        sent = text
                        yield event("fresh", text)
            except SagaError as error:
                log.warning("a live page ends: %s", error)
                return
            ticks += 1
            if ticks % BEAT_TICKS == 0:
                yield b": beat\n\n"
            with anyio.move_on_after(house.tick_seconds):
                await house.closing.wait()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


Answer = Callable[[House, Request], Awaitable[Stream]]
