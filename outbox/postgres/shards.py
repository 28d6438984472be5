"""Share out the shards of the outbox, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from outbox.leases import attendance_of, names_of, shards_of
from outbox.messages import as_outbox
from outbox.postgres.base import PostgresBase
from saga._core.rows import OutboxRow
from saga._core.sharing import Attendance


class PostgresShards(PostgresBase):
    """Let relays at the rows of their shards; see `saga.ports.ShardStore`."""

    async def attend(self, owner: str, lease_seconds: float) -> Attendance:
        """Write down that a relay is at work; return who is, and who holds what. One statement."""
        return attendance_of(await self._fetch("attend", owner, lease_seconds))

    async def hold_shards(self, owner: str, shards: Sequence[int], lease_seconds: float) -> frozenset[int]:
        """Take or renew the leases that nobody else has, and return which these are."""
        return shards_of(await self._fetch("hold_shards", owner, sorted(shards), lease_seconds))

    async def give_up(self, owner: str, shards: Sequence[int] | None) -> None:
        """Free shards of the owner's; None: all of them, and it is not at work any more."""
        await self._fetch("give_up", owner, names_of(owner, shards))

    async def shard_page(
        self, shards: Sequence[int], keys: Sequence[str], *, limit: int, each: int
    ) -> Sequence[OutboxRow]:
        """Return committed rows of the shards in order of `seq`, at most `each` of a shard, without those of `keys`."""
        return [as_outbox(row) for row in await self._fetch("shard_page", list(shards), list(keys), each, limit)]

    async def has_sharded(self) -> bool:
        """Return whether there is a committed row that belongs to a shard."""
        return bool((await self._fetch("has_sharded"))[0]["some"])
