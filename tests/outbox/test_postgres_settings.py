"""Read a store's settings from its URL, and set timeouts where the connections are not its own."""

from __future__ import annotations

import asyncpg
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.postgres.settings import PgBouncer, read_url
from outbox.postgres.transaction import begun
from saga.errors import Contended, SettingsError
from saga.ports import Lock
from tests.contracts.store_rows import claim, saga_id

pytestmark = pytest.mark.anyio

TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout")


def test_settings_in_a_url_are_the_stores_and_others_the_drivers() -> None:
    url, settings = read_url(
        "postgresql://me:a%40b@h:5433/d%20b?sslmode=require&schema=shop&pool_size=3&connect_timeout_seconds=0.5"
        "&pgbouncer=transaction&host=%2Frun&statement_cache_size=0",
        PostgresSettings(pool_size=7, statement_timeout_seconds=9),
    )
    assert url == "postgresql://me:a%40b@h:5433/d%20b?sslmode=require&host=%2Frun"
    assert settings == PostgresSettings(
        schema="shop",
        pool_size=3,
        connect_timeout_seconds=0.5,
        statement_timeout_seconds=9,
        pgbouncer=PgBouncer.TRANSACTION,
        statement_cache_size=0,
    )
    assert read_url("postgresql://h/d?sslmode=disable", None) == (
        "postgresql://h/d?sslmode=disable",
        PostgresSettings(),
    )


@pytest.mark.parametrize(
    "setting",
    [
        "pool_size=many",
        "pool_size=0",
        "pool_size=1.5",
        "pool_size=",
        "statement_timeout_seconds=0",
        "statement_timeout_seconds=-1",
        "statement_timeout_seconds=nan",
        "statement_timeout_seconds=inf",
        "statement_cache_size=-1",
        "pgbouncer=session",
        "schema=Shop",
    ],
)
@pytest.mark.parametrize("store", [PostgresStore, PostgresCoordinationStore])
def test_a_setting_that_cannot_be_one_is_refused(store: type[PostgresStore], setting: str) -> None:
    with pytest.raises(SettingsError, match=setting.partition("=")[0]):
        store(f"postgresql://h/d?{setting}")


def test_prepared_statements_are_kept_unless_somebody_stands_between() -> None:
    behind = PgBouncer.TRANSACTION
    assert PostgresSettings().cached_statements == 100
    assert PostgresSettings(pgbouncer=behind).cached_statements == 0
    assert PostgresSettings(pgbouncer=behind, statement_cache_size=50).cached_statements == 50
    assert PostgresSettings(statement_cache_size=0).cached_statements == 0


def test_local_settings_come_before_the_first_lock() -> None:
    settings = PostgresSettings(statement_timeout_seconds=1.5, idle_in_transaction_seconds=60)
    local = "SET LOCAL statement_timeout = 1500; SET LOCAL idle_in_transaction_session_timeout = 60000"
    assert settings.local == local
    assert begun("BEGIN; SELECT 1; SELECT 2", settings.local) == f"BEGIN; {local}; SELECT 1; SELECT 2"
    assert begun("BEGIN", settings.local) == f"BEGIN; {local}"
    assert begun("BEGIN; SELECT 1", "") == "BEGIN; SELECT 1"


@pytest.mark.postgres
async def test_the_timeouts_are_the_sessions_or_each_transactions(database: str) -> None:
    mine = "statement_timeout_seconds=7&idle_in_transaction_seconds=8&pool_size=1"
    for behind in ("none", "transaction"):
        async with PostgresStore(f"{database}?{mine}&pgbouncer={behind}") as store:
            async with store.unit(claim()) as unit:
                raw: asyncpg.Connection[asyncpg.Record] = unit.connection
                assert [await raw.fetchval(f"show {name}") for name in TIMEOUTS] == ["7s", "8s"]
            after = [await raw.fetchval(f"show {name}") for name in TIMEOUTS]
            assert after == (["7s", "8s"] if behind == "none" else ["0", "0"])


@pytest.mark.postgres
async def test_behind_a_pgbouncer_no_statement_is_kept_and_a_wait_for_a_lock_ends(database: str) -> None:
    saga = saga_id()
    url = f"{database}?pgbouncer=transaction&statement_timeout_seconds=0.1"
    async with PostgresStore(url) as store, PostgresStore(database) as other:
        await store.migrate()
        async with store.unit(claim(saga)) as unit:
            await unit.read([saga], [(saga, "", "")])
            assert await unit.db.fetch("select name from pg_prepared_statements where name <> ''") == []
        async with other.unit(claim(saga, lock=Lock.EXCLUSIVE)):
            with pytest.raises(Contended):
                async with store.unit(claim(saga)):
                    pytest.fail("the lock is taken")


@pytest.mark.postgres
async def test_what_the_server_does_not_know_is_a_wrong_setting(database: str) -> None:
    with pytest.raises(SettingsError, match=r"nonsense.*pgbouncer=transaction"):
        await PostgresStore(f"{database}?nonsense=1").__aenter__()
