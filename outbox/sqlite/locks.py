"""Hold entities for sagas on SQLite."""

from __future__ import annotations

from collections.abc import Mapping

from anyio.lowlevel import checkpoint_if_cancelled

from outbox.codec import from_micros, storable, to_micros
from outbox.sqlite.driver import Connection, run
from saga._core.locks import LockRequest, LockView
from saga.ports import Clock


class SqliteLocks:
    """Be the part of a unit of work that keeps `saga_lock`; see `saga.ports.EntityLocks`.

    Nobody else writes as long as the transaction is open, so that seeing an entity locks nothing.
    """

    _connection: Connection
    _sql: Mapping[str, str]
    _service: str
    _clock: Clock

    async def see_lock(self, request: LockRequest) -> LockView:
        """Return what is stored of an entity."""
        await checkpoint_if_cancelled()
        entity = (self._service, request.kind, request.entity)
        message = storable(request.message_id)
        held = run(self._connection, self._sql["see_lock"], entity).rows
        place = run(self._connection, self._sql["see_place"], (*entity, request.saga_id, request.step, message)).rows
        ahead = run(self._connection, self._sql["see_ahead"], (*entity, request.saga_id, request.step, message)).rows
        kept = held[0]["keep_until"] if held else None
        return LockView(
            now=self._clock.now(),
            holder=held[0]["saga_id"] if held else "",
            expires_at=from_micros(held[0]["expires_at"]) if held else None,
            keep_until=None if kept is None else from_micros(kept),
            ahead=ahead[0]["saga_id"] if ahead else "",
            since=from_micros(place[0]["since"]) if place else None,
        )

    async def take_lock(self, request: LockRequest) -> None:
        """Store the saga as the holder of an entity seen."""
        await checkpoint_if_cancelled()
        mine = (self._service, request.kind, request.entity, request.saga_id)
        now = self._now()
        run(self._connection, self._sql["take_lock"], (*mine, to_micros(request.expires_at), now))
        run(self._connection, self._sql["wake_mine"], (*mine, now))
        run(self._connection, self._sql["leave_queue"], mine)

    async def wait_for_lock(self, request: LockRequest) -> None:
        """Give the request's delivery a place behind all others, or leave it the one it has."""
        await checkpoint_if_cancelled()
        delivery = (request.saga_id, request.step, storable(request.message_id))
        here = (self._service, request.kind, request.entity, *delivery)
        args = (*here, request.otherwise.value, to_micros(request.expires_at), self._now())
        run(self._connection, self._sql["wait_for_lock"], args)
        for row in run(self._connection, self._sql["other_places"], here).rows:
            there = (self._service, row["kind"], row["entity"])
            run(self._connection, self._sql["leave_place"], (*there, *delivery))
            run(self._connection, self._sql["wake_next"], (*there, self._now()))

    async def release_locks(self, saga_id: str) -> int:
        """Free whatever the saga holds and let the next delivery become due."""
        await checkpoint_if_cancelled()
        mine = (self._service, saga_id)
        entities = run(self._connection, self._sql["held_locks"], mine).rows
        if entities:
            run(self._connection, self._sql["free_locks"], mine)
            run(self._connection, self._sql["leave_queues"], mine)
        for row in entities:
            run(self._connection, self._sql["wake_next"], (self._service, row["kind"], row["entity"], self._now()))
        return len(entities)

    def _now(self) -> int:
        return to_micros(self._clock.now())
