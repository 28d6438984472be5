"""Look at a console in a real browser, and remember everything it complains about."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from playwright.async_api import ConsoleMessage, Page, Request, async_playwright

from saga._http import Address, serve_http
from saga.console import Console

WAIT_MS = 15_000


@dataclass
class Tab:
    """Be one page of a browser at a console; `complaints` are errors of the page and of its policy."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])

    async def go(self, path: str) -> None:
        """Load a page; streams stay open, so nothing waits for the network to be idle."""
        await self.page.goto(self.base + path, wait_until="load")

    async def sees(self, text: str) -> None:
        """Wait until a text is to be seen; raises TimeoutError of playwright's."""
        await self.page.get_by_text(text).first.wait_for(state="visible", timeout=WAIT_MS)

    async def is_live(self) -> None:
        """Wait until the page says that it is live."""
        await self.page.locator(".live[data-state=on]").wait_for(timeout=WAIT_MS)


@asynccontextmanager
async def browsing(console: Console, program: str, *, scheme: str = "light") -> AsyncGenerator[Tab]:
    """Serve an open console and open a browser on it; raises AssertionError when the page has complained."""
    tab: Tab | None = None
    async with anyio.create_task_group() as tasks:
        at = await tasks.start(serve_http, console, Address(host="127.0.0.1", port=0))
        async with async_playwright() as player:
            browser = await player.chromium.launch(executable_path=program)
            context = await browser.new_context(
                viewport={"width": 1360, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page = await context.new_page()
            page.set_default_timeout(WAIT_MS)
            tab = Tab(page=page, base=f"http://{at}")
            _listen(tab)
            yield tab
            await browser.close()
        tasks.cancel_scope.cancel()
    assert tab is not None
    assert tab.complaints == [], "\n".join(tab.complaints)
    assert [url for url in tab.asked if not url.startswith(tab.base)] == [], "nothing comes from elsewhere"


def _listen(tab: Tab) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            tab.complaints.append(f"{tab.page.url}: {message.type}: {message.text}")

    def asked(request: Request) -> None:
        tab.asked.append(request.url)

    tab.page.on("console", said)
    tab.page.on("pageerror", lambda error: tab.complaints.append(f"{tab.page.url}: {error}"))
    tab.page.on("request", asked)
    tab.page.on("dialog", lambda dialog: tab.complaints.append(f"{tab.page.url}: a script ran: {dialog.message}"))
