"""Hold what a sixth review found of the console: each test has failed before what it found was mended."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from starlette.requests import Request

import saga.console.streams
from outbox.overseeing import beginning
from saga.console import Console, Role, User
from tests.console.test_letting_in import ACT, fill
from tests.console.visiting import listen, visiting

pytestmark = pytest.mark.anyio


@pytest.fixture
async def url(tmp_path: Path) -> str:
    at = f"sqlite:///{tmp_path / 'one.db'}"
    await fill(at)
    return at


async def test_an_origin_that_is_no_address_is_turned_down_and_is_no_fault_of_ours(url: str) -> None:
    async with Console(url) as console, visiting(console) as visitor:
        answer = await visitor.form("/act", ACT, {"origin": "http://["})
        assert answer.status_code == 403


async def test_a_time_at_the_edge_of_what_there_is_is_a_sentence(url: str) -> None:
    async with Console(url) as console, visiting(console) as visitor:
        for time in ("0001-01-01T00:00%2B23:00", "9999-12-31T23:59-23:00"):
            answer = await visitor.get(f"/counts?started_from={time}")
            assert answer.status_code == 400
            assert "is no time" in answer.text


@pytest.mark.parametrize("prefix", ["a\ud7ff", "a\U0010ffff", "a", "\U0010ffff"])
def test_what_begins_with_the_last_of_characters_is_found(prefix: str) -> None:
    first, behind = beginning(prefix)
    assert first.encode() <= f"{prefix}b".encode() < behind.encode()
    assert prefix.encode() < behind.encode()


async def test_a_live_page_has_to_ask_again_after_a_while_whether_it_may_look(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga.console.streams, "LIFE_TICKS", 3)
    async with Console(url, tick_seconds=0.01) as console:
        assert len(await listen(console, "/live/overview", 1_000)) < 10
        with anyio.fail_after(5):
            while console.streams_open:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)


async def test_a_hook_that_knows_nobody_any_more_ends_a_page_that_was_live(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga.console.streams, "LIFE_TICKS", 3)
    known = [User(name="ann", role=Role.READ)]

    async def who(request: Request) -> User | None:
        del request
        return known[0] if known else None

    async with Console(url, tick_seconds=0.01, authenticate=who) as console, visiting(console) as visitor:
        assert await listen(console, "/live/overview", 1_000)
        known.clear()
        assert (await visitor.get("/live/overview")).status_code == 401
