"""Turn outbox rows into column values and back."""

from __future__ import annotations

from outbox.codec import Row, Values
from outbox.headers import pack_headers, unpack_headers
from saga._core.rows import OutboxRow


def outbox_values(row: OutboxRow) -> Values:
    """Encode an outbox row without its `seq`."""
    headers, record_headers = packed(row)
    return (
        row.id,
        row.aggregatetype,
        row.aggregateid,
        row.type,
        row.payload,
        headers,
        row.record,
        record_headers,
        row.service,
        row.shard,
    )


def packed(row: OutboxRow) -> tuple[str, str]:
    """Encode the headers of an outbox row and of its record: what the event's say is not said again."""
    return pack_headers(row.headers), pack_headers(row.record_headers, row.headers)


def as_outbox(row: Row) -> OutboxRow:
    """Decode an outbox row."""
    headers = unpack_headers(row["headers"])
    return OutboxRow(
        id=row["id"],
        aggregatetype=row["aggregatetype"],
        aggregateid=row["aggregateid"],
        type=row["type"],
        payload=row["payload"],
        headers=headers,
        record=row["record"],
        record_headers=unpack_headers(row["record_headers"], headers),
        service=row["service"],
        shard=row["shard"],
        seq=row["seq"],
    )
