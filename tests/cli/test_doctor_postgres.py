"""Faults planted in a real PostgreSQL are found by `saga doctor`, each with the command that mends it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg
import pytest

from outbox.urls import open_coordination_store, open_store
from saga._core.diagnosing import Found, diagnose
from saga._core.rows import Changes, CoordinatorChanges
from saga.cli.examining import Asked, examine
from tests.cli.stuck_shop import STUCK, row
from tests.cli.test_dlq import Said, saga
from tests.cli.test_doctor import ends
from tests.contracts.operating_contract import dead
from tests.contracts.store_rows import instance, outgoing, put
from tests.testbed.cluster import LocalPostgres
from tests.testbed.server import run_apart
from tests.testbed.services import Postgres

Sql = Callable[..., None]


@pytest.fixture
def url(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a database with saga's tables for both sides."""
    for name in ("SAGA_STORE", "SAGA_COORDINATOR_STORE", "SAGA_TRANSPORT"):
        monkeypatch.delenv(name, raising=False)

    async def migrate() -> None:
        async with open_store(database) as store, open_coordination_store(database) as coordination:
            await store.migrate()
            await coordination.migrate()

    anyio.run(migrate)
    return database


def run_sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=30)
        finally:
            await connection.close()

    run_apart(run)


def doctor(url: str, *arguments: str) -> Said:
    return saga("doctor", "--json", *arguments, store=url)


def only(said: Said, code: str) -> dict[str, Any]:
    """Return the one finding, which must be this one."""
    assert [line["code"] for line in said.lines] == [code], said.out
    found: dict[str, Any] = said.lines[0]
    return found


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


