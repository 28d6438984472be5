"""Run what docs/postgres.md says: its code, its roles, and what is told when a grant is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.inboxes import InboxPruner
from outbox.postgres import PostgresCoordinationStore, PostgresOperatingStore, PostgresSettings, PostgresStore
from outbox.postgres.grants import GRANTS, grants_of
from outbox.sql import Component, Phase
from saga import Ending, Service
from saga._core.letters import LetterFilter
from saga._core.resolve import resolve_all
from saga._core.rows import Changes
from saga._runtime.stations import check_user_migrations, run_user_migrations
from saga.app import App
from saga.errors import GrantMissing, SchemaMismatch, SettingsError
from saga.ports.keeping import Prunable
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.locks_contract import LocksContract
from tests.contracts.store_contract import LONG_SECONDS, StoreContract, give_prune
from tests.contracts.store_rows import claim, outgoing, run, saga_id
from tests.docs.blocks import Block, blocks_of
from tests.outbox.test_postgres import CoordinationBench, PostgresBench, ask

__all__ = ["give_prune"]

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

PAGE = Path(__file__).parents[2] / "docs" / "postgres.md"
ROLES = ("saga_owner", "orders_app", "saga_coordinator", "saga_reader")


def blocks(language: str) -> list[Block]:
    return [block for block in blocks_of(PAGE.read_text()) if block.language == language]


class Roles:
    """The roles of the page under names of their own: a server may serve several sessions."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._mark = uuid4().hex[:8]

    def url(self, role: str, **settings: str) -> str:
        parts = urlsplit(self.database)
        server = parts.netloc.rpartition("@")[2]
        query = "&".join(f"{name}={value}" for name, value in {"schema": "saga", **settings}.items())
        return urlunsplit(parts._replace(netloc=f"{self.name(role)}@{server}", query=query))

    def name(self, role: str) -> str:
        return f"{role}_{self._mark}"

    def renamed(self, text: str) -> str:
        return re.sub(rf"\b({'|'.join(ROLES)})\b", lambda role: self.name(role[0]), text)

    async def execute(self, sql: str, role: str | None = None) -> None:
        connection = await asyncpg.connect(self.database)
        try:
            if role is not None:
                await connection.execute(f"set role {self.name(role)}")
            await connection.execute(self.renamed(sql))
        finally:
            await connection.close()

    async def set_up(self) -> None:
        """Do what the page says: the administrator, the migrations, the owner."""
        administrator, owner, *_ = blocks("sql")
        await self.execute(administrator.text)
        await self.migrate()
        await self.execute(owner.text, "saga_owner")

    async def migrate(self) -> None:
        for store in (PostgresStore(self.url("saga_owner")), PostgresCoordinationStore(self.url("saga_owner"))):
            async with store:
                await store.migrate()
                await store.migrate(Phase.AFTER)

    async def forget(self) -> None:
        for role in ROLES:
            if await ask(self.database, "select 1 from pg_roles where rolname = $1", self.name(role)):
                await self.execute(f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


@pytest.fixture
async def roles(database: str) -> AsyncGenerator[Roles]:
    if urlsplit(database).password:
        pytest.skip("the roles have no password")
    roles = Roles(database)
    try:
        await roles.set_up()
        yield roles
    finally:
        await roles.forget()


# --- the code ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(database: str, roles: Roles) -> Iterator[ModuleType]:
    module = ModuleType("document_postgres_page")
    sys.modules[module.__name__] = module
    server = urlsplit(database)
    for block in blocks("python"):
        text = roles.renamed(block.text).replace("@localhost/shop", f"@{server.netloc.rpartition('@')[2]}{server.path}")
        text = text.replace("//shop@", "//postgres@")
        module.__dict__.setdefault("apps", []).append(None)
        exec(compile("\n" * block.line + text, str(PAGE), "exec", dont_inherit=True), module.__dict__)
        module.__dict__["apps"][-1] = module.__dict__["app"]
    yield module
    del sys.modules[module.__name__]


async def test_the_code_of_the_page_runs(database: str, page: Any) -> None:
    assert urlsplit(database).username == "postgres"
    engine: AsyncEngine = page.engine
    app: App = page.apps[0]
    async with app:
        async with engine.begin() as connection:
            await connection.run_sync(page.Base.metadata.create_all)
            await connection.execute(sa.insert(page.Goods), [{"sku": "book", "free": 1}])
        handles = [await page.place(page.Placed(sku="book")) for _ in range(2)]
        endings = {(await handle.outcome(LONG_SECONDS)).ending for handle in handles}
    assert endings == {Ending.COMPLETED, Ending.COMPENSATED}
    assert await ask(database, "select free from goods") == 0
    await engine.dispose()


async def test_an_app_with_the_roles_of_the_page_does_all_it_has_to(roles: Roles, page: Any) -> None:
    await ask(roles.database, "create table goods (sku text primary key, free integer not null)")
    app: App = page.apps[1]
    # The page's handlers use a session, and this app has none: its runs fail, and are written down as failed.
    async with app:
        handle = await page.place(page.Placed(sku="book"))
        assert (await handle.outcome(LONG_SECONDS)).ending is Ending.COMPENSATED
    await page.engine.dispose()


# --- the roles --------------------------------------------------------------------------------------------------


async def test_every_table_has_its_grants_and_the_page_gives_just_these(roles: Roles) -> None:
    connection = await asyncpg.connect(roles.database)
    tables = "select relname from pg_class where relnamespace = 'saga'::regnamespace and relkind in ('r', 'p')"
    assert {row[0] for row in await connection.fetch(tables)} == set(grants_of(Component))
    given = """
        select table_name, string_agg(privilege_type, ', ') from information_schema.role_table_grants
        where grantee = $1 and table_schema = 'saga' group by 1
    """
    for role, component in (("orders_app", Component.PARTICIPANT), ("saga_coordinator", Component.COORDINATOR)):
        found = {row[0]: set(row[1].split(", ")) for row in await connection.fetch(given, roles.name(role))}
        wanted = {**GRANTS[Component.SHARED], **GRANTS[component]}
        assert found == {table: set(privileges.split(", ")) for table, privileges in wanted.items()}
    await connection.close()


async def test_a_missing_grant_is_named_when_an_app_starts(roles: Roles) -> None:
    async with PostgresStore(roles.url("orders_app")) as store:
        for table, privileges in grants_of((Component.SHARED, Component.PARTICIPANT)).items():
            for privilege in privileges.split(", ") if table != "saga_migration" else ():
                await roles.execute(f"revoke {privilege} on saga.{table} from orders_app")
                with pytest.raises(SettingsError) as caught:
                    await store.check_schema()
                assert f'GRANT {privilege} ON "saga".{table} TO "{roles.name("orders_app")}";' in str(caught.value)
                await roles.execute(str(caught.value).partition("\n")[2])
                await store.check_schema()


async def test_a_grant_taken_away_later_is_named_and_waited_for(roles: Roles) -> None:
    saga = saga_id()
    async with PostgresStore(roles.url("orders_app")) as store:
        await roles.execute("revoke insert on saga.saga_outbox from orders_app")
        with pytest.raises(GrantMissing, match="GRANT SELECT, INSERT, DELETE ON saga_outbox"):
            async with store.unit(claim(saga)) as unit:
                await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(),)))
        await roles.execute("revoke usage on schema saga from orders_app")
        with pytest.raises(GrantMissing, match="GRANT USAGE ON SCHEMA saga"):
            await store.pending()
        await roles.execute("grant usage on schema saga to orders_app")
        assert (await store.pending())[0] == 0


