"""Use the console as a person does: in a browser, with mouse and keys, while sagas go on."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest

from saga.console import Console, Role
from tests.console.browsing import Tab, browsing
from tests.console.shop import HOSTILE, OrderPlaced, Town, spoil, town_of, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

# In one go: between two questions a live update may have put another element in its place.
WHERE_THE_PANEL_IS = "JSON.stringify(document.querySelector('.panel').getBoundingClientRect())"

PAGE_BYTES = 200_000


@asynccontextmanager
async def at_the_shop(folder: Path, browser: str) -> AsyncGenerator[tuple[Town, Tab]]:
    """Run the busy shop and look at it."""
    async with town_of(folder) as there:
        console = Console(
            there.url,
            services=[there.url],
            transport=there.transport,
            desk=there.app.desk,
            payloads=Role.ADMIN,
            traces="http://127.0.0.1:16686/trace/{trace_id}",
            tick_seconds=0.1,
        )
        async with console, browsing(console, browser) as tab:
            yield there, tab


async def test_every_view_is_drawn_without_a_complaint(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        for path, word in [
            ("/", "Going forward"),
            ("/sagas", "12 sagas"),
            ("/dead-letters", "By what they died of"),
            ("/outbox", "Who publishes"),
            ("/breakers", "gateway"),
            ("/consumers", "shipping"),
            ("/topology", "Who hears whom"),
            ("/plans", "delivery v1"),
            ("/audit", "the customer called"),
        ]:
            await tab.go(path)
            await tab.sees(word)
            await tab.is_live()
        for name in ("completed", "compensated", "closing", "doubt", "fan-out", "held", "stuck", "waiting"):
            for view in ("timeline", "graph", "sequence", "history", "payloads"):
                await tab.go(f"/sagas/{there.sagas[name]}?view={view}")
                await tab.sees("Act on this saga")
                drawings = await tab.page.locator(".drawing svg").count()
                assert drawings == (view in ("timeline", "graph", "sequence")), (name, view)


async def test_a_live_page_shows_what_happens_while_one_looks(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        await tab.go("/")
        await tab.is_live()
        letters = tab.page.locator("a.card", has_text="Dead letters").locator("b")
        assert await letters.inner_text() == "6"
        top = await tab.page.evaluate(WHERE_THE_PANEL_IS)
        await spoil(there)
        await tab.page.locator("a.card", has_text="Dead letters").locator("b", has_text="12").wait_for()
        assert await tab.page.evaluate(WHERE_THE_PANEL_IS) == top, "nothing has jumped"
        await tab.go("/sagas?saga=checkout")
        await tab.is_live()
        await tab.sees("8 sagas")
        await there.shop.place(OrderPlaced(order="2001"), key="order-2001")
        await tab.sees("9 sagas")
        await tab.go(f"/sagas/{there.sagas['stuck']}")
        await tab.is_live()
        await tab.page.locator(".strip .chip.bad").wait_for()
        there.shop.mended = True
        async with there.app.desk() as desk:
            await desk.retry(there.sagas["stuck"], who="bob", why="mended")
        await tab.page.locator(".strip .chip.undone").wait_for()
        await tab.sees("all that had been done is undone")


async def test_a_saga_is_acted_on_with_a_look_before(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        page = tab.page
        there.shop.mended = True
        for name, verb, fields in [
            ("held", "release", {}),
            ("running", "hold", {}),
            ("committed", "retry", {}),
            ("waiting", "cancel", {}),
            ("stuck", "skip", {"run": "office.weigh/1of3"}),
            ("doubt", "resolve", {"run": "payment.capture", "verdict": "not_happened"}),
        ]:
            await tab.go(f"/sagas/{there.sagas[name]}")
            await page.get_by_role("radiogroup").get_by_text(verb, exact=True).click()
            for field, value in fields.items():
                await page.locator(f"select[name={field}]").select_option(value)
            await page.get_by_label("Why, for the audit trail").fill(f"because {HOSTILE} {verb}")
            await page.get_by_role("button", name="Show what would happen").click()
            await tab.sees("This would happen:")
            await page.get_by_role("button", name=f"{verb.capitalize()} it").click()
            await tab.sees("Done.")
        await tab.go("/audit")
        for verb in ("release", "hold", "retry", "cancel", "skip", "resolve"):
            await tab.sees(f"because {HOSTILE} {verb}")


async def test_what_was_looked_at_is_forgotten_when_something_else_is_asked(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        page = tab.page
        await tab.go(f"/sagas/{there.sagas['running']}")
        await page.get_by_role("radiogroup").get_by_text("hold", exact=True).click()
        await page.get_by_label("Why, for the audit trail").fill("a look")
        await page.get_by_role("button", name="Show what would happen").click()
        await page.get_by_role("button", name="Hold it").wait_for()
        await page.get_by_role("radiogroup").get_by_text("cancel", exact=True).click()
        assert await page.get_by_role("button", name="Hold it").count() == 0
        assert await there.phase("running") == "running"


async def test_all_that_match_are_acted_on(busy_shop: Path, browser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.console.many.PAGE", 1)
    async with at_the_shop(busy_shop, browser) as (_, tab):
        page = tab.page
        await tab.go("/sagas?saga=delivery")
        await page.get_by_role("radiogroup").get_by_text("hold", exact=True).click()
        await page.get_by_label("Why, for the audit trail").fill("maintenance")
        await page.get_by_role("button", name="Show what would happen").click()
        await tab.sees("hold would go to 4 sagas")
        await page.get_by_role("button", name="Hold up to 4 sagas").click()
        await tab.sees("4 sagas:")


async def test_dead_letters_are_replayed_and_discarded(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (_, tab):
        page = tab.page
        await tab.go("/dead-letters")
        await page.get_by_role("link", name=re.compile("ce_specversion")).first.click()
        await tab.sees("Letters that match")
        await page.get_by_role("radiogroup").get_by_text("discard", exact=True).click()
        await page.get_by_label("Why, for the audit trail").fill("nonsense")
        await page.get_by_role("button", name="Show what would happen").click()
        await tab.sees("3 letters would be deleted for good")
        await page.get_by_role("button", name="Discard 3 letters").click()
        await tab.sees("3 letters discarded")
        await tab.go("/dead-letters")
        await page.locator("[data-row^='coordinator ']").first.click()
        await tab.sees("ce_specversion is missing")
        await page.get_by_label("Why, for the audit trail").fill("once more")
        await page.get_by_role("button", name="Show what would happen").click()
        await page.get_by_role("button", name="Replay 1 letter").click()
        await tab.sees("1 letter replayed")


async def test_the_list_is_searched_as_one_types_and_the_address_says_so(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        page = tab.page
        await tab.go("/sagas")
        await page.keyboard.press("/")
        await page.keyboard.type("the scales are broken")
        await tab.sees("1 saga")
        assert unquote(page.url) == f"{tab.base}/sagas?text=the scales are broken"
        await page.locator(".pick", has_text="completed").click()
        await tab.sees("No saga matches")
        assert "phase=completed" in page.url
        await page.go_back()
        await tab.sees("1 saga")
        await page.get_by_role("link", name="Clear").click()
        await tab.sees("12 sagas")
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="CSV").click()
        path = await (await downloading.value).path()
        assert there.sagas["stuck"] in await anyio.Path(path).read_text()


async def test_keys_do_what_the_help_says(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (_, tab):
        page = tab.page
        await tab.go("/")
        await page.keyboard.press("?")
        assert await page.locator("#keys").is_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("g")
        await page.keyboard.press("s")
        await page.wait_for_url("**/sagas")
        await tab.is_live()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        links = page.locator("#listing [data-row]")
        first = await links.nth(0).get_attribute("data-row")
        focused = "document.activeElement.dataset.row"
        assert await page.evaluate(focused) == first
        await page.evaluate("document.querySelector('#listing [sse-swap=fresh]').dataset.before = '1'")
        await until(lambda: _is_focused(tab, str(first)), "the focus stays while the list is made anew")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/sagas/{first}")
        await page.keyboard.press("a")
        assert await page.evaluate("document.activeElement.name") == "verb"
        for key, path in [("d", "/dead-letters"), ("u", "/audit"), ("t", "/topology"), ("o", "/")]:
            await page.keyboard.press("g")
            await page.keyboard.press(key)
            await page.wait_for_url(f"{tab.base}{path}")


async def _is_focused(tab: Tab, row: str) -> bool:
    return bool(await tab.page.evaluate("document.activeElement.dataset.row") == row)


async def test_dark_and_light_are_chosen_and_remembered(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        page = tab.page
        paper = "getComputedStyle(document.body).backgroundColor"
        await tab.go("/")
        light = await page.evaluate(paper)
        await page.get_by_role("button", name="Dark theme").click()
        dark = await page.evaluate(paper)
        assert dark != light
        await tab.go(f"/sagas/{there.sagas['completed']}")
        assert await page.evaluate(paper) == dark
        await page.emulate_media(color_scheme="dark")
        await page.keyboard.press("t")
        assert await page.evaluate(paper) == light
        await page.evaluate("localStorage.clear()")
        await tab.go("/")
        assert await page.evaluate(paper) == dark, "without a choice it is the system's"


async def test_a_page_weighs_less_than_200_kb(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        for path in ("/", "/sagas", f"/sagas/{there.sagas['fan-out']}?view=graph", "/topology"):
            weights: dict[str, int] = {}

            async def weigh(answer: object, found: dict[str, int] = weights) -> None:
                if "/live/" not in answer.url:  # type: ignore[attr-defined]
                    found[answer.url] = len(await answer.body())  # type: ignore[attr-defined]

            context = await tab.page.context.browser.new_context()  # type: ignore[union-attr]
            page = await context.new_page()
            page.on("response", weigh)
            await page.goto(tab.base + path, wait_until="load")
            await page.locator(".live[data-state=on]").wait_for()
            await context.close()
            assert len(weights) >= 7
            assert sum(weights.values()) < PAGE_BYTES, weights
            assert sum(weights.values()) > 60_000, "htmx alone weighs as much"


async def test_a_page_that_nobody_looks_at_gives_its_stream_back(busy_shop: Path, browser: str) -> None:
    async with town_of(busy_shop) as there:
        console = Console(there.url, tick_seconds=0.1)

        async def streams(number: int) -> bool:
            return console.streams_open == number

        async with console, browsing(console, browser) as tab:
            await tab.go("/")
            await tab.is_live()
            await until(lambda: streams(1))
            hide = """hidden => {
                Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
            await tab.page.evaluate(hide, arg=True)
            await until(lambda: streams(0), "the stream is given back")
            await spoil(there)
            await tab.page.evaluate(hide, arg=False)
            await until(lambda: streams(1))
            await tab.page.locator("a.card", has_text="Dead letters").locator("b", has_text="12").wait_for()


async def test_forms_of_another_site_do_nothing(busy_shop: Path, browser: str) -> None:
    async with at_the_shop(busy_shop, browser) as (there, tab):
        await tab.go("/")
        other = tab.base.replace("127.0.0.1", "localhost")
        await tab.page.goto(other + "/sagas")
        saga_id = there.sagas["running"]
        status = await tab.page.evaluate(
            """async ([url, id]) => {
                const body = new URLSearchParams({saga_id: id, verb: "hold", why: "x", mode: "do", seen: "1"});
                try { return (await fetch(url, {method: "POST", body, mode: "no-cors", credentials: "include"})).type; }
                catch { return "blocked"; }
            }""",
            [f"{tab.base}/act", saga_id],
        )
        assert status in ("opaque", "blocked")
        assert any("Content Security Policy" in said or "Failed to" in said for said in tab.complaints)
        tab.complaints.clear()
        tab.asked.clear()
        trail = await there.store.audits(saga_id)
        assert len(trail) == 0
