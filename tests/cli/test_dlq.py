from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from outbox.urls import open_coordination_store, open_store
from saga._core.audit import AuditRow
from saga._core.rows import Changes, CoordinatorChanges
from saga.cli.commands import app
from tests.contracts.operating_contract import STEP, dead
from tests.contracts.store_rows import NOW, OTHER, SERVICE, instance, put

URL = "sqlite:///one.db"
SIGNED = ("--who", "ann", "--why", "mended")


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def saga(*arguments: str, store: str = URL) -> Said:
    result = CliRunner().invoke(app, [*arguments, "--store", store], catch_exceptions=False, env={"COLUMNS": "200"})
    return Said(code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill a database: three dead letters, two sagas, one act."""
    monkeypatch.chdir(tmp_path)

    async def fill() -> None:
        async with open_store(URL) as store, open_coordination_store(URL) as coordination:
            await store.migrate()
            await coordination.migrate()
            letters = (dead(1, "payload: [bold]bad\x1b[31m"), dead(2, "other"), dead(3, service=OTHER, step=""))
            await put(store, Changes(insert_deliveries=letters))
            one = replace(instance("s1"), phase="stuck")
            two = replace(instance("s2"), phase="running", started_at=NOW + timedelta(days=1))
            act = AuditRow(at=NOW, who="bob", why="asked", verb="skip", saga_id="s1", target=STEP, before=b'{"a":1}')
            await coordination.write(CoordinatorChanges(instances=(one, two), audits=(act,)))

    anyio.run(fill)


def test_letters_are_listed_without_what_was_in_them() -> None:
    said = saga("dlq", "ls")
    assert said.code == 0
    assert said.out.splitlines()[0].split() == ["id", "died", "service", "step", "saga", "attempt", "error"]
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["1", "2", "3"]
    assert "payload: [bold]bad\\x1b[31m" in said.out, "markup and escapes are only text"
    listed = saga("dlq", "ls", "--json", "--service", SERVICE).lines
    assert [(letter["id"], letter["error"], letter["bytes"]) for letter in listed] == [
        (1, "payload: [bold]bad\x1b[31m", 3),
        (2, "other", 3),
    ]
    assert not {"value", "key", "headers"} & listed[0].keys()


def test_a_full_page_says_how_to_go_on() -> None:
    said = saga("dlq", "ls", "--limit", "2")
    assert "--after 2" in said.err
    assert [letter["id"] for letter in saga("dlq", "ls", "--after", "2", "--json").lines] == [3]


def test_letters_are_counted() -> None:
    groups = saga("dlq", "ls", "--group", "--json").lines
    assert sorted((g["service"], g["step"], g["letters"]) for g in groups) == [
        (OTHER, "", 1),
        (SERVICE, STEP, 1),
        (SERVICE, STEP, 1),
    ]
    assert saga("dlq", "ls", "--group").code == 0
    assert saga("dlq", "ls", "--group", "--service", SERVICE).code == 2


def test_the_message_is_shown_only_when_asked_for() -> None:
    assert "\\x00" not in saga("dlq", "show", "1").out
    assert "value" not in saga("dlq", "show", "1", "--json").lines[0]
    (shown,) = saga("dlq", "show", "1", "--json", "--payload").lines
    assert (shown["value"], shown["headers"]) == ("\x00\\xff1", [["h", "\\x80"]])
    assert "\\x00\\xff1" in saga("dlq", "show", "1", "--payload").out
    assert saga("dlq", "show", "9").code == 1


def test_what_is_replayed_is_named_signed_and_counted() -> None:
    assert saga("dlq", "replay", *SIGNED).code == 2, "neither a filter nor --all"
    assert saga("dlq", "replay", "1").code == 2, "not signed"
    assert "audit" in saga("dlq", "replay", "1", "--who", " ", "--why", "x").err
    assert saga("dlq", "replay", "1", *SIGNED, "--rate", "0").code == 2
    assert saga("dlq", "replay", "--step", STEP, "--error", "bad", *SIGNED) == Said(code=0, out="1 replayed\n", err="")
    assert saga("dlq", "replay", "1", *SIGNED) == Said(code=1, out="0 replayed\n", err="")
    assert saga("dlq", "replay", "--all", *SIGNED, "--rate", "1000", "--json").lines == [{"replayed": 2}]
    assert saga("dlq", "ls").code == 1
    (act,) = saga("history", "s2", "--json").lines
    assert (act["who"], act["why"], act["verb"], act["before"]["error"]) == ("ann", "mended", "replay", "other")


def test_what_is_discarded_is_named_signed_and_counted() -> None:
    assert saga("dlq", "discard", *SIGNED).code == 2
    assert saga("dlq", "discard", "--saga", "s1", *SIGNED).out == "1 discarded\n"
    assert saga("dlq", "discard", "--saga", "s1", *SIGNED).code == 1
    assert [letter["id"] for letter in saga("dlq", "ls", "--json").lines] == [2, 3]


def test_sagas_are_listed_by_phase() -> None:
    assert [row["saga_id"] for row in saga("ls", "--json").lines] == ["s2", "s1"]
    assert [row["saga_id"] for row in saga("ls", "--json", "--phase", "stuck").lines] == ["s1"]
    assert [row["saga_id"] for row in saga("ls", "--json", "--since", "2026-03-02").lines] == ["s2"]
    assert "stuck" in saga("ls", "--phase", "stuck").out
    assert saga("ls", "--phase", "asking").code == 1
    assert saga("ls", "--phase", "stick").code == 2


def test_a_page_of_sagas_says_where_it_goes_on() -> None:
    said = saga("ls", "--limit", "1")
    place = said.err.strip().removeprefix("there may be more: --after ")
    assert [row["saga_id"] for row in saga("ls", "--json", "--after", place).lines] == ["s1"]
    assert saga("ls", "--after", "s1").code == 2
    assert saga("ls", "--after", "2026-01-01/s1").code == 2


def test_a_sagas_history_is_told() -> None:
    (act,) = saga("history", "s1", "--json").lines
    assert (act["who"], act["verb"], act["target"], act["before"], act["after"]) == (
        "bob",
        "skip",
        STEP,
        {"a": 1},
        None,
    )
    assert "asked" in saga("history", "s1").out
    assert saga("history", "s9").code == 1


@pytest.mark.parametrize("command", [("dlq", "ls"), ("ls",), ("history", "s1"), ("dlq", "replay", "1", *SIGNED)])
def test_what_cannot_be_opened_is_told_apart(command: tuple[str, ...]) -> None:
    assert saga(*command, store="sqlite:///typo.db").code == 2
    assert not Path("typo.db").exists()
    assert saga(*command, store="mysql://x").code == 2
    away = saga(*command, store="postgresql://user:secret@127.0.0.1:1/none")
    assert away.code == 3
    assert "secret" not in away.err


def test_the_store_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_STORE", URL)
    result = CliRunner().invoke(app, ["dlq", "ls", "--json"], catch_exceptions=False)
    assert len(result.stdout.splitlines()) == 3
