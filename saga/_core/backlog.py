"""Hold what waits in an outbox to be published, and who is at it."""

from __future__ import annotations

from dataclasses import dataclass

SWEEP, RELAY, SHARD = "sweep", "relay ", "shard "
"""How the leases in a database are called: the one of the sweeper, those of relays at work, those of shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogPart:
    """Count the rows of one service."""

    service: str
    rows: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBacklog:
    """Count the rows of one shard of keyed plain events; `owner` is who holds its lease, "" for nobody."""

    shard: int
    rows: int
    oldest_seconds: float
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHeld:
    """Be a lease as it is written down; `seconds_left` is negative once it has run out."""

    name: str
    owner: str
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogRow:
    """Be a row of the outbox without what is in it; `topic` and `key` are where its event goes."""

    seq: int
    id: str
    service: str
    type: str
    topic: str
    key: str
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Be an outbox: how much waits, of whom, in which shard, the oldest row, and the leases written down."""

    rows: int = 0
    oldest_seconds: float = 0.0
    services: tuple[BacklogPart, ...] = ()
    shards: tuple[ShardBacklog, ...] = ()
    leases: tuple[LeaseHeld, ...] = ()
    oldest: BacklogRow | None = None

    @property
    def relays(self) -> tuple[str, ...]:
        """Return the relays that are at work now: they say so by a lease of a few seconds."""
        return tuple(one.owner for one in self.leases if one.name.startswith(RELAY) and one.seconds_left > 0)

    @property
    def sweeper(self) -> str:
        """Return who publishes what was left over; "" for nobody, as it is while nothing is left over."""
        return next((one.owner for one in self.leases if one.name == SWEEP and one.seconds_left > 0), "")


def backlog_of(
    parts: tuple[BacklogPart, ...],
    shards: tuple[ShardBacklog, ...],
    leases: tuple[LeaseHeld, ...],
    oldest: BacklogRow | None,
) -> Backlog:
    """Return a backlog from what was read, each shard with who holds it."""
    owners = {one.name: one.owner for one in leases if one.seconds_left > 0}
    return Backlog(
        rows=sum(part.rows for part in parts),
        oldest_seconds=max((part.oldest_seconds for part in parts), default=0.0),
        services=parts,
        shards=tuple(
            ShardBacklog(
                shard=one.shard,
                rows=one.rows,
                oldest_seconds=one.oldest_seconds,
                owner=owners.get(f"{SHARD}{one.shard}", ""),
            )
            for one in shards
        ),
        leases=leases,
        oldest=oldest,
    )
