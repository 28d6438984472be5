"""Hold the trail that people leave: who changed what, why, and what it was before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Be one act of a person, written in the transaction of what it did; `id` is 0 until stored.

    `verb` says what was done to `target`; `saga_id` is "" when the target belongs to no saga that can be
    read. `before` and `after` are JSON without payloads, b"null" where there is nothing.
    """

    at: datetime
    who: str
    why: str
    verb: str
    saga_id: str
    target: str
    before: bytes = b"null"
    after: bytes = b"null"
    id: int = 0
