"""Run the approval example as its users do: over HTTP, on SQLite and the memory transport."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from examples.approval.travel import SERVICES, Granted
from examples.approval.web import travel_web
from saga._core.ids import saga_id_of
from saga.app import App, Coordinator

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[httpx.AsyncClient]:
    app = App(SERVICES, store=f"sqlite:///{folder}/travel.db", transport="memory://", coordinator=Coordinator())
    web = travel_web(app, folder / "travel.db")
    transport = httpx.ASGITransport(web)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", follow_redirects=True) as client,
    ):
        yield client


async def page_with(client: httpx.AsyncClient, text: str, path: str = "/") -> str:
    """Return a page once it shows something."""
    with anyio.fail_after(60):
        while not re.search(text, page := (await client.get(path)).text):  # noqa: ASYNC110 - rows do not tell
            await anyio.sleep(0.01)
    return page


async def asked(client: httpx.AsyncClient, who: str = "eve") -> str:
    """Ask for money and return where the answer goes."""
    assert (await client.post("/requests", data={"who": who, "amount": "400"})).status_code == 200
    found = re.search('action="(/requests/[0-9a-f]+)"', await page_with(client, "Approve"))
    assert found is not None
    return found[1]


async def test_a_click_completes_the_saga(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        where = await asked(client)
        assert (await client.post(where, data={"by": "ada", "yes": "true"})).status_code == 200
        assert "Approve" not in await page_with(client, "<td>completed</td>")
        other = await client.post(where, data={"by": "bob", "yes": "false"})
        assert (other.status_code, "the first one counts" in other.text) == (409, True)


async def test_a_click_undoes_it_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        where = await asked(client)
    async with opened(tmp_path) as client:
        await client.post(where, data={"by": "bob", "yes": "false"})
        assert "<td>bob said no</td>" in await page_with(client, "<td>compensated</td>")


async def test_the_console_shows_what_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        key = (await asked(client)).rpartition("/")[2]
        await page_with(client, "budget.set_aside", f"/console/sagas/{saga_id_of('travel', '', key)}")


async def test_an_operator_answers_in_the_console(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        key = (await asked(client)).rpartition("/")[2]
        saga_id = saga_id_of("travel", "", key)
        page = await page_with(client, "budget.set_aside", f"/console/sagas/{saga_id}")
        form = {"saga_id": saga_id, "csrf": hidden(page, "csrf"), "why": "ada is ill, asked by phone"}
        form |= {"verb": "skip", "run": "budget.decide"}
        form |= {"result_type": Granted.wire_type, "result": Granted(id=key, by="ada").model_dump_json()}
        headers = {"origin": "http://localhost"}
        told = await client.post("/console/act", data=form, headers=headers)  # what would happen
        assert "sends skip to budget" in told.text
        while 'name="seen"' in told.text:  # asked again where the saga has moved on meanwhile
            form |= {"mode": "do", "seen": hidden(told.text, "seen")}
            told = await client.post("/console/act", data=form, headers=headers)
        await page_with(client, "<td>completed</td>")


def hidden(page: str, name: str) -> str:
    """Return what a hidden field of a form holds."""
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return found[1]


async def test_what_is_shown_is_escaped_and_what_is_sent_is_checked(tmp_path: Path) -> None:
    async with opened(tmp_path) as client:
        where = await asked(client, "<script>")
        page = (await client.get("/")).text
        assert ("<script>" in page, "&lt;script&gt;" in page) == (False, True)
        assert (await client.post("/requests", data={"who": "eve", "amount": "much"})).status_code == 400
        assert (await client.post(where, data={"yes": "true"})).status_code == 400
        elsewhere = {"sec-fetch-site": "cross-site"}
        assert (await client.post(where, data={"by": "x", "yes": "true"}, headers=elsewhere)).status_code == 403
        assert (await client.get("/", headers={"host": "evil.example"})).status_code == 400
        await page_with(client, "<td>open</td>")


@contextmanager
def served(folder: Path, within_seconds: float) -> Generator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.approval", str(port), str(folder)],
        env={**os.environ, "APPROVAL_WITHIN_SECONDS": str(within_seconds), "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM), told
    assert "Traceback" not in told, told


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/")).is_success
    except httpx.TransportError:
        return False


async def test_nobody_answers_and_the_money_is_given_back(tmp_path: Path) -> None:
    with served(tmp_path, within_seconds=1) as url:
        async with httpx.AsyncClient(base_url=url, follow_redirects=True) as client:
            with anyio.fail_after(60):
                while not await answers(client):  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.05)
            await asked(client)
            assert "nobody answered: budget.decide was not done" in await page_with(client, "<td>compensated</td>")
