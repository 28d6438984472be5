"""What the page of a saga offers fits the saga as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.console.test_views import open_shop
from tests.console.visiting import text_of

pytestmark = pytest.mark.anyio


def offered(page: str) -> tuple[str, str]:
    """Return the verbs that a page offers, and the one that is chosen."""
    said = re.search(r'data-fits="([^"]*)"', page)
    chosen = re.search(r'value="(\w+)"[^>]* checked data-act', page)
    return (said[1] if said else "?"), (chosen[1] if chosen else "?")


async def test_a_saga_is_offered_what_can_be_done_to_it(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (there, _, visitor):
        pages = {name: await visitor.get(f"/sagas/{there.sagas[name]}") for name in ("doubt", "held", "completed")}
        assert offered(pages["doubt"].text) == ("retry hold cancel skip resolve", "resolve")
        assert offered(pages["held"].text) == ("retry release cancel skip", "release")
        assert offered(pages["completed"].text)[0] == ""
        assert "This saga has ended: there is nothing left to do to it." in text_of(pages["completed"])
        assert "<option selected>payment.capture</option>" in pages["doubt"].text
        assert '<option data-step="payment.capture">card.declined.v1</option>' in pages["doubt"].text
        assert "in doubt" in text_of(pages["doubt"])


async def test_what_an_address_asks_for_is_never_left_out_of_account(busy_shop: Path) -> None:
    async with open_shop(busy_shop) as (_, __, visitor):
        for path in ("/sagas?nonsense=1", "/counts?x=1", "/export?x=1", "/audit?x=1", "/dead-letters?x=1"):
            assert (await visitor.get(path)).status_code == 400, path
