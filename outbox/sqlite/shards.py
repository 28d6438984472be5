"""Share out the shards of the outbox, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from outbox.leases import attendance_of, names_of
from outbox.messages import as_outbox
from outbox.sqlite.base import SqliteBase, json_list
from outbox.sqlite.driver import run
from saga._core.rows import OutboxRow
from saga._core.sharing import Attendance

_FORGET_SECONDS = 60.0


class SqliteShards(SqliteBase):
    """Let relays at the rows of their shards; see `saga.ports.ShardStore`."""

    async def attend(self, owner: str, lease_seconds: float) -> Attendance:
        """Write down that a relay is at work; return who is, and who holds what."""
        async with self._database.transaction() as connection:
            run(connection, self._sql["forget_relays"], (self._now(-_FORGET_SECONDS),))
            run(connection, self._sql["attend"], (owner, self._now(lease_seconds)))
            return attendance_of(run(connection, self._sql["attending"], (self._now(),)).rows)

    async def hold_shards(self, owner: str, shards: Sequence[int], lease_seconds: float) -> frozenset[int]:
        """Take or renew the leases that nobody else has, and return which these are."""
        async with self._database.transaction() as connection:
            until, now = self._now(lease_seconds), self._now()
            sql = self._sql["hold_shard"]
            return frozenset(shard for shard in shards if run(connection, sql, (shard, owner, until, now)).touched)

    async def give_up(self, owner: str, shards: Sequence[int] | None) -> None:
        """Free shards of the owner's; None: all of them, and it is not at work any more."""
        names = orjson.dumps(names_of(owner, shards)).decode()
        async with self._database.transaction() as connection:
            run(connection, self._sql["give_up"], (owner, names))

    async def shard_page(
        self, shards: Sequence[int], keys: Sequence[str], *, limit: int, each: int
    ) -> Sequence[OutboxRow]:
        """Return committed rows of the shards in order of `seq`, without those of `keys`; `each` is not needed here."""
        del each
        args = (json_list(shards), orjson.dumps(list(keys)).decode(), limit)
        return [as_outbox(row) for row in await self._database.read(self._sql["shard_page"], args)]

    async def has_sharded(self) -> bool:
        """Return whether there is a committed row that belongs to a shard."""
        return bool((await self._database.read(self._sql["has_sharded"]))[0]["some"])
