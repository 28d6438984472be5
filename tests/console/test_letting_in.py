"""Let nobody in who may not come: hosts, origins, tokens, roles, sizes, and the headers of every answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from outbox.urls import open_coordination_store
from saga._core.planning import plan_hash, plan_to_json
from saga._core.rows import CoordinatorChanges, PlanRow
from saga.console import Console, Role, User
from saga.errors import SettingsError
from tests.cli.test_verbs import row
from tests.console.visiting import BASE, HTMX, Visitor, text_of, visiting
from tests.core.protocol_examples import PLAIN, START, ran, told
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

ACT = {"saga_id": "s1", "verb": "hold", "why": "so", "mode": "dry_run"}


async def fill(url: str) -> None:
    """Make a coordinator's database with one saga."""
    async with open_coordination_store(url) as coordination:
        await coordination.migrate()
        plan = replace(PLAIN.plan, hash=plan_hash(PLAIN.plan))
        body = plan_to_json(plan)
        await coordination.put_plans([PlanRow(saga=plan.saga, version=1, revision=1, hash=plan.hash, body=body)])
        await coordination.write(CoordinatorChanges(instances=(row("s1", told(PLAIN, ran(START)).instance),)))


@pytest.fixture
async def url(tmp_path: Path) -> str:
    at = f"sqlite:///{tmp_path / 'one.db'}"
    await fill(at)
    return at


async def as_role(request: Request) -> User | None:
    role = request.headers.get("x-role", "")
    return User(name=f"ann {role}", role=Role(role)) if role else None


@asynccontextmanager
async def at_the_door(url: str) -> AsyncGenerator[Visitor]:
    async with Console(url) as console, visiting(console) as visitor:
        yield visitor


