from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga.cli.commands import app
from tests.cli.test_dlq import Said, saga

URL = "sqlite:///new.db"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def db(*arguments: str) -> Said:
    return saga("db", *arguments, store=URL)


def change(sql: str) -> None:
    with closing(sqlite3.connect("new.db", isolation_level=None)) as connection:
        connection.execute(sql)


def test_tables_are_made_once() -> None:
    assert db("upgrade").code == 2, "nobody said whose"
    said = db("upgrade", "--for", "participant", "--json")
    assert [(line["component"], line["state"]) for line in said.lines] == [
        ("shared", "applied"),
        ("participant", "applied"),
    ]
    assert db("upgrade") == Said(code=0, out="nothing to apply\n", err="")
    assert db("upgrade", "--phase", "after").code == 0


def test_the_status_exits_1_while_something_is_pending() -> None:
    db("upgrade", "--for", "participant")
    said = db("status")
    assert said.code == 0
    assert said.out.startswith("saga 0")
    said = db("status", "--for", "both", "--json")
    assert said.code == 1
    assert [(line["component"], line["state"], line["applied_at"] is None) for line in said.lines] == [
        ("shared", "applied", False),
        ("participant", "applied", False),
        ("coordinator", "pending", True),
    ]
    assert "coordinator 0001_tables (before): pending" in said.err


def test_an_edited_migration_is_told_and_nothing_is_applied() -> None:
    db("upgrade", "--for", "participant")
    change("update saga_migration set checksum = 'other' where component = 'shared'")
    assert db("status", "--json").code == 1
    said = db("upgrade", "--for", "both")
    assert said.code == 1
    assert "shared 0001_tables (before) was edited" in said.err
    assert db("status").code == 1


def test_what_a_newer_version_added_is_listed_and_does_no_harm() -> None:
    db("upgrade", "--for", "participant")
    row = "'participant', 7, 'more', 'before', 'x', 1"
    change(f"insert into saga_migration (component, number, name, phase, checksum, applied_at) values ({row})")
    said = db("status", "--json")
    assert (said.code, said.lines[-1]["state"]) == (0, "newer")
    change("update saga_migration set phase = 'after' where number = 7")
    assert db("status").code == 1
    assert db("upgrade").code == 1


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["db", "sql", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_sql_needs_no_database_and_does_the_same() -> None:
    text = printed("--dialect", "sqlite")
    with closing(sqlite3.connect("new.db", isolation_level=None)) as connection:
        connection.executescript(text)
    said = db("status", "--json")
    assert (said.code, len(said.lines)) == (0, 3)
    assert all(json.dumps(line["state"]) == '"applied"' for line in said.lines)
    assert '"shop".saga_run' in printed("--schema", "shop", "--for", "participant")
    assert "saga_instance" not in printed("--for", "participant")


def test_a_schema_is_for_postgresql() -> None:
    assert db("status", "--for", "both", "--schema", "shop").code == 2
    result = CliRunner().invoke(app, ["db", "sql", "--dialect", "sqlite", "--schema", "shop"])
    assert result.exit_code == 2


def test_a_database_that_is_away_exits_3() -> None:
    assert saga("db", "status", store="postgresql://nobody@127.0.0.1:1/none").code == 3


@pytest.mark.postgres
def test_on_postgresql_the_tables_may_lie_in_a_schema(database: str) -> None:
    def pg(*arguments: str) -> Said:
        return saga("db", *arguments, "--schema", "shop", store=database)

    assert pg("upgrade").code == 2
    assert [line["component"] for line in pg("upgrade", "--for", "coordinator", "--json").lines] == [
        "shared",
        "coordinator",
    ]
    assert (pg("status").code, pg("status", "--for", "both").code) == (0, 1)
    assert pg("upgrade", "--for", "both").out == "participant 0001_tables (before): applied\n"
    assert (pg("status").code, len(pg("status", "--json").lines)) == (0, 3)
    assert saga("db", "status", "--for", "both", store=database).code == 1, "another schema has its own"