async def test_a_service_that_is_not_the_owner_keeps_its_inbox_in_one_table(roles: Roles) -> None:
    async with PostgresStore(roles.url("orders_app")) as store:
        assert await InboxPruner(store, inbox_days=7).prune() == 0
        assert isinstance(store, Prunable)
        for aging in store.aging:
            assert await store.prune(aging, 10, 60.0) == 0
    days = "select count(*) from pg_inherits where inhparent = 'saga.saga_inbox'::regclass"
    assert await ask(roles.database, days) == 1


async def test_a_coordinators_user_may_forget_what_is_old(roles: Roles) -> None:
    async with PostgresCoordinationStore(roles.url("saga_coordinator")) as store:
        await store.check_schema()
        assert isinstance(store, Prunable)
        for aging in store.aging:
            assert await store.prune(aging, 10, 60.0) == 0


async def test_who_only_looks_can_look_and_no_more(roles: Roles) -> None:
    settings = PostgresSettings(schema="saga", pool_size=1)
    url = roles.url("saga_reader")
    async with PostgresOperatingStore(url, settings=settings) as desk:
        assert await desk.list_dead(LetterFilter()) == []
        assert await desk.counts() == []
        assert (await desk.find_runs("nobody")).runs == ()
        with pytest.raises(GrantMissing, match="saga_delivery"):
            await desk.replay([1], who="me", why="because")