@contextmanager
def open_session(url: str, *statements: str) -> Generator[int]:
    """Have a session open with a transaction in it; gives its process ID."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url, server_settings={"application_name": "report.py"}))
    try:
        for statement in statements:
            loop.run_until_complete(connection.execute(statement))
        yield connection.get_server_pid()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def test_a_healthy_database_exits_0(url: str) -> None:
    said = saga("doctor", store=url)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("nothing found; looked at postgresql://")


def test_a_database_that_is_away() -> None:
    said = doctor("postgresql://u:secret@127.0.0.1:1/none")
    found = only(said, "database-away")
    assert (said.code, found["severity"]) == (3, "unavailable")
    assert found["mend"] == "pg_isready -d postgresql://u@127.0.0.1:1/none"
    assert "secret" not in said.out


def test_a_database_that_is_not_there(postgres: Postgres) -> None:
    said = doctor(urlunsplit(urlsplit(postgres.url)._replace(path="/nobody_made_it")))
    assert (said.code, only(said, "database-refused")["mend"].startswith("saga config")) == (3, True)


def test_a_database_without_tables(database: str) -> None:
    said = doctor(database)
    found = only(said, "schema-missing")
    assert said.code == 1
    words = found["mend"].split()
    assert words[:3] == ["saga", "db", "upgrade"]
    assert saga("db", "upgrade", "--for", "both", store=database).code == 0
    assert doctor(database).code == 0


def test_tables_of_an_older_version(url: str) -> None:
    run_sql(url, "delete from saga_migration where component = 'participant'")
    said = doctor(url)
    assert (said.code, only(said, "schema-old")["mend"].endswith("--for participant")) == (1, True)


def test_tables_of_a_newer_version(url: str) -> None:
    change = "insert into saga_migration values ('participant', 99, 'tidied', '{}', 'x', now())"
    run_sql(url, change.format("before"))
    said = doctor(url)
    assert (said.code, only(said, "schema-newer")["severity"]) == (0, "risk")
    assert doctor(url, "--strict").code == 1
    run_sql(url, "update saga_migration set phase = 'after' where number = 99")
    said = doctor(url)
    found = only(said, "schema-newer")
    assert (said.code, found["severity"]) == (1, "wrong")
    assert found["mend"].startswith("pip install --upgrade")


def test_a_migration_that_was_edited(url: str) -> None:
    run_sql(url, "update saga_migration set checksum = 'x' where component = 'shared'")
    said = doctor(url)
    assert (said.code, "0001" in only(said, "schema-edited")["text"]) == (1, True)


def test_a_user_without_the_right_to_write_and_the_grant_mends_it(url: str) -> None:
    run_sql(url, "drop role if exists weak", "create role weak login", "grant usage on schema public to weak")
    try:
        weak = url.replace("postgres@", "weak@")
        found = only(doctor(weak), "grants-missing")
        assert "GRANT SELECT, INSERT, DELETE ON saga_outbox TO weak" in found["mend"]
        grants = [part.rpartition('"')[0] for part in found["mend"].split('-c "')[1:]]
        run_sql(url, *grants)
        assert doctor(weak).code == 0
    finally:
        run_sql(url, "drop owned by weak", "drop role weak")


def test_a_schema_that_the_user_may_not_even_look_into(url: str) -> None:
    there = url + "?schema=shop"
    assert saga("db", "upgrade", "--for", "both", store=there).code == 0
    run_sql(url, "drop role if exists blind", "create role blind login")
    try:
        found = only(doctor(there.replace("postgres@", "blind@")), "grants-missing")
        assert found["mend"].endswith('-c "GRANT USAGE ON SCHEMA shop TO ROLE"')
        assert "?schema" not in found["mend"]
        run_sql(url, "grant usage on schema shop to blind")
        found = only(doctor(there.replace("postgres@", "blind@")), "grants-missing")
        command = shlex.split(found["mend"])
        grants = [word for option, word in pairwise(command) if option == "-c"]
        assert any('ON "shop".saga_run TO blind' in grant for grant in grants)
        run_sql(url, *grants)
        assert doctor(there.replace("postgres@", "blind@")).code == 0
    finally:
        run_sql(url, "drop owned by blind", "drop role blind")


def test_synchronous_commit_off_and_its_command_mends_it(url: str) -> None:
    run_sql(url, f'alter database "{name_of(url)}" set synchronous_commit = off')
    said = doctor(url)
    found = only(said, "synchronous-commit-off")
    assert said.code == 1
    assert found["mend"].endswith('-c "alter role postgres set synchronous_commit = on"')
    statement = found["mend"].split('-c "')[1].rstrip('"')
    run_sql(url, f'alter database "{name_of(url)}" reset synchronous_commit', statement)
    try:
        assert doctor(url).code == 0
    finally:
        run_sql(url, "alter role postgres reset synchronous_commit")


class CarelessPostgres(LocalPostgres):
    """Be a server that somebody has made quick, and on which a program has prepared a transaction and died."""

    def command(self) -> list[str]:
        return [*super().command(), "--fsync=off", "--max_prepared_transactions=2"]


@pytest.fixture(scope="module")
def careless(postgres: Postgres) -> Iterator[str]:
    if not postgres.controlled:
        pytest.skip("the server was given as an address, so there may be no programs to start another one with")
    server = CarelessPostgres()
    with closing(server):
        server.start()
        yield server.url


def test_fsync_off_and_a_prepared_transaction_that_keeps_rows(careless: str) -> None:
    assert saga("db", "upgrade", "--for", "both", store=careless).code == 0
    assert "fsync is off" in only(doctor(careless), "fsync-off")["text"]
    run_sql(careless, "create table t (a int)", "begin", "insert into t values (1)", "prepare transaction 'half done'")
    run_sql(careless, "insert into t values (2)")
    codes = {line["code"]: line for line in doctor(careless, "--limit", "held_transactions=0").lines}
    assert set(codes) == {"fsync-off", "rows-held-back"}
    statement = codes["rows-held-back"]["mend"].split('-c "')[1].rstrip('"')
    run_sql(careless, statement)
    only(doctor(careless, "--limit", "held_transactions=0"), "fsync-off")


@pytest.mark.parametrize(
    ("setting", "code"), [("full_page_writes", "full-page-writes-off"), ("autovacuum", "autovacuum-off")]
)
def test_a_server_that_does_not_keep_its_promises(postgres: Postgres, url: str, setting: str, code: str) -> None:
    if not postgres.controlled:
        pytest.skip("the server was given as an address: its settings are not ours to change")
    run_sql(postgres.url, f"alter system set {setting} = off", "select pg_reload_conf()")
    try:
        found = only(_until(lambda: doctor(url), lambda said: bool(said.lines)), code)
        assert f'-c "alter system set {setting} = on"' in found["mend"]
    finally:
        run_sql(postgres.url, f"alter system reset {setting}", "select pg_reload_conf()")
    assert _until(lambda: doctor(url), lambda said: not said.lines).code == 0


def _until(look: Callable[[], Said], ready: Callable[[Said], bool]) -> Said:
    """Look until the server has taken its new settings up, which it does behind its caller's back."""
    said = look()
    for _ in range(50):
        if ready(said):
            break
        said = look()
    return said


def test_timeouts_that_are_too_short(url: str) -> None:
    assert only(doctor(url + "?statement_timeout_seconds=1"), "statement-timeout-low")["severity"] == "risk"
    target = "tests.core.checkout:SERVICES"
    said = saga("doctor", target, "--json", store=url + "?idle_in_transaction_seconds=1")
    codes = {line["code"]: line for line in said.lines}
    assert "idle-timeout-low" in codes
    assert "?idle_in_transaction_seconds=" in codes["idle-timeout-low"]["mend"]


def test_a_plan_that_the_coordinator_does_not_have(url: str) -> None:
    said = saga("doctor", "tests.core.checkout:SERVICES", "--json", store=url)
    found = only(said, "plan-missing")
    assert (said.code, found["where"]) == (1, "plan checkout v1")
    assert found["mend"].startswith("saga plan tests.core.checkout:SERVICES")


def test_a_plan_that_the_code_has_outgrown(url: str) -> None:
    async def publish() -> None:
        async with open_coordination_store(url) as coordination:
            await coordination.put_plans([published_plan()])

    anyio.run(publish)
    found = only(saga("doctor", "tests.core.checkout:SERVICES", "--json", store=url), "plan-differs")
    assert "timeout_ms was 1000" in found["text"]


