"""Name every metric that is measured: its unit, its labels, what it counts. docs/metrics.md is this table.

Labels take few values: names that somebody has declared, and words of ours. Never an ID, a key or a payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricKind(StrEnum):
    """Say how values of a metric are kept: added up, spread over buckets, or the last one read."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Told(StrEnum):
    """Say where a metric is measured: at a service, at a coordinator, or by any process."""

    SERVICE = "service"
    COORDINATOR = "coordinator"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Be one metric; `labels` are the attributes of each value, in the order in which their values are given."""

    name: str
    unit: str
    kind: MetricKind
    told: Told
    labels: tuple[str, ...]
    text: str


Labels = tuple[str, ...]
"""Values of a metric's labels in their order; an empty one is left out."""

SAGA: Final = "saga.name"
STEP: Final = "saga.step"
PART: Final = "saga.part"
OUTCOME: Final = "saga.outcome"
PHASE: Final = "saga.phase"
SERVICE: Final = "saga.service"
REASON: Final = "saga.reason"
DEPENDENCY: Final = "saga.dependency"
STATE: Final = "saga.breaker.phase"
SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
TOPIC: Final = "messaging.destination.name"
GROUP: Final = "messaging.consumer.group.name"
ERROR: Final = "error.type"

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds of the buckets of every histogram; all of them are of seconds."""
LONG_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
"""The same for what may take a day: a whole saga."""


def _counter(name: str, unit: str, told: Told, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=name, unit=unit, kind=MetricKind.COUNTER, told=told, labels=labels, text=text)


def _histogram(name: str, told: Told, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=name, unit="s", kind=MetricKind.HISTOGRAM, told=told, labels=labels, text=text)


def _gauge(name: str, unit: str, told: Told, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=name, unit=unit, kind=MetricKind.GAUGE, told=told, labels=labels, text=text)


STARTED: Final = _counter(
    "saga.started", "{saga}", Told.COORDINATOR, (SAGA,), "Sagas whose start the coordinator has read."
)
COMPLETED: Final = _counter(
    "saga.completed",
    "{saga}",
    Told.COORDINATOR,
    (SAGA, OUTCOME),
    "Sagas that came to an outcome: completed, compensated, or stuck, which may be followed by another one.",
)
DURATION: Final = _histogram(
    "saga.duration", Told.COORDINATOR, (SAGA, OUTCOME), "From the start of a saga until it completed or was undone."
)
ACTIVE: Final = _gauge(
    "saga.active", "{saga}", Told.COORDINATOR, (SAGA, PHASE), "Sagas that have not ended, by what they are at."
)
STUCK: Final = _gauge("saga.stuck", "{saga}", Told.COORDINATOR, (SAGA,), "Sagas that need a person.")
LAG: Final = _gauge(
    "saga.coordinator.lag", "{record}", Told.COORDINATOR, (), "Run records that this coordinator has not read yet."
)
BEHIND: Final = _gauge(
    "saga.coordinator.behind", "s", Told.COORDINATOR, (), "How long the oldest record it has not read has lain there."
)
STEP_RUNS: Final = _counter(
    "saga.step.runs",
    "{run}",
    Told.SERVICE,
    (SAGA, STEP, OUTCOME),
    "Runs that ended: done, refused, failed, undone, undo_failed.",
)
STEP_DURATION: Final = _histogram(
    "saga.step.duration",
    Told.SERVICE,
    (SAGA, STEP, PART),
    "What a handler takes, for each attempt: an action or a compensation.",
)
QUEUE_DURATION: Final = _histogram(
    "saga.step.queue.duration",
    Told.SERVICE,
    (SAGA, STEP),
    "Schedule to start: from an event's own time until its step begins, the first time.",
)
RETRIES: Final = _counter(
    "saga.retries", "{attempt}", Told.SERVICE, (SAGA, STEP, PART), "Attempts that failed and are made again."
)
OUTBOX_PENDING: Final = _gauge(
    "saga.outbox.pending", "{row}", Told.PROCESS, (SERVICE,), "Rows of the outbox that are not published yet."
)
OUTBOX_AGE: Final = _gauge("saga.outbox.age", "s", Told.PROCESS, (SERVICE,), "How old the oldest of them is.")
WAITING: Final = _gauge(
    "saga.deliveries.waiting",
    "{delivery}",
    Told.SERVICE,
    (SERVICE, REASON),
    "Deliveries that wait as rows: retry, delayed, locked, parked, held.",
)
CALLS: Final = _gauge(
    "saga.calls.open", "{run}", Told.SERVICE, (SERVICE,), "Runs with an outside call that nobody has answered yet."
)
DEAD: Final = _gauge("saga.dead_letters", "{letter}", Told.PROCESS, (SERVICE,), "Dead letters.")
DEAD_AGE: Final = _gauge("saga.dead_letters.age", "s", Told.PROCESS, (SERVICE,), "How long ago the first of them died.")
CONSUMER_LAG: Final = _gauge(
    "saga.consumer.lag", "{message}", Told.SERVICE, (SERVICE,), "Messages that this process has not read yet."
)
CONSUMER_BEHIND: Final = _gauge(
    "saga.consumer.behind", "s", Told.SERVICE, (SERVICE,), "How long the oldest message it has not read has lain there."
)
BREAKER: Final = _gauge(
    "saga.breaker.state",
    "1",
    Told.SERVICE,
    (SERVICE, DEPENDENCY, STATE),
    "1 for the phase a breaker is in, 0 for the others: closed, open, half_open, recovering.",
)
HEARTBEAT: Final = _gauge(
    "saga.heartbeat", "s", Told.PROCESS, (SERVICE,), "When this process last measured, in seconds since 1970."
)
SENT: Final = _counter(
    "messaging.client.sent.messages",
    "{message}",
    Told.PROCESS,
    (SYSTEM, OPERATION, TOPIC, ERROR),
    "Messages handed to the broker, by topic.",
)
SENDING: Final = _histogram(
    "messaging.client.operation.duration",
    Told.PROCESS,
    (SYSTEM, OPERATION),
    "From handing a batch to the broker until all of it is acknowledged.",
)
CONSUMED: Final = _counter(
    "messaging.client.consumed.messages",
    "{message}",
    Told.SERVICE,
    (SYSTEM, OPERATION, TOPIC, GROUP),
    "Messages read, by topic.",
)
PROCESSING: Final = _histogram(
    "messaging.process.duration",
    Told.SERVICE,
    (SYSTEM, OPERATION, GROUP),
    "What a batch takes, from the begin of its transaction until its commit.",
)

METRICS: Final[tuple[Metric, ...]] = (
    STARTED,
    COMPLETED,
    DURATION,
    ACTIVE,
    STUCK,
    LAG,
    BEHIND,
    STEP_RUNS,
    STEP_DURATION,
    QUEUE_DURATION,
    RETRIES,
    OUTBOX_PENDING,
    OUTBOX_AGE,
    WAITING,
    CALLS,
    DEAD,
    DEAD_AGE,
    CONSUMER_LAG,
    CONSUMER_BEHIND,
    BREAKER,
    HEARTBEAT,
    SENT,
    SENDING,
    CONSUMED,
    PROCESSING,
)
"""Every metric there is."""


def buckets_of(metric: Metric) -> tuple[float, ...]:
    """Return the bounds of a histogram's buckets."""
    return LONG_SECONDS if metric is DURATION else SECONDS
