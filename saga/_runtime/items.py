"""Hold the units of work a batch is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from saga._core.bodies import Outcome
from saga._core.definition import StartDefinition, StepDefinition, SubscriberDefinition
from saga._core.envelope import Delivery, Envelope
from saga._core.events import Event
from saga._core.gathering import cause_of
from saga._core.inbox import message_name
from saga._core.plan import PlanStep, Topology
from saga._core.rows import DeliveryRow, RunId
from saga._core.topics import without_lane
from saga._core.words import Reason, RunKey


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepItem:
    """Be one event for one step; `row` is set when it comes from a waiting delivery.

    `event` is None where a fan-out over nothing lets its gather go on. `run_id` is the primary key of the run that the
    event leads to.
    """

    envelope: Envelope
    delivery: Delivery
    row: DeliveryRow | None
    topology: Topology
    plan_step: PlanStep
    step: StepDefinition
    event: Event | None
    run_id: RunId

    @property
    def cause(self) -> RunKey:
        """Return the run that emitted the event."""
        envelope = self.envelope
        if not envelope.branch:
            return RunKey(envelope.step)
        return cause_of(self.topology, envelope.step, envelope.branch, envelope.type)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndItem:
    """Be one outcome, for the service that started the saga and for those where it may hold entities."""

    envelope: Envelope
    delivery: Delivery
    row: DeliveryRow | None
    topology: Topology
    start: StartDefinition | None
    outcome: Outcome

    @property
    def run_id(self) -> RunId:
        """Return the primary key of the start run."""
        return (self.envelope.saga_id, self.topology.plan.start, "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainItem:
    """Be one plain event for one subscriber.

    `day` is what the inbox remembers it under. It is None where the subscriber's own row is at hand: what went into
    that row has been taken from the log, and the row can be used up once.
    """

    envelope: Envelope
    delivery: Delivery
    row: DeliveryRow | None
    subscriber: SubscriberDefinition
    event: Event
    day: date | None

    @property
    def message_name(self) -> str:
        """Return what names the event among all others."""
        return message_name(self.envelope)

    @property
    def run_id(self) -> RunId:
        """Return how messages name it; no run is stored under it."""
        return (self.message_name, self.subscriber.name, "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandItem:
    """Be one command of the coordinator."""

    envelope: Envelope
    delivery: Delivery
    row: DeliveryRow | None
    topology: Topology


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AsideItem:
    """Be a delivery that goes into rows instead of being handled, or out of its row (`reason=None`).

    It becomes one row for each of `steps`, due after `delay_seconds`; a dead letter once `expires_at` has passed.
    With a `day` it is a plain event taken from the log at `sent_at`, for the subscribers named in `steps`.
    """

    delivery: Delivery
    row: DeliveryRow | None
    reason: Reason | None
    saga_id: str = ""
    steps: tuple[str, ...] = ("",)
    message_id: str = ""
    attempt: int = 0
    first_at: datetime | None = None
    error: str = ""
    delay_seconds: float = 0.0
    expires_at: datetime | None = None
    day: date | None = None
    sent_at: datetime | None = None

    @property
    def _is_command(self) -> bool:
        return without_lane(self.delivery.topic).endswith(".commands")

    @property
    def is_parked_event(self) -> bool:
        """Return whether this is an event for a step that only another replica has; a closed gate turns it away."""
        return self.reason is Reason.PARKED and self.steps != ("",) and not self._is_command


Item = StepItem | EndItem | CommandItem | AsideItem | PlainItem
