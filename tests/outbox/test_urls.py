# pyright: reportPrivateUsage=false
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from outbox import open_coordination_store, open_store
from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from saga.errors import SettingsError


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@h:5433/db?sslmode=require", "postgres://h/db"])
def test_postgres(url: str) -> None:
    store = open_store(url, settings=PostgresSettings(pool_size=2))
    assert isinstance(store, PostgresStore)
    assert isinstance(open_coordination_store(url), PostgresCoordinationStore)
    assert "hunter2" not in repr(store)
    assert "/db" in repr(store)


def test_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("sqlite:///a%20b.db"), open_coordination_store(f"sqlite:///{tmp_path}/a b.db")
    assert isinstance(relative, SqliteStore)
    assert isinstance(absolute, SqliteCoordinationStore)
    assert relative._path == absolute._path == str(tmp_path.resolve() / "a b.db")


def test_sqlite_in_memory() -> None:
    store = open_store("sqlite:///:memory:?name=x")
    assert isinstance(store, SqliteStore)
    assert (store._path, store._name) == (":memory:", "x")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no scheme"),
        ("file.db", "no scheme"),
        ("mysql://me:hunter2@h/db", "scheme 'mysql'"),
        ("sqlite://file.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///file.db?name=x", "no parameters"),
        ("sqlite:///:memory:?nmae=x", "no parameters"),
        ("postgresql://", "a host and a database"),
        ("postgresql://me:hunter2@h", "a host and a database"),
        ("postgresql://me:hunter2@h:x/db", "a host and a database"),
        ("postgresql:///db", "a host and a database"),
    ],
)
def test_refuses_with_what_would_be_accepted(url: str, told: str) -> None:
    for opening in (open_store, open_coordination_store):
        with pytest.raises(SettingsError, match=told) as caught:
            opening(url)
        assert "hunter2" not in str(caught.value)
        assert "use sqlite:///" in str(caught.value)


def test_settings_do_not_fit_sqlite() -> None:
    with pytest.raises(SettingsError, match="leave them out"):
        open_store("sqlite:///a.db", settings=PostgresSettings())


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        assert name == "asyncpg"

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(SettingsError, match=r"extra \[postgres\]"):
        open_store("postgresql://h/db")
