"""Ask a console in the same process as a browser would: cookies, tokens, forms, streams."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import anyio
import httpx

from saga.console import Console

BASE = "http://127.0.0.1:8998"
HTMX = {"hx-request": "true"}


class Visitor:
    """Be a browser with its cookies; `get` and `post` return answers, `form` sends what a page's token allows."""

    def __init__(self, client: httpx.AsyncClient, base: str) -> None:
        self.client = client
        self.base = base

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def token(self, path: str = "/") -> str:
        found = re.search(r'"x-saga-csrf": "([0-9a-f]+)"', (await self.get(path)).text)
        assert found is not None
        return found[1]

    async def form(
        self, path: str, given: Mapping[str, str], headers: Mapping[str, str] = HTMX, page: str = "/"
    ) -> httpx.Response:
        sent = {"origin": self.base, **headers}
        return await self.client.post(path, data={"csrf": await self.token(page), **given}, headers=sent)


@asynccontextmanager
async def visiting(
    app: Any, base: str = BASE, client: tuple[str, int] = ("127.0.0.1", 5000)
) -> AsyncGenerator[Visitor]:
    """Visit an open console, or an app it is mounted in."""
    transport = httpx.ASGITransport(app, client=client)
    async with httpx.AsyncClient(transport=transport, base_url=base) as there:
        yield Visitor(there, base)


class Faults(HTMLParser):
    """Find what only an attacker can have put into a page, or what its policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        inline = tag == "script" and "src" not in given
        evil = [
            name
            for name, value in attrs
            if name.startswith(("on", "hx-on")) or name == "style" or _scheme(name, value or "") == "javascript"
        ]
        if tag in ("img", "style", "iframe", "object", "base") or inline or evil:
            self.found.append(f"{self.getpos()}: <{tag} {' '.join(given)}>")


def _scheme(name: str, value: str) -> str:
    return value.strip().lower().partition(":")[0] if name in ("href", "src", "action", "xlink:href", "hx-get") else ""


def fault_in(page: str) -> str:
    """Return where a page has what must not be in it, "" for nowhere."""
    faults = Faults()
    faults.feed(page)
    return "; ".join(faults.found)


def text_of(answer: httpx.Response) -> str:
    """Return the words of a page without its tags, as a reader sees them."""
    body = re.sub(r"<[^>]*>", " ", answer.text.split("<main", 1)[-1])
    return re.sub(r"\s+", " ", html.unescape(body))


async def listen(console: Console, path: str, events: int, *, seconds: float = 5.0) -> list[str]:
    """Read the first events of a stream as text, then hang up."""
    received: list[str] = []
    done = anyio.Event()
    buffer = ""

    async def receive() -> dict[str, Any]:
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal buffer
        buffer += message.get("body", b"").decode()
        while "\n\n" in buffer:
            chunk, buffer = buffer.split("\n\n", 1)
            if "event:" in chunk:
                received.append(chunk)
        if len(received) >= events or message.get("more_body") is False:
            done.set()

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"host", b"127.0.0.1:8998")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8998),
    }
    with anyio.fail_after(seconds):
        await console(scope, receive, send)
    return received
