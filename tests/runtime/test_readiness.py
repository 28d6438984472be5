"""An app says what it is ready for, and what is missing; `/livez` and `/readyz` say it over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from trio.testing import MockClock

from saga import StoreUnavailable, TransportUnavailable
from saga._core.readiness import Check, CheckState, Readiness
from saga._http import Asgi
from saga.app import App
from saga.health import health_app
from tests.runtime.world import Running, World, running
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


NAMES = ["app", "store", "coordinator store", "transport", "plans"]
SERVICES = ["orders", "inventory", "payment", "shipping"]


def failed(found: Readiness) -> dict[str, str]:
    """Return the reasons of what is not well."""
    return {check.name: check.reason for check in found.checks if check.state is CheckState.FAILED}


async def joined(up: Running) -> Readiness:
    """Return the first answer after everybody has had the time to join."""
    await anyio.sleep(5)
    return await up.app.readiness()


async def test_an_app_that_is_up_is_ready() -> None:
    async with running(World()) as up:
        found = await joined(up)
        assert [check.name for check in found.checks] == [*NAMES, *(f"service {s}" for s in SERVICES), "coordinator"]
        assert (found.is_ready, failed(found)) == (True, {})
    assert failed(await up.app.readiness()) == {"app": "is down"}


async def test_a_coming_up_app_says_what_it_waits_for() -> None:
    transport = MemoryTransport()
    app = App(World().services, store="sqlite:///:memory:", transport=transport, plans_timeout_seconds=3_600)
    async with transport, anyio.create_task_group() as tasks:

        async def live() -> None:
            async with app:
                pass

        tasks.start_soon(live)
        await anyio.sleep(1)
        found = failed(await app.readiness())
        assert found["app"] == "is starting, waiting for its plans"
        assert "inventory: no plan published for checkout.v1" in found["plans"]
        assert set(found) == {"app", "plans"}
        tasks.cancel_scope.cancel()
    assert failed(await app.readiness()) == {"app": "is down"}


async def test_a_database_that_is_away_and_a_broker_that_is_silent_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(World()) as up:
        await joined(up)

        async def away(_: object) -> None:
            raise StoreUnavailable("the database is away")

        async def silent(_: object) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(up.store, "committed", away)
        monkeypatch.setattr(up.transport, "ensure_topics", silent)
        await anyio.sleep(1)
        found = await up.app.readiness()
        assert failed(found) == {"store": "the database is away", "transport": "no answer within 2 s"}
        assert next(check.seconds for check in found.checks if check.name == "transport") == 2.0


async def test_an_answer_counts_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(World()) as up:
        await joined(up)
        asked = 0

        async def counted(_: object) -> None:
            nonlocal asked
            asked += 1

        monkeypatch.setattr(up.transport, "ensure_topics", counted)
        await anyio.sleep(1)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(up.app.readiness)
        assert asked == 1
        await anyio.sleep(1)
        await up.app.readiness()
        assert asked == 2


async def test_a_service_that_has_not_joined_its_group_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = MemoryTransport.subscribe

    def shut(self: MemoryTransport, group: Any, **how: Any) -> Any:
        if group.name == "payment":
            raise TransportUnavailable("no coordinator for the group")
        return inside(self, group, **how)

    monkeypatch.setattr(MemoryTransport, "subscribe", shut)
    async with running(World()) as up:
        assert failed(await joined(up)) == {
            "service payment": "has not joined its group; the log says why, if it lasts"
        }


# --- over HTTP --------------------------------------------------------------------------------------------------


class Saying:
    """Be an app whose readiness is given."""

    def __init__(self, *checks: Check) -> None:
        self.found = Readiness(checks=checks)

    async def readiness(self) -> Readiness:
        return self.found


@asynccontextmanager
async def asking(app: Asgi) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        yield client


WELL = Check(name="store", seconds=0.25)
ILL = Check(name="plans", state=CheckState.FAILED, reason="no plan published")


async def test_livez_asks_nobody() -> None:
    async with asking(health_app(Saying(ILL))) as client:
        answer = await client.get("/livez")
        assert (answer.status_code, answer.json()) == (200, {"alive": True})


async def test_readyz_is_200_when_all_is_well() -> None:
    async with asking(health_app(Saying(WELL))) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "ready": True,
        "checks": [{"name": "store", "state": "ok", "reason": "", "seconds": 0.25}],
    }


async def test_readyz_is_503_with_the_reasons_when_something_is_not() -> None:
    async with asking(health_app(Saying(WELL, ILL))) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert answer.json()["checks"][1] == {
            "name": "plans",
            "state": "failed",
            "reason": "no plan published",
            "seconds": 0.0,
        }
        head = await client.head("/readyz")
        assert (head.status_code, head.content) == (503, b"")
        assert int(head.headers["content-length"]) == len(answer.content)


async def test_other_paths_and_methods_are_turned_away() -> None:
    async with asking(health_app(Saying(WELL))) as client:
        assert (await client.get("/")).status_code == 404
        answer = await client.post("/readyz")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_it_can_be_mounted_below_a_prefix() -> None:
    site = Starlette(routes=[Mount("/saga", app=health_app(Saying(WELL)))])
    async with asking(site) as client:
        assert (await client.get("/saga/livez")).status_code == 200
        assert (await client.get("/saga/readyz/")).status_code == 200
        assert (await client.get("/saga/other")).status_code == 404


async def test_a_real_app_answers() -> None:
    async with running(World()) as up, asking(health_app(up.app)) as client:
        await joined(up)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
