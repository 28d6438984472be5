"""Turn audit rows into column values and back."""

from __future__ import annotations

from outbox.codec import Codec, Row, Values, storable
from saga._core.audit import AuditRow


def audit_values(codec: Codec, row: AuditRow) -> Values:
    """Encode an audit row without its ID."""
    texts = (row.who, row.why, row.verb, row.saga_id, row.target)
    return (codec.to_time(row.at), *(storable(text) for text in texts), row.before, row.after)


def as_audit(codec: Codec, row: Row) -> AuditRow:
    """Decode an audit row."""
    return AuditRow(
        at=codec.from_time(row["at"]),
        who=row["who"],
        why=row["why"],
        verb=row["verb"],
        saga_id=row["saga_id"],
        target=row["target"],
        before=row["before"],
        after=row["after"],
        id=row["id"],
    )
