"""Show what an attacker has put into every field that can be stored: as text, in every view, in a browser too."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from outbox.urls import open_coordination_store, open_store
from saga._core.audit import AuditRow
from saga._core.bodies import RefusalData, RunFact
from saga._core.envelope import Delivery
from saga._core.instance import Phase, new_instance
from saga._core.plan import PlanStep
from saga._core.planning import plan_hash, plan_to_json
from saga._core.rows import CoordinatorChanges, DeliveryRow, InstanceRow, OutboxRow, PlanRow
from saga._core.stored_instance import instance_row
from saga._core.words import Cause, Reason, RunStatus
from saga.console import Console, Role
from tests.console.browsing import browsing
from tests.console.test_views import VIEWS
from tests.console.visiting import fault_in, listen, visiting
from tests.core.protocol_examples import PLAIN

pytestmark = pytest.mark.anyio

EVIL = "</script></title></svg></textarea>\"'><img src=x onerror=alert(1)><script>alert('x')</script>{{7*7}}javascript:"
SAGA_ID = f"a/../b?c#d {EVIL}"
NOW = datetime.now(UTC)


def evil_instance(plan: str) -> InstanceRow:
    fact = RunFact(
        step=f"stock.{EVIL}",
        branch=EVIL,
        status=RunStatus.FAILED,
        causes=(),
        emits=(EVIL,),
        at=NOW,
        attempts=3,
        refusal=RefusalData(type=EVIL, data=b"{}"),
        error=EVIL,
    )
    instance = replace(
        new_instance(SAGA_ID, NOW + timedelta(days=1)),
        phase=Phase.CLOSING,
        runs={fact.key: fact},
        cause=Cause.FAILED,
        detail=EVIL,
        stuck=Cause.UNDO_FAILED,
        stuck_detail=EVIL,
    )
    return instance_row(instance, saga=EVIL, version=1, plan=plan, tenant=EVIL, partition=0, revision=0, started_at=NOW)


def evil_letter() -> DeliveryRow:
    raw = Delivery(topic=EVIL, partition=0, offset=1, key=EVIL.encode(), value=EVIL.encode(), headers=((EVIL, b"x"),))
    return DeliveryRow(
        service=EVIL,
        saga_id=SAGA_ID,
        due_at=NOW,
        reason=Reason.DEAD,
        error=EVIL,
        step=EVIL,
        message_id=EVIL,
        raw=raw,
    )


async def fill(url: str) -> str:
    """Make a database in which every text is an attack."""
    first: PlanStep = PLAIN.plan.steps[0]
    step = replace(first, name=f"stock.{EVIL}", calls=EVIL, refuses=(EVIL,))
    plan = replace(PLAIN.plan, saga=EVIL, start_event=EVIL, steps=(step, *PLAIN.plan.steps[1:]))
    plan = replace(plan, hash=plan_hash(plan))
    outbox = OutboxRow(
        id="1", aggregatetype=EVIL, aggregateid=EVIL, type=EVIL, payload=b"{}", service=EVIL, record=None
    )
    audit = AuditRow(
        at=NOW, who=EVIL, why=EVIL, verb=EVIL, saga_id=SAGA_ID, target=EVIL, before=b"null", after=b'{"x": "%b"}' % b"y"
    )
    async with open_coordination_store(url) as coordination, open_store(url) as store:
        await coordination.migrate()
        await store.migrate()
        row = PlanRow(saga=EVIL, version=1, revision=1, hash=plan.hash, body=plan_to_json(plan))
        await coordination.put_plans([row])
        changes = CoordinatorChanges(
            instances=(evil_instance(plan.hash),), outbox=(outbox,), dead=(evil_letter(),), audits=(audit,)
        )
        await coordination.write(changes)
    return url


def paths_of(page: str) -> list[str]:
    saga = f"/sagas/{quote(SAGA_ID, safe='')}"
    found = re.findall(r'href="(/(?:plans|dead-letters)/[^"]+)"', page)
    return [*(f"{saga}?view={view}" for view in VIEWS), *(path.replace("&amp;", "&") for path in found)]


PLACES = ("/", "/sagas", "/dead-letters", "/outbox", "/breakers", "/consumers", "/topology", "/plans", "/audit")


async def test_every_view_shows_it_as_text(tmp_path: Path) -> None:
    url = await fill(f"sqlite:///{tmp_path / 'evil.db'}")
    async with Console(url, services=[url], payloads=Role.READ) as console, visiting(console) as visitor:
        seen = 0
        pages = list(PLACES)
        for path in pages:
            answer = await visitor.get(path)
            # A plan of such names cannot be read, and is not there.
            assert answer.status_code == (404 if path.startswith("/plans/") else 200), path
            assert "<img" not in answer.text, path
            assert "49javascript" not in answer.text, "a template within a template"
            assert fault_in(answer.text) == "", path
            seen += "&lt;img src=x onerror=alert(1)&gt;" in answer.text
            pages += [each for each in paths_of(answer.text) if each not in pages] if path in PLACES else []
        assert seen >= len(pages) - 4, "breakers, consumers, topology and the plan hold nothing of it"
        for echo in (f"/sagas?text={quote(EVIL)}", f"/sagas?phase={quote(EVIL)}", f"/audit?who={quote(EVIL)}"):
            answer = await visitor.get(echo)
            assert "<img" not in answer.text, echo
        done = await visitor.form("/act", {"saga_id": SAGA_ID, "verb": "skip", "run": EVIL, "why": EVIL})
        assert "<img" not in done.text
        table = (await visitor.get("/export")).text
        assert "\n'" not in table
        for name in ("overview", "sagas", "letters", "audit", f"saga?id={quote(SAGA_ID)}"):
            (event,) = await listen(console, f"/live/{name}", 1)
            assert "<img" not in event
            assert event.count("event:") == 1


ODD: tuple[object, ...] = (
    10**30,
    {"coordinator": 10**30},
    {"coordinator": "x"},
    None,
    [],
    "x",
    ["x", "y"],
    [None, 5],
    {"x": -1},
    [1.5],
)
ASKED = (
    *("/dead-letters/coordinator/99999999999999999999999", "/dead-letters/none/1", "/sagas/", "/sagas/%ff"),
    *("/by-trace/" + "a" * 300, "/by-trace/%2e%2e", "/plans/x", "/static/", "/static/..%2fapp.py", "/sagas/x?view=odd"),
    *("/sagas?version=-1", "/sagas?version=99999999999", "/sagas?started_from=0001-01-01", "/sagas?saga_id=ab"),
    *("/sagas?ended_before=9999-12-31T23:59:59%2B00:00", "/sagas?key=%ff", "/sagas?text=" + "x" * 201),
    *("/dead-letters?database=none", "/export?phase=odd", "/counts?phase=odd", "/sagas?after=" + "A" * 700),
)


@pytest.mark.postgres
async def test_on_postgresql_too_nothing_that_is_asked_is_an_error_of_ours(database: str) -> None:
    await fill(database)
    async with Console(database, services=[database], payloads=Role.READ) as console, visiting(console) as visitor:
        for path in (*PLACES, *paths_of("")):
            answer = await visitor.get(path)
            assert (answer.status_code, fault_in(answer.text)) == (200, ""), path
        tokens = [urlsafe_b64encode(json.dumps(odd).encode()).decode().rstrip("=") for odd in ODD]
        pages = [f"{place}?after={token}" for place in ("/sagas", "/dead-letters", "/audit") for token in tokens]
        for path in (*ASKED, *pages):
            assert (await visitor.get(path)).status_code < 500, path
        act = {"act": "replay", "why": "x", "database": "coordinator", "after": "9" * 18, "up_to": "9" * 18}
        assert (await visitor.form("/act-on-letters", act)).status_code == 200


@pytest.mark.browser
async def test_in_a_browser_nothing_of_it_runs(tmp_path: Path, browser: str) -> None:
    url = await fill(f"sqlite:///{tmp_path / 'evil.db'}")
    console = Console(url, services=[url], payloads=Role.READ, tick_seconds=0.1)
    async with console, browsing(console, browser) as tab:
        for path in (*PLACES, *paths_of("")):
            await tab.go(path)
            await tab.is_live()
            assert await tab.page.locator("img").count() == 0, path
        await tab.go("/sagas")
        await tab.page.locator("#listing [data-row]").first.click()
        await tab.sees("Act on this saga")
