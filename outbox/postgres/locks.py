"""Hold entities for sagas on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from outbox.codec import storable
from outbox.postgres.driver import Record
from outbox.postgres.link import PostgresLink
from outbox.postgres.parts import Composer, Part
from saga._core.locks import LockRequest, LockView


class PostgresLocks:
    """Be the part of a unit of work that keeps `saga_lock`; see `saga.ports.EntityLocks`.

    Seeing an entity locks its row: two round trips, and a third to take it.
    """

    _link: PostgresLink
    _composer: Composer
    _service: str

    async def see_lock(self, request: LockRequest) -> LockView:
        """Return what is stored of an entity once its row is locked."""
        entity = (self._service, request.kind, request.entity)
        await self._run("claim_lock", *entity)
        (row,) = await self._fetch("see_lock", *entity, request.saga_id, request.step, storable(request.message_id))
        return LockView(
            now=row["now"],
            holder=row["saga_id"],
            expires_at=row["expires_at"],
            keep_until=row["keep_until"],
            ahead=row["ahead"] or "",
            since=row["since"],
        )

    async def take_lock(self, request: LockRequest) -> None:
        """Store the saga as the holder of an entity seen."""
        await self._run("take_lock", self._service, request.kind, request.entity, request.saga_id, request.expires_at)

    async def wait_for_lock(self, request: LockRequest) -> None:
        """Give the request's delivery a place behind all others, or leave it the one it has."""
        delivery = (request.saga_id, request.step, storable(request.message_id))
        here = (self._service, request.kind, request.entity, *delivery)
        for row in await self._fetch("other_places", *here):
            # Who lets go of it just now either sees the place given up, or has woken somebody before.
            await self._run("claim_lock", self._service, row["kind"], row["entity"])
        left = await self._fetch("wait_for_lock", *here, request.otherwise.value, request.expires_at)
        await self._wake_next(left)

    async def release_locks(self, saga_id: str) -> int:
        """Free whatever the saga holds and let the next delivery become due."""
        rows = await self._fetch("release_locks", self._service, saga_id)
        await self._wake_next(rows)
        return len(rows)

    async def _wake_next(self, entities: Sequence[Record]) -> None:
        if entities:
            kinds, names = [row["kind"] for row in entities], [row["entity"] for row in entities]
            await self._run("wake_next", self._service, kinds, names)

    async def _run(self, name: str, *args: object) -> None:
        sql, values = self._composer.write([Part(name, args)])
        await self._link.execute(sql, values)

    async def _fetch(self, name: str, *args: object) -> list[Record]:
        sql, values = self._composer.read([Part(name, args)])
        return await self._link.fetch(sql, values)
