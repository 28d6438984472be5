from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from examples.payment import ledger
from examples.payment.demo import Report, Result, judge, play, summary
from examples.payment.embedded import NAMES, open_shop
from examples.payment.ledger import Books
from examples.payment.scenarios import AWAY, SCENARIOS

ALL = {scenario.name: scenario for scenario in (AWAY, *SCENARIOS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    results: dict[str, Result]
    books: Books
    answers: dict[str, str]


async def played(folder: Path) -> Played:
    async with open_shop(folder) as shop:
        ended = await play(shop, {})
        books = await shop.books()
    results = {scenario.name: judge(scenario, end, books) for scenario, end in ended}
    with closing(sqlite3.connect(folder / "coordinator.db")) as connection:
        states = connection.execute("select saga_id, state from saga_instance").fetchall()
    return Played(results=results, books=books, answers={saga: bytes(state).decode() for saga, state in states})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return anyio.run(played, tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("name", ALL)
def test_every_scenario_ends_as_it_must(shop: Played, name: str) -> None:
    assert shop.results[name].problems == []


def test_everything_adds_up(shop: Played) -> None:
    assert ledger.problems(shop.books) == []


def test_every_order_has_its_end_and_its_reason(shop: Played) -> None:
    rows = {row["order_id"]: (row["state"], row["reason"] != "") for row in shop.books.orders}
    assert rows == {name: ("completed", False) if not ALL[name].causes else ("cancelled", True) for name in ALL}
    assert len(rows) == len(ALL)


def test_two_effects_were_undone_in_reverse_order(shop: Played) -> None:
    for name in ("declined-late", "hangs-declined"):
        assert shop.results[name].undone == ["payment.authorize", "inventory.reserve_stock"]


@pytest.mark.parametrize("name", ["gateway-hangs", "hangs-declined"])
def test_the_deadline_did_pass_while_the_capture_hung(shop: Played, name: str) -> None:
    answer = "committed" if name == "gateway-hangs" else "closed"
    state = shop.answers[shop.results[name].ended.saga_id]
    assert f'"payment":"{answer}"' in state.replace(" ", "")


def test_the_lost_answer_was_charged_once(shop: Played) -> None:
    entries = [entry.what for entry in shop.books.entries if entry.order_id == "answer-lost"]
    assert entries == ["authorized", "captured"]


def test_the_ferry_took_the_parcel_at_last(shop: Played) -> None:
    assert "ferry-full" in {row["order_id"] for row in shop.books.parcels}


def test_the_gateway_never_saw_what_it_was_down_for(shop: Played) -> None:
    assert [entry for entry in shop.books.entries if entry.order_id == "gateway-down"] == []


def test_services_share_one_database_here(shop: Played) -> None:
    assert {row["step"].partition(".")[0] for row in shop.books.runs} == set(NAMES)


def test_a_broken_expectation_shows(shop: Played) -> None:
    ended = shop.results["all-well"].ended
    wrong = judge(ALL["card-declined"], ended, shop.books)
    assert len(wrong.problems) == 3
    report = Report(results=[wrong], books=shop.books, problems=["a cent is missing"], seconds=1.0)
    assert not report.well
    told = summary(report)
    assert sum("PROBLEM" in line for line in told) == 4
    assert told[-1].startswith("Something does NOT add up.")


def test_the_demo_ends_well_and_soon_without_a_terminal() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "examples.payment", "demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything adds up." in done.stdout
    assert "undone: payment.authorize, then inventory.reserve_stock" in done.stdout
    assert done.stderr == ""
    assert time.monotonic() - started < 30
