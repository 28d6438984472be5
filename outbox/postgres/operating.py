"""Be a database as people look at it, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from outbox.audits import as_audit
from outbox.backlog import as_backlog
from outbox.codec import Values
from outbox.operating import FOOTPRINT_LIMIT, GROUP_LIMIT, Tables, as_count, as_group, as_untold, check_tables
from outbox.postgres.base import BEGIN, PostgresBase
from outbox.postgres.driver import Link
from outbox.postgres.parts import Part, columns
from outbox.postgres.settings import shown
from outbox.postgres.unit import CODEC, audits_part, outbox_part, run_parts
from outbox.sql import Component
from saga._core.audit import AuditRow
from saga._core.backlog import Backlog
from saga._core.inspecting import InstanceCount, InstanceFilter, InstancePlace, SagaRows, UntoldEnd
from saga._core.letters import ERROR_PREFIX_CHARS, By, LetterFilter, LetterGroup, discarded, keys_of, replay
from saga._core.rows import DeliveryKey, DeliveryRow, InstanceRow


class PostgresOperatingStore(PostgresBase):
    """Look after a participant's or a coordinator's database; see `saga.ports.OperatingStore`."""

    component = Component.SHARED

    async def __aenter__(self) -> Self:
        """Connect; raises SettingsError for a refused user or a database without tables of saga, StoreUnavailable."""
        await super().__aenter__()
        try:
            await self._check(Tables.SHARED)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _check(self, needed: Tables) -> None:
        found = (await self._fetch("tables"))[0]
        check_tables(found, needed, shown(self._pool.url))

    # --- dead letters ----------------------------------------------------------------------------------------

    async def list_dead(self, wanted: LetterFilter, *, after_id: int = 0, limit: int = 100) -> Sequence[DeliveryRow]:
        """Read a page of letters in the order of their ID."""
        texts = (wanted.service, wanted.saga_id, wanted.step, wanted.error)
        rows = await self._fetch("list_dead", after_id, *texts, list(wanted.ids), wanted.up_to_id, limit)
        return [CODEC.as_delivery(row) for row in rows]

    async def last_dead(self) -> int:
        """Return the highest ID of a dead letter, 0 without any."""
        return int((await self._fetch("last_dead"))[0]["id"])

    async def show_dead(self, letter_id: int) -> DeliveryRow | None:
        """Read one letter, None when there is no such letter any more."""
        rows = await self._fetch("show_dead", letter_id)
        return CODEC.as_delivery(rows[0]) if rows else None

    async def replay(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Let letters be delivered again and return how many there were."""
        async with self._pool.transaction(BEGIN) as link:
            letters, by = await self._locked(link, ids, who, why)
            decided = replay(letters, await self._waiting(link, letters), by)
            parts: list[Part] = []
            if decided.retry:
                parts.append(Part("retry_letters", (decided.retry,)))
            if decided.used:
                parts.append(Part("delete_letters", (decided.used,)))
            parts += outbox_part(decided.outbox) + audits_part(decided.audits)
            await run_parts(link, self._composer, parts, {})
            return len(decided.audits)

    async def discard(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Delete letters and return how many there were."""
        async with self._pool.transaction(BEGIN) as link:
            letters, by = await self._locked(link, ids, who, why)
            audits = discarded(letters, by)
            if letters:
                gone = Part("delete_letters", ([letter.id for letter in letters],))
                await run_parts(link, self._composer, [gone, *audits_part(audits)], {})
            return len(audits)

    async def group_dead(self) -> Sequence[LetterGroup]:
        """Count letters by service, step and the beginning of the error; most first."""
        return [as_group(row) for row in await self._fetch("group_dead", ERROR_PREFIX_CHARS, GROUP_LIMIT)]

    async def _locked(self, link: Link, ids: Sequence[int], who: str, why: str) -> tuple[list[DeliveryRow], By]:
        rows = await link.fetch(self._sql["lock_dead"], (list(ids),))
        now = (await link.fetch(self._sql["now"], ()))[0]["clock_timestamp"]
        return [CODEC.as_delivery(row) for row in rows], By(who=who, why=why, at=now)

    async def _waiting(self, link: Link, letters: Sequence[DeliveryRow]) -> set[DeliveryKey]:
        keys: list[Values] = list(keys_of(letters))
        if not keys:
            return set()
        rows = await link.fetch(self._sql["waiting_keys"], columns(keys))
        return {(row["service"], row["saga_id"], row["step"], row["message_id"]) for row in rows}

    # --- what a coordinator knows -----------------------------------------------------------------------------

    async def find(
        self, wanted: InstanceFilter, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[InstanceRow]:
        """Read a page of sagas, newest first, behind `after`."""
        await self._check(Tables.COORDINATOR)
        started_at, saga_id = after if after is not None else (None, None)
        rows = await self._fetch(
            "find_instances",
            wanted.saga,
            wanted.version,
            list(wanted.phases),
            wanted.tenant,
            wanted.started_from,
            wanted.started_before,
            started_at,
            saga_id,
            limit,
        )
        return [CODEC.as_instance(row) for row in rows]

    async def counts(self) -> Sequence[InstanceCount]:
        """Count all sagas by name, version and phase."""
        await self._check(Tables.COORDINATOR)
        return [as_count(row) for row in await self._fetch("count_instances")]

    async def audits(self, saga_id: str | None, *, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first."""
        rows = await (self._fetch("audits", limit) if saga_id is None else self._fetch("audits_of", saga_id, limit))
        return [as_audit(CODEC, row) for row in rows]

    # --- what participants keep -------------------------------------------------------------------------------

    async def find_runs(self, saga_id: str) -> SagaRows:
        """Read all runs, gates and deliveries of a saga."""
        await self._check(Tables.PARTICIPANT)
        args = (saga_id, FOOTPRINT_LIMIT)
        runs = await self._fetch("footprint_runs", *args)
        gates = await self._fetch("footprint_gates", *args)
        deliveries = await self._fetch("footprint_deliveries", *args)
        return SagaRows(
            runs=tuple(CODEC.as_run(row) for row in runs),
            gates=tuple(CODEC.as_gate(row) for row in gates),
            deliveries=tuple(CODEC.as_delivery(row) for row in deliveries),
        )

    async def untold_ends(self, saga_ids: Sequence[str] = (), *, limit: int = 1_000) -> Sequence[UntoldEnd]:
        """Read whose `on_end` has failed and is tried again, of these sagas or of all."""
        await self._check(Tables.PARTICIPANT)
        return [as_untold(row) for row in await self._fetch("untold_ends", list(saga_ids), limit)]

    # --- the outbox -------------------------------------------------------------------------------------------

    async def backlog(self) -> Backlog:
        """Count what waits to be published; see `saga.ports.backlog.Backlogged`."""
        parts = await self._fetch("backlog_parts")
        shards = await self._fetch("backlog_shards")
        leases = await self._fetch("backlog_leases")
        return as_backlog(parts, shards, leases, await self._fetch("backlog_oldest"), 1.0)
