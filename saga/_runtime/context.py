"""Hold what the tasks of one service share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from saga._core.definition import ServiceDefinition, StartDefinition, StepDefinition, TurnDown
from saga._core.events import Refusal
from saga._core.inbox import INBOX_DAYS
from saga._core.limits import Limits
from saga._core.rows import OutboxRow
from saga._runtime.alarm import Alarm
from saga._runtime.capping import RowCapWatch
from saga._runtime.endings import Endings
from saga._runtime.fleet import Fleet
from saga._runtime.handlers import call_within
from saga._runtime.metering import NullMeter
from saga._runtime.planbook import PlanBook
from saga._runtime.processor import Processor
from saga._runtime.routes import Routes
from saga._runtime.throttle import Throttle, throttles_of
from saga._runtime.timing import CallWithin, Stopwatch
from saga.ports import OpenRows, ParticipantStore, Tracer
from saga.ports.metering import Meter

HandOver = Callable[[Sequence[OutboxRow]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Hold the numbers a service runs with; every wait and every queue is bounded by one of them.

    An outside call is leased for three times `beat_seconds`; while it is under way its process moves the lease on
    with every beat. One whose process has missed three beats is taken over. A plain event older than `inbox_days` is
    not handled any more; keep them longer than topics keep their messages.
    """

    batch_cap: int = 128
    batch_budget_seconds: float = 0.1
    lock_timeout_seconds: float = 0.01
    fetch_timeout_seconds: float = 1.0
    commit_every_seconds: float = 0.1
    waiting_poll_seconds: float = 1.0
    waiting_lease_seconds: float = 60.0
    parked_seconds: float = 5.0
    lock_poll_seconds: float = 10.0
    pending_poll_seconds: float = 1.0
    beat_seconds: float = 5.0
    calls_in_flight: int = 64
    drain_seconds: float = 10.0
    contention_pause_seconds: float = 0.05
    inbox_days: int = INBOX_DAYS


@dataclass(slots=True, kw_only=True)
class ServiceContext:
    """Be what one service's tasks need: its declaration, its database, the way out, and each other's alarms.

    `hand_over` takes rows that are committed, `expect` rows in a transaction of the caller's.
    """

    definition: ServiceDefinition
    store: ParticipantStore
    hand_over: HandOver
    expect: Callable[[OpenRows], None]
    plans: PlanBook
    tracer: Tracer
    rng: Random
    owner: str
    limits: Limits = field(default_factory=Limits)
    tuning: Tuning = field(default_factory=Tuning)
    steps: Mapping[str, StepDefinition] = field(init=False)
    starts: Mapping[tuple[str, int], StartDefinition] = field(init=False)
    throttles: Mapping[str, Throttle] = field(init=False)
    fleet: Fleet = field(default_factory=Fleet)
    refusals: Mapping[str, type[Refusal]] = field(default_factory=dict[str, type[Refusal]])
    waiting_alarm: Alarm = field(default_factory=Alarm)
    pending_alarm: Alarm = field(default_factory=Alarm)
    endings: Endings = field(default_factory=Endings)
    counts: dict[str, int] = field(default_factory=dict[str, int])
    said: set[str] = field(default_factory=set[str])
    routes: Routes = field(default_factory=Routes)
    caps: RowCapWatch = field(default_factory=RowCapWatch)
    processor: Processor = field(default_factory=Processor)
    meter: Meter = field(default_factory=NullMeter)
    broker: str = "kafka"
    stopwatch: Stopwatch | None = None
    call: CallWithin = call_within
    sagas: Mapping[str, str] = field(init=False)
    turning_down: frozenset[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Index the definition."""
        self.throttles = throttles_of(self.definition)
        self.fleet.watch(self.service, tuple(self.throttles.values()))
        self.steps = {_versioned(step.saga, step.version, step.name): step for step in self.definition.steps}
        self.starts = {(start.saga, start.version): start for start in self.definition.starts}
        sagas = self.definition.sagas
        self.turning_down = frozenset((saga.name, saga.version) for saga in sagas if saga.turn_down is TurnDown.EARLY)
        self.sagas = {step.name: step.saga for step in self.definition.steps}

    @property
    def service(self) -> str:
        """Return the service's name."""
        return self.definition.name

    def step(self, saga: str, version: int, name: str) -> StepDefinition:
        """Return the declaration of a step of one saga version."""
        return self.steps[_versioned(saga, version, name)]

    def saga_of(self, step: str) -> str:
        """Return the saga of a step that is declared here, "" for a start and any other name."""
        return self.sagas.get(step, "")

    def time_calls(self) -> None:
        """Measure what handlers take from now on."""
        if self.stopwatch is None:
            self.stopwatch = Stopwatch()
            self.call = self.stopwatch.call_within

    def count(self, what: str) -> None:
        """Count something worth knowing."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def first(self, what: str) -> bool:
        """Return whether this is the first time that `what`, of which there are few, is said."""
        if what in self.said:
            return False
        self.said.add(what)
        return True

    @property
    def lease_seconds(self) -> float:
        """Return how long an outside call may go without a heartbeat before somebody else takes it over."""
        return 3 * self.tuning.beat_seconds


def _versioned(saga: str, version: int, step: str) -> str:
    return f"{saga}.v{version}/{step}"
