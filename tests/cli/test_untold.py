"""`saga ls` marks whose on_end keeps failing, and lists those alone."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from outbox.urls import open_store
from saga._core.rows import Changes
from tests.cli.stuck_shop import ONE, SERVICES, fill
from tests.cli.test_dlq import saga
from tests.cli.test_doctor_kafka import without_store
from tests.contracts.operating_contract import untold
from tests.contracts.store_rows import put

OTHERS = "sqlite:///others.db"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAGA_SERVICE_STORES", raising=False)
    fill()

    async def fails() -> None:
        for url, ends in ((SERVICES, [untold("s3", 7)]), (OTHERS, [untold("s2", 1), untold("unheard of", 2)])):
            async with open_store(url) as store:
                await store.migrate()
                await put(store, Changes(insert_deliveries=tuple(ends)), "s2", "s3")

    anyio.run(fails)


def test_it_is_marked_in_the_list() -> None:
    said = saga("ls", "--service-store", SERVICES, store=ONE)
    (line,) = [line for line in said.out.splitlines() if " completed " in line]
    assert line.rstrip().endswith("on_end fails, 7 times so far: SMTPError")
    assert said.out.count("on_end fails") == 1
    lines = saga("ls", "--json", "--service-store", SERVICES, store=ONE).lines
    assert {line["saga_id"]: line["on_end"] and line["on_end"]["attempt"] for line in lines} == {
        "s1": None,
        "s2": None,
        "s3": 7,
    }


def test_the_databases_of_the_settings_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_COORDINATOR_STORE", ONE)
    monkeypatch.setenv("SAGA_SERVICE_STORES", f"{SERVICES} {OTHERS}")
    lines = without_store("ls", "--json", "--on-end-fails").lines
    assert [line["saga_id"] for line in lines] == ["s3", "s2"]
    assert lines[0]["on_end"]["error"] == "SMTPError"
    assert [one["saga_id"] for one in without_store("ls", "--json", "--on-end-fails", "--limit", "1").lines] == ["s3"]
    lines = without_store("ls", "--json", "--on-end-fails", "--phase", "completed", "--since", "2020-01-01").lines
    assert [line["saga_id"] for line in lines] == ["s3"]
    for nothing in (("--saga", "other"), ("--before", "2020-01-01"), ("--version", "2"), ("--tenant", "x")):
        assert without_store("ls", "--on-end-fails", *nothing).code == 1


def test_the_list_comes_without_the_databases_of_services() -> None:
    said = saga("ls", "--json", store=ONE)
    assert ([line["on_end"] for line in said.lines], said.err) == ([None] * 3, "")
    away = "postgresql://ann@127.0.0.1:1/none"
    said = saga("ls", "--json", "--service-store", away, store=ONE)
    assert (said.code, len(said.lines)) == (0, 3)
    assert "whose on_end fails is not known: postgresql://127.0.0.1:1/none cannot be reached" in said.err
    assert saga("ls", "--on-end-fails", "--service-store", away, store=ONE).code == 3
    assert saga("ls", "--on-end-fails", "--after", "/s1", store=ONE).code == 2
    assert saga("ls", "--on-end-fails", store=SERVICES).code == 2
