"""Write transactions with events and sagas in them, some of which are taken back as a whole or in part."""

from __future__ import annotations

from random import Random
from typing import Any, NoReturn, cast
from uuid import uuid4

import anyio
import asyncpg

from saga.errors import Contended, StoreUnavailable
from saga.outbox import Joined, Outbox
from tests.chaos.outbox_shop import KEYS, Bought, Moved, Noted, There, place

PAUSE_SECONDS = 0.05
ROLLED_BACK, SAVEPOINT, SLOW, ORDER = 0.08, 0.06, 0.03, 0.2
SLOW_SECONDS = (0.2, 2.0)
DECLINED = 0.2
COUNT = "update counter set n = n + 1 where key = $1 returning n"
WROTE = "insert into written values ($1, $2, $3, $4)"
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, StoreUnavailable, Contended)


class RolledBackError(Exception):
    """Undo a transaction on purpose."""


def _undo() -> NoReturn:
    raise RolledBackError


class Writer:
    """Write transactions, one after the other; with `sagas` too once they can be started."""

    def __init__(self, outbox: Outbox, there: There, rng: Random) -> None:
        self._outbox, self._there, self._rng = outbox, there, rng
        self.sagas = self.stopped = False

    async def write_on(self, pool: Any) -> None:
        """Write until `stopped`, or there is a file `stop`; a database that is away is waited for."""
        while not self.stopped and not self._there.stop.exists():
            try:
                async with pool.acquire(timeout=5.0) as connection:
                    await self._transaction(connection)
            except TROUBLE:
                await anyio.sleep(0.2)
            await anyio.sleep(self._rng.uniform(0.0, 2 * PAUSE_SECONDS))

    async def _transaction(self, connection: Any) -> None:
        rng = self._rng
        end = rng.random()
        # Sorted, so that two transactions do not wait for each other.
        keys = sorted(_key(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 3))))
        try:
            async with connection.transaction():
                for key in keys:
                    await self._moved(connection, key)
                if not keys or rng.random() < 0.3:
                    await self._noted(connection)
                if self.sagas and rng.random() < ORDER:
                    await self._bought(connection)
                if end < ROLLED_BACK:
                    _undo()
                if end < ROLLED_BACK + SAVEPOINT:
                    await self._taken_back(connection, max(*keys, _key(rng)) if keys else _key(rng))
                if rng.random() < SLOW:
                    await anyio.sleep(rng.uniform(*SLOW_SECONDS))
        except RolledBackError:
            self._tell("rolled back")

    async def _taken_back(self, connection: Any, key: str) -> None:
        try:
            async with connection.transaction():
                await self._moved(connection, key)
                await self._noted(connection)
                _undo()
        except RolledBackError:
            self._tell("savepoint rolled back")
        await self._moved(connection, key)

    async def _moved(self, connection: Any, key: str) -> None:
        uid = uuid4().hex
        number: int = await connection.fetchval(COUNT, key)
        event = Moved(uid=uid, key=key, number=number)
        joined = cast("Joined", self._outbox.join(connection))
        message_id = await joined.publish(event, key=key)
        await connection.execute(WROTE, message_id, uid, key, number)

    async def _noted(self, connection: Any) -> None:
        uid = uuid4().hex
        joined = cast("Joined", self._outbox.join(connection))
        message_id = await joined.publish(Noted(uid=uid))
        await connection.execute(WROTE, message_id, uid, None, 0)

    async def _bought(self, connection: Any) -> None:
        order_id = uuid4().hex
        await connection.execute("insert into placed values ($1)", order_id)
        bought = Bought(order_id=order_id, declined=self._rng.random() < DECLINED)
        await place(bought, key=order_id, connection=connection)

    def _tell(self, what: str) -> None:
        with (self._there.folder / "undone.log").open("a") as log:
            log.write(f"{what}\n")


def _key(rng: Random) -> str:
    """Return one of the keys; the first ones are drawn often."""
    return f"k{int(KEYS * rng.random() ** 2)}"
