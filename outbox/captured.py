"""Write messages as the rows that a connector reads out of the database's log: one message in each, headers in columns.

The names of the columns are those of the headers, so that a connector's configuration only has to list them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outbox.codec import Values
from saga._core.plain import SEQUENCE
from saga._core.relay import messages_of
from saga._core.rows import OutboxRow
from saga.errors import StoreError

HEADERS = (
    "content-type",
    "ce_source",
    "ce_time",
    "ce_sagakind",
    "ce_sagaid",
    "ce_sagaplan",
    "ce_sagastep",
    "ce_sagabranch",
    "ce_sagatenant",
    "ce_sagalane",
    "ce_correlationid",
    "ce_causationid",
    "ce_expirytime",
    "ce_tenant",
    "traceparent",
)
"""In the order of the columns behind `payload`; an absent one is an empty text."""
_ELSEWHERE = frozenset(("ce_id", "ce_type", "ce_specversion", SEQUENCE))
_KNOWN = _ELSEWHERE | frozenset(HEADERS)


def captured_values(rows: Sequence[OutboxRow]) -> list[Values]:
    """Encode every message of the rows, in order; the last value says whether it gets a sequence.

    Raises StoreError for a header that has no column: a reader would miss it.
    """
    return [values for row in rows for values in _captured(row)]


def _captured(row: OutboxRow) -> Iterator[Values]:
    for message in messages_of(row):
        headers = {name: value.decode() for name, value in message.headers}
        if unknown := sorted(headers.keys() - _KNOWN):
            raise StoreError(
                f"header {unknown[0]} of {row.type} has no column in saga_outbox_cdc; use Publishing.RELAY"
            )
        get = headers.get
        yield (
            get("ce_id", row.id),
            message.topic,
            row.aggregateid,
            get("ce_type", row.type),
            message.value,
            *(get(name, "") for name in HEADERS),
            SEQUENCE in headers,
        )