def published_plan() -> Any:
    from saga._core.planning import plan_hash, plan_to_json
    from saga._core.rows import PlanRow
    from saga.cli.planfiles import build_plans
    from saga.cli.targets import manifests_at

    (plan,) = build_plans(manifests_at(["tests.core.checkout:SERVICES"]))
    older = replace(plan, timeout_ms=1000)
    older = replace(older, hash=plan_hash(older))
    return PlanRow(saga=older.saga, version=1, revision=1, hash=older.hash, body=plan_to_json(older))


def test_too_few_connections(url: str) -> None:
    said = doctor(url + "?pool_size=500")
    found = only(said, "connections-few")
    assert (said.code, "max_connections = " in found["mend"]) == (1, True)
    run_sql(url, f'alter database "{name_of(url)}" connection limit 12')
    with open_session(url), open_session(url):
        found = only(doctor(url, "--limit", "connections_share=0.2"), "connections-taken")
        assert f"alter database {name_of(url)} connection limit -1" in found["mend"]


def test_a_transaction_that_stays_open_is_ended_by_the_command(url: str) -> None:
    begun = ("begin isolation level repeatable read", "select count(*) from saga_outbox")
    with open_session(url, *begun) as pid:
        found = only(doctor(url, "--limit", "transaction_seconds=0"), "transaction-old")
        assert (f"pg_terminate_backend({pid})" in found["mend"], "report.py" in found["text"]) == (True, True)
        run_sql(url, f"select pg_terminate_backend({pid})")
        assert doctor(url, "--limit", "transaction_seconds=0").lines == []


def test_dead_rows_and_the_vacuum_that_clears_them(url: str) -> None:
    fill = "insert into saga_lease select 'l' || g, 'x', now() from generate_series(1, 500) g"
    run_sql(url, "alter table saga_lease set (autovacuum_enabled = off)", fill, "delete from saga_lease")
    run_sql(url, "select pg_stat_force_next_flush()", "analyze saga_lease")
    limits = ("--limit", "dead_rows=100")
    found = only(_until(lambda: doctor(url, *limits), lambda said: bool(said.lines)), "bloat")
    assert found["mend"].endswith('-c "vacuum (analyze) saga_lease"')
    run_sql(url, "vacuum (analyze) saga_lease")
    assert _until(lambda: doctor(url, *limits), lambda said: not said.lines).code == 0


def test_an_outbox_that_nobody_publishes(url: str) -> None:
    async def fill() -> None:
        async with open_store(url) as store:
            await put(store, Changes(outbox=(outgoing(),)))

    anyio.run(fill)
    run_sql(url, "update saga_outbox set created_at = now() - interval '10 minutes'")
    said = doctor(url)
    found = only(said, "outbox-old")
    assert (said.code, "10 min" in found["text"], found["mend"].startswith("saga relay --store ")) == (1, True, True)
    run_sql(url, "insert into saga_lease values ('sweep', 'relay-7', now() + interval '1 minute')")
    assert "relay-7 is at work" in only(doctor(url), "outbox-old")["text"]


def test_an_on_end_that_fails(url: str) -> None:
    ends(url)
    found = next(line for line in doctor(url).lines if line["code"] == "on-end-fails")
    assert found["text"].startswith("on_end of orders fails for 2 sagas, up to 2 times: SMTPError; ")


def test_dead_letters_stuck_sagas_and_a_coordinator_that_is_not_there(url: str) -> None:
    async def fill() -> None:
        async with open_store(url) as store, open_coordination_store(url) as coordination:
            await put(store, Changes(insert_deliveries=(dead(1, "no sku"), dead(2, "no sku"))))
            due = replace(instance("s2"), phase="running", due_at=datetime.now(UTC) - timedelta(hours=1))
            await coordination.write(CoordinatorChanges(instances=(replace(row("s1", STUCK), due_at=None), due)))

    anyio.run(fill)
    said = doctor(url)
    codes = {line["code"]: line for line in said.lines}
    assert (said.code, sorted(codes)) == (1, ["coordinator-silent", "dead-letters", "sagas-stuck"])
    assert "most often no sku" in codes["dead-letters"]["text"]
    assert "saga dlq replay --all" in codes["dead-letters"]["mend"]
    assert codes["sagas-stuck"]["mend"].startswith("saga ls --phase stuck")
    assert "saga explain s1 --store " in codes["sagas-stuck"]["mend"]
    assert codes["coordinator-silent"]["mend"].startswith("saga coordinator")
    assert saga("ls", "--phase", "stuck", "--json", store=url).lines[0]["saga_id"] == "s1"


class WrongClock:
    """Be a clock that is a minute behind."""

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(minutes=1)


def test_a_clock_that_is_wrong(url: str) -> None:
    found: tuple[Found, ...] = diagnose(anyio.run(examine, Asked(stores=(url,), clock=WrongClock())))
    assert [one.code for one in found] == ["clock-skew"]
    assert "this machine's clock is 60 s behind the database's" in found[0].text
    assert "ntp" in found[0].mend


def test_a_limit_that_is_none_is_used_wrongly(url: str) -> None:
    assert doctor(url, "--limit", "nonsense=1").code == 2
    assert doctor(url, "--limit", "outbox_seconds=soon").code == 2
