"""Hold what the probes of `saga doctor` have read; times are ages in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from saga._core.backlog import Backlog
from saga._core.brokers import GroupState, TopicState
from saga._core.inspecting import InstanceCount
from saga._core.letters import LetterGroup
from saga._core.outages import DependencyState


class Trouble(StrEnum):
    """Say why something cannot be asked: nobody answers, it says no, or a right is missing."""

    AWAY = "away"
    REFUSED = "refused"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """Be the reason why something could not be asked, in the words of whoever was asked."""

    trouble: Trouble
    text: str


class SchemaStanding(StrEnum):
    """Say how one migration stands in a database."""

    PENDING = "pending"
    EDITED = "edited"
    NEWER = "newer"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFact:
    """Be a migration that is not simply applied; `phase` is before or after."""

    component: str
    name: str
    phase: str
    standing: SchemaStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """Be a transaction of another session that keeps dead rows from being cleared away."""

    pid: int
    state: str
    user: str
    application: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Be something other than a session that keeps rows or log: a replication slot, a prepared transaction.

    `transactions` is how many have begun since.
    """

    kind: str
    name: str
    transactions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFact:
    """Count the live and the dead rows of a table, as its statistics have them."""

    name: str
    live: int
    dead: int
    vacuumed_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Be what a PostgreSQL server says of itself and of this user.

    `settings` are its own words by name. `allowed` is how many connections the user may have, of which `used` are
    taken, and `pool_size` how many one store opens. `skew_seconds` is how far its clock is ahead of this machine's,
    give or take `skew_error_seconds`. `missing` are the privileges on each table that the user lacks.
    """

    role: str = ""
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    statement_timeout_seconds: float = 0.0
    idle_in_transaction_seconds: float = 0.0
    pool_size: int = 0
    used: int = 0
    allowed: int = 0
    limit_of: str = ""
    skew_seconds: float = 0.0
    skew_error_seconds: float = 0.0
    in_recovery: bool = False
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    transactions: tuple[OpenTransaction, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    tables: tuple[TableFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """Be what this machine says of a SQLite file and of the file system that it lies on."""

    path: str
    there: bool = True
    filesystem: str = ""
    read_only: bool = False
    writable: bool = True
    journal_mode: str = ""
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """Count the sagas whose `on_end` fails, and be the one of them that has failed most often."""

    sagas: int
    saga_id: str
    service: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """Be one database: whose tables are in it, how they stand, and what waits in them.

    `name` is its URL without a password, `store` what to write behind `--store` for it, `psql` behind `psql`. `barred`
    says why nothing else is known. `components` are shared, participant and coordinator, as far as they are there.
    `overdue_seconds` is how long the coordinator's most overdue saga has waited, 0 for none, `stuck` one that is stuck.
    """

    name: str
    store: str
    psql: str = ""
    barred: Barred | None = None
    components: frozenset[str] = frozenset()
    migrations: tuple[MigrationFact, ...] = ()
    server: ServerFacts | None = None
    file: FileFacts | None = None
    backlog: Backlog | None = None
    letters: tuple[LetterGroup, ...] = ()
    counts: tuple[InstanceCount, ...] = ()
    overdue_seconds: float = 0.0
    stuck: str = ""
    untold: Untold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """Be one broker: its topics held against what is needed, the groups twice, a moment apart.

    `ahead` are topics with messages from later than now. `principal` is who this user is in an ACL.
    """

    name: str
    bootstrap: str = ""
    principal: str = ""
    barred: Barred | None = None
    topics: tuple[TopicState, ...] = ()
    before: tuple[GroupState, ...] = ()
    groups: tuple[GroupState, ...] = ()
    ahead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """Be what is announced: what the fleet says of dependencies, and sentences about code that does not fit.

    `drift` are about replicas and plans, `divided` about replicas of one service that differ. `silent` are services of
    which no replica is announced.
    """

    dependencies: tuple[DependencyState, ...] = ()
    drift: tuple[str, ...] = ()
    divided: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    barred: Barred | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFact:
    """Be one plan that the code makes, held against what the coordinator has; "" for a hash that is not there."""

    title: str
    coded: str
    published: str
    revision: int = 0
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Be everything that was read; what nobody has looked at is empty, None for a broker or a fleet.

    `longest_step_seconds` is the longest timeout of a step in the code or the plans, 0 while neither is known.
    `targets` and `transport` are what commands are given for them, "" where nobody has said. `runs` are the targets of
    the services one by one.
    """

    databases: tuple[DatabaseFacts, ...] = ()
    broker: BrokerFacts | None = None
    fleet: FleetFacts | None = None
    plans: tuple[PlanFact, ...] = ()
    longest_step_seconds: float = 0.0
    targets: str = ""
    runs: Mapping[str, str] = field(default_factory=dict[str, str])
    transport: str = ""
