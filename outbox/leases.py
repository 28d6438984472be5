"""Name the leases in `saga_lease` by which relays share out the shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from outbox.codec import Row
from saga._core.plain import SHARDS
from saga._core.sharing import Attendance

_RELAY, _SHARD = "relay ", "shard "


def names_of(owner: str, shards: Sequence[int] | None) -> list[str]:
    """Return the leases to give up: those of shards, or with None all an owner can have, its attendance included."""
    named = [f"{_SHARD}{shard}" for shard in (range(SHARDS) if shards is None else shards)]
    return [*named, f"{_RELAY}{owner}"] if shards is None else named


def shards_of(rows: Iterable[Row]) -> frozenset[int]:
    """Return the shards that leases are for."""
    return frozenset(int(row["name"].removeprefix(_SHARD)) for row in rows)


def attendance_of(rows: Sequence[Row]) -> Attendance:
    """Return who is at work, and who holds what, by the leases that have not run out."""
    return Attendance(
        relays=frozenset(row["owner"] for row in rows if row["name"].startswith(_RELAY)),
        holders={int(row["name"].removeprefix(_SHARD)): row["owner"] for row in rows if row["name"].startswith(_SHARD)},
    )
