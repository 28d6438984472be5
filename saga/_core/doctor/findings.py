"""Hold what `saga doctor` finds, and where it draws the line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Say how bad a finding is: it cannot be asked at all, something does not work, or something may not for long."""

    UNAVAILABLE = "unavailable"
    WRONG = "wrong"
    RISK = "risk"


class Code(StrEnum):
    """Name every kind of finding; docs/doctor.md has a line for each."""

    ACL_GROUPS = "acl-groups"
    ACL_TOPICS = "acl-topics"
    AUTOVACUUM_OFF = "autovacuum-off"
    BLOAT = "bloat"
    BREAKER_OPEN = "breaker-open"
    BROKER_AWAY = "broker-away"
    BROKER_REFUSED = "broker-refused"
    CLOCK_AHEAD = "clock-ahead"
    CLOCK_SKEW = "clock-skew"
    CODE_UNPLANNED = "code-unplanned"
    CONNECTIONS_FEW = "connections-few"
    CONNECTIONS_TAKEN = "connections-taken"
    COORDINATOR_ABSENT = "coordinator-absent"
    COORDINATOR_SILENT = "coordinator-silent"
    DATABASE_AWAY = "database-away"
    DATABASE_REFUSED = "database-refused"
    DATABASE_STANDBY = "database-standby"
    DEAD_LETTERS = "dead-letters"
    DISK_FULL = "disk-full"
    FSYNC_OFF = "fsync-off"
    FULL_PAGE_WRITES_OFF = "full-page-writes-off"
    GRANTS_MISSING = "grants-missing"
    GROUP_EMPTY = "group-empty"
    GROUP_STUCK = "group-stuck"
    IDLE_TIMEOUT_LOW = "idle-timeout-low"
    ON_END_FAILS = "on-end-fails"
    OUTBOX_OLD = "outbox-old"
    PARTITION_UNOWNED = "partition-unowned"
    PLAN_DIFFERS = "plan-differs"
    PLAN_MISSING = "plan-missing"
    REPLICAS_DIFFER = "replicas-differ"
    ROWS_HELD_BACK = "rows-held-back"
    SAGAS_STUCK = "sagas-stuck"
    SCHEMA_AFTER = "schema-after"
    SCHEMA_EDITED = "schema-edited"
    SCHEMA_MISSING = "schema-missing"
    SCHEMA_NEWER = "schema-newer"
    SCHEMA_OLD = "schema-old"
    SERVICE_ABSENT = "service-absent"
    SLOT_TWICE = "slot-twice"
    SQLITE_JOURNAL = "sqlite-journal"
    SQLITE_NETWORK = "sqlite-network"
    SQLITE_READ_ONLY = "sqlite-read-only"
    STATEMENT_TIMEOUT_LOW = "statement-timeout-low"
    SYNCHRONOUS_COMMIT_OFF = "synchronous-commit-off"
    TOPIC_RISK = "topic-risk"
    TOPIC_UNAVAILABLE = "topic-unavailable"
    TOPIC_WRONG = "topic-wrong"
    TOPICS_MISSING = "topics-missing"
    TRANSACTION_OLD = "transaction-old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Be one thing that is wrong: where, a name that stays the same, a sentence, and the command that mends it.

    `mend` is "" only where no command does; then `text` says what to do.
    """

    severity: Severity
    code: Code
    where: str
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Say from when on something is wrong.

    An outbox row that waits for `outbox_seconds`, a saga that is overdue for `overdue_seconds`, a clock that is
    `skew_seconds` off or a message dated `ahead_seconds` from now on, a transaction open for `transaction_seconds`,
    what keeps rows for `held_transactions` transactions, more dead rows than `dead_rows` and than `dead_share` of the
    live ones, `connections_share` of the connections taken, a statement timeout below `statement_seconds`, less than
    `free_bytes` of disk.
    """

    outbox_seconds: float = 60.0
    overdue_seconds: float = 60.0
    skew_seconds: float = 2.0
    ahead_seconds: float = 60.0
    transaction_seconds: float = 300.0
    held_transactions: float = 1_000_000
    dead_rows: float = 50_000
    dead_share: float = 1.0
    connections_share: float = 0.8
    statement_seconds: float = 5.0
    free_bytes: float = 200_000_000


def run_of(service: str) -> str:
    """Return the command that runs one service alone, to be filled with its target: a database is one service's."""
    return f"saga run SERVICE[{service}]"
