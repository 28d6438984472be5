"""Turn what was read of an outbox into a backlog, whichever database it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from outbox.codec import Row
from saga._core.backlog import Backlog, BacklogPart, BacklogRow, LeaseHeld, ShardBacklog, backlog_of


def as_backlog(
    parts: Sequence[Row], shards: Sequence[Row], leases: Sequence[Row], oldest: Sequence[Row], unit_seconds: float
) -> Backlog:
    """Return a backlog; `unit_seconds` is how long the unit of the ages in the rows is."""

    def seconds(value: float) -> float:
        return float(value) * unit_seconds

    return backlog_of(
        tuple(
            BacklogPart(service=row["service"], rows=row["rows"], oldest_seconds=max(0.0, seconds(row["age"])))
            for row in parts
        ),
        tuple(
            ShardBacklog(shard=row["shard"], rows=row["rows"], oldest_seconds=max(0.0, seconds(row["age"])))
            for row in shards
        ),
        tuple(
            LeaseHeld(name=row["name"], owner=row["owner"], seconds_left=seconds(row["seconds_left"])) for row in leases
        ),
        next((_oldest(row, max(0.0, seconds(row["age"]))) for row in oldest), None),
    )


def _oldest(row: Row, age_seconds: float) -> BacklogRow:
    return BacklogRow(
        seq=row["seq"],
        id=row["id"],
        service=row["service"],
        type=row["type"],
        topic=row["aggregatetype"],
        key=row["aggregateid"],
        age_seconds=age_seconds,
    )
