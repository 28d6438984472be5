from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from outbox.codec import from_micros, to_micros
from outbox.headers import dump_headers, load_headers
from outbox.postgres.parts import Composer, Part
from outbox.sql import Component, Dialect, Phase, migrations, qualified, queries
from outbox.statements import Kind, kind_of, may_have_written, numbered
from tests.contracts.store_rows import NOW


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", Kind.READ),
        ("  -- insert\n/* update */ SELECT 'delete' from \"insert\"", Kind.READ),
        ("(select 1) union (select 2)", Kind.READ),
        ("values (1)", Kind.READ),
        ("with a as (select 1) select * from a", Kind.READ),
        ("with a as (delete from t returning 1) select * from a", Kind.OTHER),
        ("select * into copy from t", Kind.OTHER),
        ("select 1; delete from t", Kind.OTHER),
        ("select 1;", Kind.READ),
        ("Update t set a = 1", Kind.CHANGE),
        ("insert into t values (1)", Kind.CHANGE),
        ("call f()", Kind.OTHER),
        ("create table t (a int)", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_kinds(sql: str, kind: Kind) -> None:
    assert kind_of(sql) is kind


def test_writes() -> None:
    assert not may_have_written("delete from t", 0)
    assert may_have_written("delete from t", 1)
    assert not may_have_written("select 1", 1)
    assert may_have_written("truncate t", 0)


@pytest.mark.parametrize(
    ("sql", "translated"),
    [
        ("select $1, $12", "select ?1, ?12"),
        ("select '$1', 'it''s $1', $1", "select '$1', 'it''s $1', ?1"),
        ('select "$1", `$1`, [$1], $2', 'select "$1", `$1`, [$1], ?2'),
        ("select 1 -- $1\n, $1 /* $1\n$2 */", "select 1 -- $1\n, ?1 /* $1\n$2 */"),
        ("select a$1, $name, $$1", "select a$1, $name, $$1"),
        ("select $1+$1", "select ?1+?1"),
    ],
)
def test_placeholders(sql: str, translated: str) -> None:
    assert numbered(sql) == translated


def test_times_and_headers_come_back_exactly() -> None:
    assert from_micros(to_micros(NOW)) == NOW
    headers = (("a", bytes(range(256))), ("a", b""))
    assert load_headers(dump_headers(headers)) == headers


def test_parts_number_their_own_parameters() -> None:
    composer = Composer({"a": "insert $1 $2", "b": "update $1 returning part, seq", "c": "select $1"})
    sql, args = composer.write([Part("a", (1, 2)), Part("b", (3,))])
    assert sql == "with a as (\ninsert $1 $2\n),\nb as (\nupdate $3 returning part, seq\n)\nselect part, seq from b"
    assert args == [1, 2, 3]
    assert composer.write([Part("a", (1, 2))])[0] == "insert $1 $2"
    assert composer.read([Part("c", (1,)), Part("c", (2,))])[0] == "select $1\nunion all\nselect $2"


def test_only_our_tables_are_qualified() -> None:
    sql = "select saga_id, saga_run.step from saga_run join saga_run_log on true"
    assert qualified(sql, "s") == 'select saga_id, "s".saga_run.step from "s".saga_run join saga_run_log on true'
    assert qualified(sql, None) == sql


@pytest.mark.parametrize("dialect", list(Dialect))
def test_migrations_are_numbered_without_holes(dialect: Dialect) -> None:
    for component in Component:
        found = migrations(dialect, component)
        assert [migration.number for migration in found] == list(range(1, len(found) + 1))
        assert found[0].phase is Phase.BEFORE


def test_every_sqlite_statement_compiles() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for component in Component:
            for migration in migrations(Dialect.SQLITE, component):
                for statement in migration.statements():
                    connection.execute(statement)
        known = queries(Dialect.SQLITE)
        connection.execute(known["migration_table"])
        for text in known.values():
            count = text.count("?") and max(int(piece[:2].rstrip(",) \n=")) for piece in text.split("?")[1:])
            connection.execute(f"explain {text}", [None] * count)
