"""Declare what the owner of a shard asks of a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from saga._core.rows import OutboxRow
from saga._core.sharing import Attendance


class ShardStore(Protocol):
    """Let the relays share out the shards of the outbox by leases, and read the rows of those they hold."""

    async def attend(self, owner: str, lease_seconds: float) -> Attendance:
        """Write down that a relay is at work for the length of a lease; return who is, and who holds what."""
        ...

    async def hold_shards(self, owner: str, shards: Sequence[int], lease_seconds: float) -> frozenset[int]:
        """Take or renew the leases that nobody else has, on the database clock, and return which these are."""
        ...

    async def give_up(self, owner: str, shards: Sequence[int] | None) -> None:
        """Free shards of the owner's; None: all of them, and it is not at work any more."""
        ...

    async def shard_page(
        self, shards: Sequence[int], keys: Sequence[str], *, limit: int, each: int
    ) -> Sequence[OutboxRow]:
        """Return committed rows of the shards in order of `seq`, at most `each` of a shard, without those of `keys`.

        Of every key the first ones are among them, or none.
        """
        ...

    async def has_sharded(self) -> bool:
        """Return whether there is a committed row that belongs to a shard; cheap."""
        ...
