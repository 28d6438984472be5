"""Examine a PostgreSQL database; see `saga.ports.checkups.Checkup`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from outbox.backlog import as_backlog
from outbox.checkup import components_in, migration_facts, stuck_in, untold_in
from outbox.clock import SystemClock
from outbox.operating import GROUP_LIMIT, as_count, as_group
from outbox.postgres.base import PostgresBase
from outbox.postgres.driver import Record
from outbox.postgres.grants import grants_of
from outbox.postgres.settings import PostgresSettings, shown
from outbox.sql import Component, Dialect, Migration, migrations
from saga._core.doctor.facts import DatabaseFacts, HeldBack, OpenTransaction, ServerFacts, TableFact
from saga._core.letters import ERROR_PREFIX_CHARS
from saga.ports import Clock

_ASKED = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")


class PostgresCheckup(PostgresBase):
    """Read what a server says of itself and of saga's tables."""

    component = Component.SHARED

    def __init__(self, url: str, *, settings: PostgresSettings | None = None, clock: Clock | None = None) -> None:
        """Examine the database of a URL; `clock` is this machine's. Raises SettingsError."""
        super().__init__(url, settings=settings)
        self._clock = clock or SystemClock()
        self._there: tuple[Component, ...] = ()

    async def facts(self) -> DatabaseFacts:
        """Read everything; a part whose tables are missing is left out."""
        self._there = components_in((await self._fetch("tables"))[0])
        server = await self._server()
        name = shown(self._pool.url)
        if not self._there or server.missing:
            # Without the right to read, nothing more can be asked.
            return DatabaseFacts(name=name, store="", components=self._names(), server=server)
        behind = migration_facts(await self.migrations())
        if any(fact.phase == "before" for fact in behind):
            # Queries of this version may ask for what is not there.
            return DatabaseFacts(name=name, store="", components=self._names(), migrations=behind, server=server)
        coordinates = Component.COORDINATOR in self._there
        leases = await self._fetch("backlog_leases")
        outbox = [await self._fetch(f"backlog_{part}") for part in ("parts", "shards", "oldest")]
        return DatabaseFacts(
            name=name,
            store="",
            components=self._names(),
            migrations=behind,
            server=server,
            backlog=as_backlog(outbox[0], outbox[1], leases, outbox[2], 1.0),
            letters=tuple(as_group(row) for row in await self._fetch("group_dead", ERROR_PREFIX_CHARS, GROUP_LIMIT)),
            counts=tuple(as_count(row) for row in await self._fetch("count_instances")) if coordinates else (),
            overdue_seconds=(await self._fetch("checkup_overdue"))[0]["seconds"] if coordinates else 0.0,
            stuck=stuck_in(await self._fetch("checkup_stuck")) if coordinates else "",
            untold=untold_in(await self._fetch("checkup_untold")),
        )

    def _names(self) -> frozenset[str]:
        return frozenset(component.value for component in self._there)

    def _known(self) -> list[Migration]:
        return [each for name in self._there for each in migrations(Dialect.POSTGRES, name, self._schema)]

    @property
    def _components(self) -> tuple[Component, ...]:
        return self._there

    # --- the server --------------------------------------------------------------------------------------------

    async def _server(self) -> ServerFacts:
        sent, began = self._clock.now(), anyio.current_time()
        row = (await self._fetch("checkup_server"))[0]
        took = anyio.current_time() - began
        settings = await self._fetch("checkup_settings", list(_ASKED))
        allowed, used, limit_of = _room(row)
        return ServerFacts(
            role=row["role"],
            database=row["database"],
            settings={each["name"]: each["setting"] for each in settings},
            statement_timeout_seconds=self._settings.statement_timeout_seconds,
            idle_in_transaction_seconds=self._settings.idle_in_transaction_seconds,
            pool_size=self._settings.pool_size,
            used=used,
            allowed=allowed,
            limit_of=limit_of,
            skew_seconds=(row["now"] - sent).total_seconds() - took / 2,
            skew_error_seconds=took / 2,
            in_recovery=row["standby"],
            missing=await self._missing(),
            transactions=_transactions(await self._fetch("checkup_transactions")),
            held_back=tuple(
                HeldBack(kind=each["kind"], name=each["name"], transactions=each["transactions"])
                for each in await self._fetch("checkup_held_back")
            ),
            tables=_tables(await self._fetch("checkup_tables", self._schema)),
        )

    async def _missing(self) -> Mapping[str, tuple[str, ...]]:
        prefix = "" if self._schema is None else f'"{self._schema}".'
        wanted = [
            (prefix + table, privilege)
            for table, privileges in grants_of(self._there).items()
            for privilege in privileges.split(", ")
        ]
        tables, privileges = [table for table, _ in wanted], [privilege for _, privilege in wanted]
        missing: dict[str, tuple[str, ...]] = {}
        for row in await self._fetch("missing_grants", tables, privileges):
            missing[row["relation"]] = (*missing.get(row["relation"], ()), row["privilege"])
        return missing


def _room(row: Record) -> tuple[int, int, str]:
    """Return how many connections there may be, how many there are, and whose limit that is: the tightest."""
    limits = [(row["of_server"], row["at_server"], "max_connections")]
    limits += [(row["of_database"], row["in_database"], "database")] if row["of_database"] >= 0 else []
    limits += [(row["of_role"], row["by_role"], "role")] if row["of_role"] >= 0 else []
    return min(limits, key=lambda limit: limit[0] - limit[1])


def _transactions(rows: Sequence[Record]) -> tuple[OpenTransaction, ...]:
    return tuple(
        OpenTransaction(
            pid=row["pid"],
            state=row["state"],
            user=row["usename"],
            application=row["application"],
            seconds=row["seconds"],
        )
        for row in rows
    )


def _tables(rows: Sequence[Record]) -> tuple[TableFact, ...]:
    return tuple(
        TableFact(name=row["name"], live=row["live"], dead=row["dead"], vacuumed_seconds=row["vacuumed"])
        for row in rows
    )
