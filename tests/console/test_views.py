"""Look at every view of a shop in which everything has happened, and do what its forms offer."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outbox.urls import open_coordination_store, open_store
from saga._core.rows import Changes
from saga.console import Console, Role, User
from saga.console.streams import event
from tests.console.shop import CANARY, HOSTILE, Captured, OrderPlaced, Town, town_of, until
from tests.console.visiting import Visitor, fault_in, listen, text_of, visiting
from tests.contracts.operating_contract import untold
from tests.contracts.store_rows import put

pytestmark = pytest.mark.anyio

VIEWS = ("timeline", "graph", "sequence", "history", "payloads")


@asynccontextmanager
async def open_shop(folder: Path, **settings: object) -> AsyncGenerator[tuple[Town, Console, Visitor]]:
    """Run a shop that everything has happened in, and open a console on it."""
    async with town_of(folder) as there:
        named: dict[str, Any] = {"services": [there.url], "transport": there.transport, "desk": there.app.desk}
        console = Console(there.url, tick_seconds=0.05, **named, **settings)  # type: ignore[arg-type]
        async with console, visiting(console) as visitor:
            yield there, console, visitor


async def test_every_view_shows_what_has_happened_and_escapes_it(busy_shop: Path) -> None:
    async with open_shop(busy_shop, payloads=Role.ADMIN) as (there, _, visitor):
        words = {
            "/": ["Going forward", "Stuck", "the scales are broken"],
            "/sagas": ["stuck", "held", "the scales are broken"],
            "/counts": ["12 sagas", "compensated 2"],
            "/dead-letters": ["ce_specversion", "inventory", "depot"],
            "/outbox": ["Who publishes"],
            "/breakers": ["gateway", "closed", "100 %"],
            "/consumers": ["The coordinator", "Knows all until", "shipping", "depot"],
            "/topology": ["order.placed.v1", "payment.capture"],
            "/plans": ["checkout v1", "delivery v1", "newest"],
            "/audit": ["ann", "hold", "the customer called"],
        }
        for path, expected in words.items():
            page = await visitor.get(path)
            assert page.status_code == 200, path
            assert fault_in(page.text) == "", path
            for word in expected:
                assert word in text_of(page), (path, word)
        for name, saga_id in there.sagas.items():
            for view in VIEWS:
                page = await visitor.get(f"/sagas/{saga_id}?view={view}")
                assert page.status_code == 200
                assert fault_in(page.text) == "", (name, view)
                assert page.text.count("<svg") >= (2 if view in VIEWS[:3] else 1), (name, view)
        stuck = text_of(await visitor.get(f"/sagas/{there.sagas['stuck']}"))
        assert HOSTILE in stuck, "shown as it is, as text"
        assert "saga retry" in stuck
        plan = re.search(r'href="(/plans/[0-9a-f]+)"', (await visitor.get("/plans")).text)
        assert plan is not None
        assert "inventory.reserve" in text_of(await visitor.get(plan[1]))


async def test_the_list_is_searched_paged_and_taken_away(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        stuck = there.sagas["stuck"]
        for query, sagas in [
            ("phase=stuck", 2),
            ("phase=stuck&phase=closing", 3),
            (f"text={stuck[:8]}", 1),
            ("text=scales+are+broken", 1),
            ("text=office.weigh", 1),
            ("key=order-1001&saga=checkout", 1),
            ("saga=delivery&version=1", 4),
            ("started_from=2126-01-01T00:00", 0),
            ("step=payment.capture&error=no+answer", 1),
        ]:
            page = await visitor.get(f"/sagas?{query}")
            assert page.text.count("<tr>") - 1 == sagas or (sagas == 0 and "No saga matches" in page.text), query
            assert f"{sagas} saga" in text_of(await visitor.get(f"/counts?{query}")), query
            lines = (await visitor.get(f"/export?format=jsonl&{query}")).text.splitlines()
            assert len(lines) == sagas, query
        for wrong in ("phase=odd", "version=one", "started_from=yesterday", "after=nonsense"):
            page = await visitor.get(f"/sagas?{wrong}")
            assert page.status_code == 200
            assert 'role="alert"' in page.text, wrong
        whole = await visitor.get("/export?format=csv")
        assert whole.headers["content-disposition"] == 'attachment; filename="sagas.csv"'
        rows = list(csv.DictReader(io.StringIO(whole.text)))
        assert {row["saga_id"] for row in rows} == set(there.sagas.values())
        line = json.loads((await visitor.get(f"/export?format=jsonl&text={stuck}")).text)
        assert (line["phase"], line["step"]) == ("stuck", "office.weigh")
        assert (await visitor.get("/export?format=pdf")).status_code == 400


async def test_an_end_whose_handler_fails_is_marked_in_the_list_and_can_be_asked_for(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        ended = there.sagas["second"]
        row = replace(untold(ended, 7, "orders"), due_at=datetime.now(UTC) + timedelta(days=1), error=f"down {HOSTILE}")
        async with open_store(there.url) as store:
            await put(store, Changes(insert_deliveries=(row,)), ended)
        page = await visitor.get("/sagas?phase=completed")
        assert page.text.count('<span class="chip bad">on_end fails</span></a>') == 1
        assert "orders, 7 times so far: down &lt;script" in page.text
        for query, sagas in [
            ("on_end=fails", 1),
            ("on_end=fails&phase=completed", 1),
            ("on_end=fails&phase=stuck", 0),
            ("on_end=fails&key=order-1002&saga=checkout", 1),
            ("on_end=fails&key=order-1001&saga=checkout", 0),
            ("on_end=fails&text=order-1002", 1),
            ("on_end=fails&text=scales", 0),
        ]:
            page = await visitor.get(f"/sagas?{query}")
            assert page.text.count("<tr>") - 1 == sagas or (sagas == 0 and "No saga matches" in page.text), query
            assert f"{sagas} saga" in text_of(await visitor.get(f"/counts?{query}")), query
            assert len((await visitor.get(f"/export?format=jsonl&{query}")).text.splitlines()) == sagas, query
        assert 'name="on_end" value="fails" checked' in page.text
        assert 'role="alert"' in (await visitor.get("/sagas?on_end=odd")).text


async def test_a_saga_is_acted_on_after_a_look_at_what_would_happen(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        saga_id = there.sagas["stuck"]
        given = {"saga_id": saga_id, "verb": "retry", "run": "", "why": "the scales are mended", "mode": "dry_run"}
        looked = await visitor.form("/act", given)
        assert "This would happen: retry office.weigh/1of3" in text_of(looked)
        assert await there.phase("stuck") == "stuck", "a look changes nothing"
        seen = re.search(r'name="seen" value="(\d+)"', looked.text)
        assert seen is not None
        there.shop.mended = True
        late = await visitor.form("/act", given | {"mode": "do", "seen": str(int(seen[1]) - 1)})
        assert "has moved on since you looked" in text_of(late)
        assert await there.phase("stuck") == "stuck"
        done = await visitor.form("/act", given | {"mode": "do", "seen": seen[1]})
        assert "Done." in text_of(done)

        async def is_undone() -> bool:
            return await there.phase("stuck") == "compensated"

        await until(is_undone, "the stuck saga is undone")
        assert "the scales are mended" in text_of(await visitor.get("/audit"))
        refused = await visitor.form("/act", given)
        assert "Cannot retry." in text_of(refused)
        for wrong in ({"verb": "drop"}, {"why": " "}, {"verb": "skip"}, {"verb": "resolve", "run": "a.b"}):
            assert (await visitor.form("/act", given | wrong)).status_code == 400, wrong
        odd = {"verb": "skip", "run": "office.weigh", "result_type": "a.v1", "result": "{"}
        assert "no JSON" in text_of(await visitor.form("/act", given | odd))
        assert (await visitor.form("/act", given | {"saga_id": "none"})).status_code == 404


async def test_a_result_is_held_against_its_class_where_that_is_known(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        given = {"saga_id": there.sagas["doubt"], "verb": "resolve", "run": "payment.capture", "verdict": "happened"}
        given |= {"why": "the gateway says so", "result_type": "payment.captured.v1", "result": '{"order": "1"}'}
        looked = text_of(await visitor.form("/act", given))
        assert "Cannot resolve. the result does not fit payment.captured.v1: parcel: Field required" in looked
        looked = text_of(await visitor.form("/act", given | {"result": '{"order": "1", "parcel": "ok"}'}))
        assert "This would happen: resolve payment.capture" in looked
    for events, words in (((), "payment checks it when it gets it"), ((Captured,), "parcel: Field required")):
        async with (
            town_of(busy_shop) as there,
            Console(there.url, events=events) as console,
            visiting(console) as visitor,
        ):
            assert words in text_of(await visitor.form("/act", given)), events


async def test_every_verb_is_done_by_the_name_of_who_asks(busy_shop: Path) -> None:
    async def ann(_: object) -> User:
        return User(name="ann@example.org", role=Role.ADMIN)

    async with open_shop(busy_shop, authenticate=ann) as (there, _, visitor):
        there.shop.mended = True
        for name, verb, more in [
            ("held", "release", {}),
            ("running", "hold", {}),
            ("committed", "retry", {}),
            ("waiting", "cancel", {}),
            ("stuck", "skip", {"run": "office.weigh/1of3"}),
            ("doubt", "resolve", {"run": "payment.capture", "verdict": "not_happened"}),
        ]:
            given = {"saga_id": there.sagas[name], "verb": verb, "why": f"try {verb}", **more}
            looked = await visitor.form("/act", given)
            seen = re.search(r'name="seen" value="(\d+)"', looked.text)
            assert seen is not None, (verb, text_of(looked))
            done = await visitor.form("/act", given | {"mode": "do", "seen": seen[1]})
            assert "Done." in text_of(done), (verb, text_of(done))
        trail = text_of(await visitor.get("/audit?who=ann@example.org"))
        for verb in ("release", "hold", "retry", "cancel", "skip", "resolve"):
            assert f"try {verb}" in trail


async def test_all_that_match_are_acted_on_page_by_page(busy_shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.console.many.PAGE", 2)
    async with open_shop(busy_shop) as (_, __, visitor):
        given = {"query": "saga=delivery", "verb": "hold", "why": "all of them", "mode": "dry_run"}
        looked = text_of(await visitor.form("/act-on-all", given))
        assert "hold would go to 4 sagas" in looked
        assert "Of the newest 2" in looked
        sofar: dict[str, str] = {}
        for expected in ("2 sagas so far:", "4 sagas:"):
            done = await visitor.form("/act-on-all", given | {"mode": "do"} | sofar)
            assert expected in text_of(done)
            sofar = dict(re.findall(r'name="(after|so_far_\w+)" value="([^"]*)"', done.text))
        held = text_of(await visitor.get("/sagas?saga=delivery&phase=running"))
        assert held.count(" held ") == 2
        assert text_of(await visitor.get("/audit")).count("all of them") == 2, "those that were not held or ended"
        everything = await visitor.form("/act-on-all", given | {"query": ""})
        assert "to every saga there is" in text_of(everything)


async def test_dead_letters_are_looked_at_replayed_and_discarded(busy_shop: Path) -> None:
    async with open_shop(busy_shop, payloads=Role.ADMIN) as (_, __, visitor):
        group = re.search(r'data-row="group 1" href="([^"]+)"', (await visitor.get("/dead-letters")).text)
        assert group is not None
        page = await visitor.get(group[1].replace("&amp;", "&"))
        assert page.text.count('data-row="coordinator ') == 3
        letter = re.search(r'href="(/dead-letters/coordinator/(\d+))"', page.text)
        assert letter is not None
        shown = await visitor.get(letter[1])
        assert fault_in(shown.text) == ""
        assert "ce_specversion is missing" in text_of(shown)
        given = {"act": "discard", "ids": letter[2], "database": "coordinator", "why": "nonsense"}
        assert "1 letter would be deleted for good" in text_of(await visitor.form("/act-on-letters", given))
        assert "1 letter discarded" in text_of(await visitor.form("/act-on-letters", given | {"mode": "do"}))
        assert (await visitor.get(letter[1])).status_code == 404
        rest = {"act": "replay", "database": "coordinator", "service": "depot", "why": "try again"}
        looked = await visitor.form("/act-on-letters", rest)
        up_to = re.search(r'name="up_to" value="(\d+)"', looked.text)
        assert up_to is not None
        done = text_of(await visitor.form("/act-on-letters", rest | {"mode": "do", "up_to": up_to[1]}))
        assert "replayed" in done
        trail = text_of(await visitor.get("/audit"))
        assert "nonsense" in trail
        assert "try again" in trail
        assert (await visitor.form("/act-on-letters", rest | {"database": "none"})).status_code == 400
        assert (await visitor.form("/act-on-letters", rest | {"ids": "1 or 1"})).status_code == 400


async def test_payloads_are_shown_to_whom_they_may_be(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        path = f"/sagas/{there.sagas['completed']}?view=payloads"
        assert there.sagas["completed"] in text_of(await visitor.get(path))
        assert "this console shows no payloads" in text_of(await visitor.get(path))
        async with Console(there.url, services=[there.url], payloads=Role.READ) as other, visiting(other) as reader:
            assert "nobody here knows which fields are marked" in text_of(await reader.get(path))
        told = Console(there.url, services=[there.url], payloads=Role.READ, events=[OrderPlaced])
        async with told, visiting(told) as reader:
            page = await reader.get(path)
            assert '"order": "1001"' in text_of(page)
            assert "Fields marked PII or Secret are not shown" in text_of(page)


async def test_what_is_marked_is_on_no_page(busy_shop: Path) -> None:
    async with open_shop(busy_shop, payloads=Role.ADMIN, events=[OrderPlaced]) as (there, _, visitor):
        pages = ["/", "/sagas", "/dead-letters", "/audit", "/outbox", "/export"]
        for saga_id in there.sagas.values():
            pages += [f"/sagas/{saga_id}?view={view}" for view in VIEWS]
        for path in pages:
            assert CANARY not in (await visitor.get(path)).text, path


async def test_a_live_page_is_told_what_has_changed(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, console, visitor):
        saga_id = there.sagas["running"]
        page = await visitor.get(f"/sagas/{saga_id}")
        live = re.search(r'sse-connect="([^"]+)"', page.text)
        assert live is not None
        (first,) = await listen(console, live[1].replace("&amp;", "&"), 1)
        assert first.startswith("event: fresh\ndata: ")
        for name in ("overview", "sagas", "letters", "outbox", "breakers", "consumers", "topology", "plans", "audit"):
            (event_,) = await listen(console, f"/live/{name}", 1)
            assert "event: fresh" in event_


async def test_streams_are_bounded_and_end_with_the_console(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with open_coordination_store(url) as coordination, open_store(url) as store:
        await coordination.migrate()
        await store.migrate()
    async with Console(url, streams=0) as console:
        (full,) = await listen(console, "/live/overview", 1)
        assert full.startswith("retry: ")
        assert "event: full" in full


def test_what_is_in_an_event_cannot_end_it() -> None:
    sent = event("fresh", "one\n\nevent: evil\rdata: x\r\ndata: y").decode()
    assert sent == "event: fresh\ndata: one\ndata: \ndata: event: evil\ndata: data: x\ndata: data: y\n\n"


async def test_where_nothing_is_the_page_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with open_coordination_store(url) as coordination:
        await coordination.migrate()
    async with Console(url) as console, visiting(console) as visitor:
        for path, word in [
            ("/", "Start one, and it shows up here"),
            ("/sagas", "There is no saga yet"),
            ("/sagas?text=nothing", "No saga matches"),
            ("/dead-letters", "There is no dead letter"),
            ("/dead-letters?step=a.b", "No letter matches"),
            ("/plans", "No plan is stored"),
            ("/topology", "No plan is known"),
            ("/sagas?q=nothing", "No saga matches"),
            ("/breakers", "once the console is told where the broker is"),
            ("/consumers", "--transport kafka://"),
            ("/audit", "Nobody has done anything yet"),
            ("/audit?who=bob", "Nothing matches"),
        ]:
            page = await visitor.get(path)
            assert page.status_code == 200
            assert word in text_of(page), path