async def test_the_services_own_files_are_applied_by_the_owner_and_seen_by_the_service(
    roles: Roles, tmp_path: Path
) -> None:
    _, _, administrator, owner = blocks("sql")
    (tmp_path / "0001.sql").write_text("create table goods (sku text primary key, free integer not null);\n")
    service = resolve_all([Service("inventory", migrations=tmp_path)])[0]
    async with PostgresStore(roles.url("saga_owner")) as store:
        with pytest.raises(
            SettingsError, match=r"cannot be applied: permission denied for schema public: .*GRANT CREATE"
        ):
            await run_user_migrations(store, service)
        await roles.execute(administrator.text)
        await run_user_migrations(store, service)
        await run_user_migrations(store, service)
    async with PostgresStore(roles.url("orders_app")) as store:
        with pytest.raises(
            SettingsError, match="let the owner of that table run GRANT SELECT ON saga_user_migration TO"
        ):
            await check_user_migrations(store, [service])
        await roles.execute(owner.text, "saga_owner")
        await check_user_migrations(store, [service])
        await run_user_migrations(store, service)  # as an app does with migrate=True: there is nothing to do
        async with store.unit(claim(saga_id())) as unit:
            await unit.db.execute("insert into goods values ('book', 1)")
        (tmp_path / "0002.sql").write_text("alter table goods add price integer;\n")
        with pytest.raises(SchemaMismatch, match=r"0002.sql not applied"):
            await check_user_migrations(store, [service])


class LowlyBench(PostgresBench):
    def __init__(self, roles: Roles) -> None:
        super().__init__(roles.database)
        self.store = PostgresStore(roles.url("orders_app", pool_size="4"))
        self.other = PostgresStore(roles.url("orders_app", pool_size="4"))

    async def pass_time(self, seconds: float) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute("set search_path to public, saga")
        for name, column in (
            ("outbox", "created_at"),
            ("lease", "until"),
            ("delivery", "due_at"),
            ("run", "pending_at"),
        ):
            await connection.execute(f"update saga_{name} set {column} = {column} - interval '{seconds} s'")
        await connection.close()

    async def caller(self) -> Any:
        caller = await super().caller()
        await caller.execute("set search_path to public, saga")
        return caller


@pytest.fixture
async def bench(roles: Roles) -> AsyncGenerator[LowlyBench]:
    database = urlsplit(roles.database).path.removeprefix("/")
    await roles.execute(f'alter role orders_app in database "{database}" set search_path to public, saga')
    await roles.execute("grant create on schema public to orders_app")  # the contract has a table of its own
    bench = LowlyBench(roles)
    async with bench.store, bench.other:
        yield bench


class TestStoreOfALowlyUser(StoreContract):
    """All that a store does can be done with the grants of the page."""


class TestLocksOfALowlyUser(LocksContract):
    pass


class LowlyCoordinationBench(CoordinationBench):
    def __init__(self, roles: Roles) -> None:
        super().__init__(roles.database)
        self.store = PostgresCoordinationStore(roles.url("saga_coordinator", pool_size="4"))
        self.other = PostgresCoordinationStore(roles.url("saga_coordinator", pool_size="4"))
        self.participant = PostgresStore(roles.url("orders_app", pool_size="4"))

    async def pass_time(self, seconds: float) -> None:
        await ask(
            self.url, "update saga.saga_outbox set created_at = created_at - $1 * interval '1 second'", float(seconds)
        )

    async def dead(self) -> int:
        return int(await ask(self.url, "select count(*) from saga.saga_delivery where reason = 'dead'"))


class TestCoordinationOfALowlyUser(CoordinationContract):
    @pytest.fixture
    async def bench(self, roles: Roles) -> AsyncGenerator[LowlyCoordinationBench]:
        bench = LowlyCoordinationBench(roles)
        async with bench.store, bench.other, bench.participant:
            yield bench
