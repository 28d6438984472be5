"""Hold what waits in databases, and what people did there, as lists show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saga._core.audit import AuditRow
from saga._core.backlog import Backlog
from saga._core.letters import LetterFilter, LetterGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Tell that a database, or the broker, cannot be asked now: what is shown is without it."""

    where: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterCount:
    """Count the dead letters of one database, up to a cap, and say for how long the oldest one has been dead."""

    database: str
    letters: int = 0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterLine:
    """Be one dead letter in a list, without its message; `id` counts in its database only."""

    database: str
    id: int
    service: str
    saga_id: str
    step: str
    error: str
    attempt: int
    message_id: str
    died_at: datetime
    topic: str
    partition: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPage:
    """Be a page of dead letters, newest first; `after` is where the next one begins, "" behind the last."""

    lines: tuple[LetterLine, ...]
    after: str = ""
    missing: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedGroup:
    """Be a group of dead letters that died of the same thing, in one database; `filter` finds its letters."""

    database: str
    group: LetterGroup

    @property
    def filter(self) -> LetterFilter:
        """Return the filter for its letters; others whose error holds the same words fit it too."""
        return LetterFilter(service=self.group.service, step=self.group.step, error=self.group.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxState:
    """Be the outbox of one database."""

    database: str
    backlog: Backlog


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Say which acts are meant: those that fit every field that is not empty."""

    saga_id: str = ""
    who: str = ""
    verb: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAudit:
    """Be one act, and the database that keeps it."""

    database: str
    audit: AuditRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Be a page of acts, newest first; `after` is where the next one begins, "" behind the last."""

    lines: tuple[PlacedAudit, ...]
    after: str = ""
    missing: tuple[Problem, ...] = ()
