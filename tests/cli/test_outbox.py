from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from outbox.urls import open_store
from saga._core.rows import Changes
from tests.cli.test_dlq import saga
from tests.contracts.store_rows import outgoing, put

URL = "sqlite:///one.db"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def fill() -> None:
        async with open_store(URL) as store:
            await store.migrate()
            keyed = replace(outgoing("key [b]\x1b[31m"), shard=2)
            await put(store, Changes(outbox=(keyed, replace(outgoing("k2"), service="payment"))))
            await store.attend("relay-1", 60.0)
            await store.hold_shards("relay-1", [2], 60.0)

    anyio.run(fill)


def test_it_says_what_waits_and_who_is_at_it() -> None:
    said = saga("outbox")
    assert said.code == 0
    assert said.out.startswith("2 rows wait, the oldest for 0:00:")
    assert "oldest: stock.reserved of stock for stock.events, key key [b]\\x1b[31m (row 1)" in said.out
    assert "relays at work: relay-1" in said.out
    assert any(line.split()[:2] == ["2", "1"] and line.endswith("relay-1") for line in said.out.splitlines())


def test_programs_get_one_object() -> None:
    (found,) = saga("outbox", "--json").lines
    assert (found["rows"], [one["service"] for one in found["services"]]) == (2, ["payment", "stock"])
    assert [(one["shard"], one["owner"]) for one in found["shards"]] == [(2, "relay-1")]
    assert (found["oldest"]["seq"], found["oldest"]["key"]) == (1, "key [b]\x1b[31m")
    assert {one["name"] for one in found["leases"]} == {"relay relay-1", "shard 2"}


def test_an_old_row_exits_1_when_asked() -> None:
    assert saga("outbox", "--older-than", "3600").code == 0
    said = saga("outbox", "--older-than", "0.000001")
    assert (said.code, "saga doctor" in said.err) == (1, True)


def test_an_empty_outbox_and_a_wrong_one() -> None:
    async def empty() -> None:
        async with open_store("sqlite:///empty.db") as store:
            await store.migrate()

    anyio.run(empty)
    said = saga("outbox", store="sqlite:///empty.db")
    assert (said.code, said.out.splitlines()[0]) == (0, "nothing waits to be published")
    assert saga("outbox", store="sqlite:///typo.db").code == 2
    assert saga("outbox", store="postgresql://u@127.0.0.1:1/none").code == 3
