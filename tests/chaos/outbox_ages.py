"""Look at how long rows wait in the outbox although everything they need is there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import asyncpg

from tests.chaos.outbox_world import World

EVERY_SECONDS = 0.5
SETTLE_SECONDS = 5.0
"""What clients need to find a server that is back."""
SWEEP = -1

AGES = """
select coalesce(shard, -1) as shard, count(*) as n,
    extract(epoch from clock_timestamp() - min(created_at))::float8 as age
from saga_outbox group by 1
"""
LEASES = (
    "select name, owner from saga_lease where until > clock_timestamp() and (name = 'sweep' or name like 'shard %')"
)


@dataclass(slots=True)
class Ages:
    """Sample the outbox of the shop again and again.

    A shard is disturbed while a server is down, or no process is up that could publish, or one that is dead or
    frozen has its lease. `waited` is how long a row has waited at most without any of that.
    """

    world: World
    servers_up_since: Callable[[], float | None]
    oldest: float = field(default=0.0, init=False)
    waited_keyed: float = field(default=0.0, init=False)
    waited_swept: float = field(default=0.0, init=False)
    most: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)
    undisturbed: int = field(default=0, init=False)
    _last: defaultdict[int, float] = field(default_factory=lambda: defaultdict(time.monotonic), init=False)

    async def watch(self) -> None:
        """Sample until cancelled."""
        connection: Any = None
        try:
            while True:
                try:
                    connection = connection or await asyncpg.connect(self.world.there.shop, timeout=5)
                    await self.sample(connection)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    if connection is not None:
                        connection.terminate()
                    connection = None
                await anyio.sleep(EVERY_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()

    async def sample(self, connection: Any) -> None:
        """Look once."""
        leases = await connection.fetch(LEASES, timeout=5)
        ages = await connection.fetch(AGES, timeout=5)
        now, since = time.monotonic(), self.servers_up_since()
        up = tuple(fork.owner for fork in self.world.forks.values() if fork.up and not fork.name.startswith("desk"))
        well = since is not None and now - since > SETTLE_SECONDS and bool(up)
        dead = {_shard(row["name"]) for row in leases if not row["owner"].startswith(up)}
        self.samples += 1
        self.undisturbed += well
        self.most = max(self.most, sum(row["n"] for row in ages))
        for row in ages:
            shard, age = row["shard"], row["age"]
            self.oldest = max(self.oldest, age)
            if not well or shard in dead:
                self._last[shard] = now
            waited = min(age, now - self._last[shard])
            if shard == SWEEP:
                self.waited_swept = max(self.waited_swept, waited)
            else:
                self.waited_keyed = max(self.waited_keyed, waited)
        if not well:
            self._last = defaultdict(time.monotonic)
        for shard in dead:
            self._last[shard] = now


def _shard(lease: str) -> int:
    return SWEEP if lease == "sweep" else int(lease.rpartition(" ")[2])
