"""Be a database as people look at it, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import orjson

from outbox.audits import as_audit
from outbox.backlog import as_backlog
from outbox.operating import FOOTPRINT_LIMIT, GROUP_LIMIT, Tables, as_count, as_group, as_untold, check_tables
from outbox.sql import Component
from outbox.sqlite.base import SqliteBase, json_list
from outbox.sqlite.driver import MEMORY, Connection, run
from outbox.sqlite.unit import CODEC, insert_audits, insert_outbox
from saga._core.audit import AuditRow
from saga._core.backlog import Backlog
from saga._core.inspecting import InstanceCount, InstanceFilter, InstancePlace, SagaRows, UntoldEnd
from saga._core.letters import ERROR_PREFIX_CHARS, By, LetterFilter, LetterGroup, discarded, keys_of, replay
from saga._core.rows import DeliveryKey, DeliveryRow, InstanceRow
from saga.errors import SettingsError


class SqliteOperatingStore(SqliteBase):
    """Look after a participant's or a coordinator's file; see `saga.ports.OperatingStore`.

    A database in memory is the one its `name` names, as long as somebody else has it open.
    """

    component = Component.SHARED

    async def __aenter__(self) -> Self:
        """Open the file; raises SettingsError when it is not there or holds no tables of saga, StoreUnavailable."""
        self._check_file()
        await super().__aenter__()
        try:
            await self._check(Tables.SHARED)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _check_file(self) -> None:
        # SQLite would make an empty one.
        if self._path != MEMORY and not Path(self._path).is_file():
            raise SettingsError(f"there is no file {self._path}: name the database of an app that has come up once")

    async def _check(self, needed: Tables) -> None:
        found = (await self._database.read(self._sql["tables"]))[0]
        check_tables(found, needed, self._path)

    # --- dead letters ----------------------------------------------------------------------------------------

    async def list_dead(self, wanted: LetterFilter, *, after_id: int = 0, limit: int = 100) -> Sequence[DeliveryRow]:
        """Read a page of letters in the order of their ID."""
        texts = (wanted.service, wanted.saga_id, wanted.step, wanted.error)
        args = (after_id, *texts, json_list(wanted.ids), wanted.up_to_id, limit)
        return [CODEC.as_delivery(row) for row in await self._database.read(self._sql["list_dead"], args)]

    async def last_dead(self) -> int:
        """Return the highest ID of a dead letter, 0 without any."""
        return int((await self._database.read(self._sql["last_dead"]))[0]["id"])

    async def show_dead(self, letter_id: int) -> DeliveryRow | None:
        """Read one letter, None when there is no such letter any more."""
        rows = await self._database.read(self._sql["show_dead"], (letter_id,))
        return CODEC.as_delivery(rows[0]) if rows else None

    async def replay(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Let letters be delivered again and return how many there were."""
        async with self._database.transaction() as connection:
            letters = self._locked(connection, ids)
            by = By(who=who, why=why, at=self._clock.now())
            decided = replay(letters, self._waiting(connection, letters), by)
            run(connection, self._sql["delete_letters"], (json_list(decided.used),))
            run(connection, self._sql["retry_letters"], (json_list(decided.retry), self._now()))
            insert_outbox(connection, self._sql, decided.outbox, self._now())
            insert_audits(connection, self._sql, decided.audits)
            return len(decided.audits)

    async def discard(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Delete letters and return how many there were."""
        async with self._database.transaction() as connection:
            letters = self._locked(connection, ids)
            audits = discarded(letters, By(who=who, why=why, at=self._clock.now()))
            run(connection, self._sql["delete_letters"], (json_list([letter.id for letter in letters]),))
            insert_audits(connection, self._sql, audits)
            return len(audits)

    async def group_dead(self) -> Sequence[LetterGroup]:
        """Count letters by service, step and the beginning of the error; most first."""
        args = (ERROR_PREFIX_CHARS, GROUP_LIMIT, self._now())
        return [as_group(row) for row in await self._database.read(self._sql["group_dead"], args)]

    def _locked(self, connection: Connection, ids: Sequence[int]) -> list[DeliveryRow]:
        rows = run(connection, self._sql["lock_dead"], (json_list(ids),)).rows
        return [CODEC.as_delivery(row) for row in rows]

    def _waiting(self, connection: Connection, letters: Sequence[DeliveryRow]) -> set[DeliveryKey]:
        return {key for key in keys_of(letters) if run(connection, self._sql["waiting_key"], key).rows}

    # --- what a coordinator knows -----------------------------------------------------------------------------

    async def find(
        self, wanted: InstanceFilter, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[InstanceRow]:
        """Read a page of sagas, newest first, behind `after`."""
        await self._check(Tables.COORDINATOR)
        started_at, saga_id = after if after is not None else (None, None)
        args = (
            wanted.saga,
            wanted.version,
            orjson.dumps(wanted.phases).decode(),
            wanted.tenant,
            CODEC.time(wanted.started_from),
            CODEC.time(wanted.started_before),
            CODEC.time(started_at),
            saga_id,
            limit,
        )
        return [CODEC.as_instance(row) for row in await self._database.read(self._sql["find_instances"], args)]

    async def counts(self) -> Sequence[InstanceCount]:
        """Count all sagas by name, version and phase."""
        await self._check(Tables.COORDINATOR)
        return [as_count(row) for row in await self._database.read(self._sql["count_instances"])]

    async def audits(self, saga_id: str | None, *, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first."""
        name, args = ("audits", (limit,)) if saga_id is None else ("audits_of", (saga_id, limit))
        return [as_audit(CODEC, row) for row in await self._database.read(self._sql[name], args)]

    # --- what participants keep -------------------------------------------------------------------------------

    async def find_runs(self, saga_id: str) -> SagaRows:
        """Read all runs, gates and deliveries of a saga."""
        await self._check(Tables.PARTICIPANT)
        args = (saga_id, FOOTPRINT_LIMIT)
        runs = await self._database.read(self._sql["footprint_runs"], args)
        gates = await self._database.read(self._sql["footprint_gates"], args)
        deliveries = await self._database.read(self._sql["footprint_deliveries"], args)
        return SagaRows(
            runs=tuple(CODEC.as_run(row) for row in runs),
            gates=tuple(CODEC.as_gate(row) for row in gates),
            deliveries=tuple(CODEC.as_delivery(row) for row in deliveries),
        )

    async def untold_ends(self, saga_ids: Sequence[str] = (), *, limit: int = 1_000) -> Sequence[UntoldEnd]:
        """Read whose `on_end` has failed and is tried again, of these sagas or of all."""
        await self._check(Tables.PARTICIPANT)
        args = (orjson.dumps(list(saga_ids)).decode(), limit)
        return [as_untold(row) for row in await self._database.read(self._sql["untold_ends"], args)]

    # --- the outbox -------------------------------------------------------------------------------------------

    async def backlog(self) -> Backlog:
        """Count what waits to be published; see `saga.ports.backlog.Backlogged`."""
        now = (self._now(),)
        parts = await self._database.read(self._sql["backlog_parts"], now)
        shards = await self._database.read(self._sql["backlog_shards"], now)
        leases = await self._database.read(self._sql["backlog_leases"], now)
        return as_backlog(parts, shards, leases, await self._database.read(self._sql["backlog_oldest"], now), 1e-6)