# --- hosts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8998", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("[::1]:8998", 200),
        ("console.example.org", 200),
        ("evil.example.org", 421),
        ("127.0.0.1.evil.example.org", 421),
        ("localhost@evil.example.org", 421),
        ("evil.example.org#localhost", 421),
        ("127.0.0.1:port", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_a_name_that_somebody_else_has_pointed_here_is_turned_down(url: str, host: str, status: int) -> None:
    async with Console(url, hosts=["console.example.org"]) as console, visiting(console) as visitor:
        answer = await visitor.get("/", host=host)
        assert answer.status_code == status
        assert ("set-cookie" in answer.headers) is (status == 200)
        assert ("s1" in answer.text) is (status == 200), "whoever is turned down sees nothing"


async def test_two_hosts_are_none(url: str) -> None:
    async with at_the_door(url) as visitor:
        headers = [("host", "localhost"), ("host", "evil.example.org")]
        assert (await visitor.client.get("/", headers=headers)).status_code == 421


# --- who -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["10.0.0.7", "192.168.1.1", "testclient", "::ffff:10.0.0.1"])
async def test_without_a_hook_only_this_machine_may_look(url: str, client: str) -> None:
    async with Console(url) as console, visiting(console, client=(client, 1)) as visitor:
        for path in ("/", "/sagas/s1", "/export", "/static/console.css", "/live/overview"):
            answer = await visitor.get(path)
            assert answer.status_code == 403
            assert "authenticate" in answer.text


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host"])
async def test_a_proxy_on_this_machine_does_not_speak_for_others(url: str, header: str) -> None:
    async with at_the_door(url) as visitor:
        assert (await visitor.get("/", **{header: "10.0.0.7"})).status_code == 403


async def test_a_hook_says_who_may_come_from_anywhere(url: str) -> None:
    console = Console(url, authenticate=as_role, hosts=["c.example"])
    async with console, visiting(console, "http://c.example", ("10.0.0.7", 1)) as visitor:
        assert (await visitor.get("/")).status_code == 401
        answer = await visitor.get("/", **{"x-role": "read"})
        assert answer.status_code == 200
        assert "ann read" in answer.text


@pytest.mark.parametrize(
    ("role", "verb", "status"),
    [
        ("read", "hold", 403),
        ("read", "retry", 403),
        ("operate", "hold", 200),
        ("operate", "skip", 403),
        ("operate", "resolve", 403),
        ("admin", "skip", 200),
    ],
)
async def test_a_role_bounds_what_one_does(url: str, role: str, verb: str, status: int) -> None:
    async with Console(url, authenticate=as_role) as console, visiting(console) as visitor:
        visitor.client.headers["x-role"] = role
        given = ACT | {"verb": verb, "run": "stock.reserve", "verdict": "happened"}
        answer = await visitor.form("/act", given)
        assert answer.status_code == status, text_of(answer)
        many = await visitor.form("/act-on-all", given | {"query": ""})
        assert many.status_code == (400 if verb == "resolve" else status)


async def test_letters_are_replayed_by_who_operates_and_discarded_by_an_admin(url: str) -> None:
    async with Console(url, authenticate=as_role) as console, visiting(console) as visitor:
        for role, act, status in [("read", "replay", 403), ("operate", "replay", 200), ("operate", "discard", 403)]:
            visitor.client.headers["x-role"] = role
            given = {"act": act, "why": "so", "database": "coordinator"}
            assert (await visitor.form("/act-on-letters", given)).status_code == status, (role, act)


async def test_who_may_only_look_is_shown_no_forms(url: str) -> None:
    async with Console(url, authenticate=as_role) as console, visiting(console) as visitor:
        visitor.client.headers["x-role"] = "read"
        for path in ("/sagas", "/sagas/s1", "/dead-letters"):
            assert 'method="post"' not in (await visitor.get(path)).text


# --- forms ---------------------------------------------------------------------------------------------------------


async def test_a_form_needs_its_token_its_cookie_and_its_origin(url: str) -> None:
    async with at_the_door(url) as visitor:
        assert (await visitor.form("/act", ACT)).status_code == 200
        for origin in (
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:8999",
            "https://127.0.0.1:8998.evil.example",
        ):
            answer = await visitor.form("/act", ACT, {"origin": origin})
            assert answer.status_code == 403, origin
            assert "another site" in answer.text
        token = await visitor.token()
        headers = {"origin": BASE}
        assert (await visitor.client.post("/act", data=ACT, headers=headers)).status_code == 403, "no token"
        wrong = {**ACT, "csrf": token[:-1] + ("0" if token[-1] != "0" else "1")}
        assert (await visitor.client.post("/act", data=wrong, headers=headers)).status_code == 403
        by_header = {**headers, "x-saga-csrf": token}
        assert (await visitor.client.post("/act", data=ACT, headers=by_header)).status_code == 200
        visitor.client.cookies.clear()
        assert (await visitor.client.post("/act", data=ACT, headers=by_header)).status_code == 403, "no cookie"


async def test_a_token_is_of_one_browser_one_user_and_one_console(url: str) -> None:
    async with Console(url, authenticate=as_role) as console, visiting(console) as ann, visiting(console) as bob:
        ann.client.headers["x-role"] = bob.client.headers["x-role"] = "operate"
        theirs = await ann.token()
        await bob.token()
        headers = {"origin": BASE, "x-saga-csrf": theirs}
        assert (await bob.client.post("/act", data=ACT, headers=headers)).status_code == 403
        assert (await ann.client.post("/act", data=ACT, headers=headers)).status_code == 200
        ann.client.headers["x-role"] = "admin"
        assert (await ann.client.post("/act", data=ACT, headers=headers)).status_code == 403, "another user by now"
    for name in list(ann.client.cookies.keys()):
        forged = {name: "nonce.0000"}
        async with at_the_door(url) as visitor:
            visitor.client.cookies.update(forged)
            assert (await visitor.client.post("/act", data=ACT, headers=headers)).status_code == 403


async def test_replicas_with_one_secret_know_each_others_forms(url: str) -> None:
    first, second = (Console(url, secret=b"shared by both") for _ in range(2))
    async with first, second, visiting(first) as one, visiting(second) as other:
        token = await one.token()
        other.client.cookies = one.client.cookies
        headers = {"origin": BASE, "x-saga-csrf": token}
        assert (await other.client.post("/act", data=ACT, headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_known(url: str, method: str) -> None:
    async with at_the_door(url) as visitor:
        assert (await visitor.client.request(method, "/act")).status_code == 405


@pytest.mark.parametrize("path", ["/act", "/act-on-all", "/act-on-letters"])
async def test_nothing_is_done_by_a_get(url: str, path: str) -> None:
    async with at_the_door(url) as visitor:
        assert (await visitor.get(f"{path}?saga_id=s1&verb=hold&why=so&mode=do")).status_code in (404, 405)
        assert "held" not in text_of(await visitor.get("/sagas/s1"))


# --- bounds --------------------------------------------------------------------------------------------------------


async def test_what_is_sent_is_bounded(url: str) -> None:
    async with at_the_door(url) as visitor:
        assert (await visitor.form("/act", ACT | {"result": "x" * 70_000})).status_code == 413
        assert (await visitor.get("/sagas?text=" + "x" * 5_000)).status_code == 414
        many = {f"f{number}": "x" for number in range(100)}
        assert (await visitor.form("/act", ACT | many)).status_code == 400
        assert (await visitor.form("/act", ACT | {"why": "x" * 1_001})).status_code == 400

        async def endless() -> AsyncGenerator[bytes]:
            while True:
                yield b"x" * 10_000

        headers = {"origin": BASE, "content-type": "application/x-www-form-urlencoded"}
        assert (await visitor.client.post("/act", content=endless(), headers=headers)).status_code == 413
        headers = {"origin": BASE, "content-type": "application/json", "x-saga-csrf": await visitor.token()}
        assert (await visitor.client.post("/act", content=b"{}", headers=headers)).status_code == 415
        headers = {"origin": BASE, "content-type": "application/x-www-form-urlencoded"}
        assert (await visitor.client.post("/act", content=b"\xff=%ff", headers=headers)).status_code == 400
        assert (await visitor.form("/act", ACT | {"why": "a\x00b"})).status_code == 400
        for zero in ("/sagas/a%00b", "/sagas?text=%00", "/plans/%00"):
            assert (await visitor.get(zero)).status_code == 400


# --- headers -------------------------------------------------------------------------------------------------------


def check_headers(headers: Mapping[str, str]) -> None:
    policy = headers["content-security-policy"]
    for word in ("default-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"):
        assert word in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"


async def test_every_answer_has_the_headers_and_no_page_is_kept(url: str) -> None:
    async with at_the_door(url) as visitor:
        for path in ("/", "/sagas", "/sagas/s1", "/nothing", "/sagas/none", "/export", "/sagas?phase=odd"):
            answer = await visitor.get(path)
            check_headers(answer.headers)
            assert answer.headers["cache-control"] == "no-store"
        check_headers((await visitor.get("/", host="evil.example")).headers)
        kept = await visitor.get("/static/console.css?v=1")
        check_headers(kept.headers)
        assert "immutable" in kept.headers["cache-control"]


async def test_the_cookie_goes_nowhere_else(url: str) -> None:
    async with at_the_door(url) as visitor:
        cookie = (await visitor.get("/")).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/;" in cookie
        assert cookie.startswith("saga_console_8998="), "consoles on one machine share their cookies"
    async with Console(url) as console, visiting(console, "https://localhost") as visitor:
        assert "Secure" in (await visitor.get("/")).headers["set-cookie"]


async def test_over_tls_a_page_without_it_is_another_site(url: str) -> None:
    async with Console(url) as console, visiting(console, "https://localhost") as visitor:
        assert (await visitor.form("/act", ACT)).status_code == 200
        assert (await visitor.form("/act", ACT, {"origin": "http://localhost"})).status_code == 403


# --- mounted -------------------------------------------------------------------------------------------------------


async def test_it_works_below_any_prefix_and_its_links_stay_there(url: str) -> None:
    async with Console(url) as console:
        app = Starlette(routes=[Mount("/ops/saga", console)])
        async with visiting(app) as visitor:
            page = await visitor.get("/ops/saga/sagas/s1")
            assert page.status_code == 200
            assert "Path=/ops/saga;" in page.headers["set-cookie"]
            assert 'href="/sagas' not in page.text
            assert 'src="/static' not in page.text
            assert 'sse-connect="/ops/saga/live/saga?' in page.text
            assert (await visitor.get("/ops/saga/static/console.js")).status_code == 200
            answer = await visitor.form("/ops/saga/act", ACT, HTMX, page="/ops/saga/")
            assert "would happen" in text_of(answer)
            assert 'aria-current="page"' in page.text


async def test_a_console_that_nobody_has_entered_says_what_to_do(url: str) -> None:
    async with visiting(Console(url)) as visitor:
        answer = await visitor.get("/")
        assert answer.status_code == 503
        assert "async with console" in answer.text


async def test_it_opens_and_closes_by_the_lifespan(url: str) -> None:
    console = Console(url)
    sent: list[str] = []
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, str]:
        found = next(asked)
        if found["type"] == "lifespan.shutdown":
            async with visiting(console) as visitor:
                assert (await visitor.get("/")).status_code == 200
        return found

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    await console({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    async with visiting(console) as visitor:
        assert (await visitor.get("/")).status_code == 503


async def test_a_server_that_outlives_whoever_opened_it_does_not_close_it(url: str) -> None:
    console = Console(url, transport=MemoryTransport())
    ended = anyio.Event()
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        if sent:
            await ended.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    async with anyio.create_task_group() as tasks:
        async with console:
            tasks.start_soon(console, {"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
            await anyio.wait_all_tasks_blocked()
        ended.set()
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_database_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        async with Console(f"sqlite:///{tmp_path / 'none.db'}"):
            pass
    with pytest.raises(SettingsError, match="trace_id"):
        Console("sqlite:///one.db", traces="http://jaeger/")
    with pytest.raises(SettingsError, match="http"):
        Console("sqlite:///one.db", traces="javascript:alert(1)//{trace_id}")
