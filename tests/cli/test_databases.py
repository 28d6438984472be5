from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from typer.testing import CliRunner

from saga import Service
from saga.app import App
from saga.cli.commands import app
from saga.errors import SchemaMismatch
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


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a service with two SQL files of its own; returns it as a target."""
    Path("sql").mkdir()
    Path("sql/0001_goods.sql").write_text("create table goods (sku text primary key);\n")
    Path("sql/0002_more.sql").write_text("create table shelves (name text);\n")
    module = SimpleNamespace(stock=Service("stock", migrations="sql"), __name__="warehouse")
    monkeypatch.setitem(sys.modules, "warehouse", module)
    return "warehouse:stock"


def test_the_services_own_files_are_applied_once(stock: str) -> None:
    pending = db("status", stock)
    assert (pending.code, "stock 0001_goods.sql: pending" in pending.err) == (1, True)
    said = db("upgrade", stock)
    assert said == Said(
        code=0,
        out="shared 0001_tables (before): applied\nparticipant 0001_tables (before): applied\n"
        "stock 0001_goods.sql: applied\nstock 0002_more.sql: applied\n",
        err="",
    )
    assert db("upgrade", stock).out == "nothing to apply\n"
    listed = db("status", stock, "--json")
    assert (listed.code, listed.lines[-1]["name"], listed.lines[-1]["state"]) == (0, "0002_more.sql", "applied")
    Path("sql/0003_last.sql").write_text("create table last (name text);\n")
    assert "stock 0003_last.sql: pending" in db("status", stock).err
    assert db("upgrade", stock, "--phase", "after").out == "nothing to apply\n"
    assert db("upgrade", stock, "--json").lines[-1]["name"] == "0003_last.sql"


def test_a_target_must_be_services(stock: str) -> None:
    assert db("upgrade", "warehouse:none").code == 2
    assert db("upgrade", stock, "--for", "coordinator").code == 2


def test_an_app_that_does_not_migrate_refuses_to_start_without_them(stock: str) -> None:
    async def come_up() -> None:
        async with App([sys.modules["warehouse"].stock], store=URL, transport="memory://", migrate=False):
            pass

    def refused() -> str:
        with pytest.raises(SchemaMismatch) as caught:
            anyio.run(come_up)
        return str(caught.value)

    db("upgrade", "--for", "participant")
    told = (
        "sql/0001_goods.sql, sql/0002_more.sql not applied to this database: run `saga db upgrade TARGET --store URL`"
    )
    assert refused().startswith(told)
    db("upgrade", stock)
    anyio.run(come_up)
    Path("sql/0003_last.sql").write_text("create table last (name text);\n")
    assert refused().startswith("sql/0003_last.sql not applied")


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
def test_on_postgresql_the_services_own_files_are_applied_once(database: str, stock: str) -> None:
    assert saga("db", "status", stock, store=database).code == 1
    assert saga("db", "upgrade", "--for", "participant", store=database).code == 0
    assert "stock 0001_goods.sql: pending" in saga("db", "status", stock, store=database).err
    assert "stock 0002_more.sql: applied" in saga("db", "upgrade", stock, store=database).out
    assert saga("db", "upgrade", stock, store=database).out == "nothing to apply\n"
    assert saga("db", "status", stock, store=database).code == 0


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
