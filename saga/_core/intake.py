"""Decide what one decoded message means to a service, before anything is read from the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saga._core import topics
from saga._core.closure import takers
from saga._core.envelope import Envelope
from saga._core.fitting import FIT, Fitness, needs_code_to_undo
from saga._core.locks import EntityLock
from saga._core.plan import Topology
from saga._core.versions import planned_type
from saga._core.words import COMMAND_KINDS, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Say that nothing here reacts to the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Say that this replica cannot handle the message now, though it or another may later.

    `steps` are those it waits for, `""` when it is not known which.
    """

    reason: str
    steps: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """Say that the message can never be handled; it becomes a dead letter with its raw bytes."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class React:
    """Say which of the service's steps react to the event; `parked` are for a replica whose code has them."""

    steps: tuple[str, ...]
    parked: tuple[Park, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Obey:
    """Say that the message is a command of the coordinator to this service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Say that the message tells this service how a saga has ended that it started, or that may hold entities here."""


Verdict = Skip | Park | Bury | React | Obey | Settle


def sort_message(
    envelope: Envelope,
    topic: str,
    *,
    service: str,
    topology: Topology | None,
    fitness: Fitness = FIT,
    locks: Sequence[EntityLock] = (),
) -> Verdict:
    """Return what a message from `topic` means to `service`.

    `topology` is the plan its hash names, None when unknown here; `fitness` says what of that plan this
    replica's code cannot do, `locks` what sagas may hold at the service. An event is accepted only from the topic
    its plan names. Every replica that knows the plan obeys: only undoing a step takes the step's code.
    """
    if not envelope.saga_id:
        return Skip() if envelope.kind is Kind.EVENT else Bury(reason=f"a {envelope.kind} without a saga ID")
    misplaced = _misplaced(envelope, topic, service)
    if misplaced:
        return Bury(reason=misplaced)
    if topology is None:
        return Park(reason=f"plan {envelope.plan[:12] or '(none)'} is not known here")
    if envelope.kind is Kind.OUTCOME:
        return _sort_outcome(service, topology, fitness, locks)
    if envelope.kind in COMMAND_KINDS:
        return _undo_parked(envelope, topology, fitness) or Obey()
    return _sort_event(envelope, topic, service, topology, fitness)


def _sort_outcome(service: str, topology: Topology, fitness: Fitness, locks: Sequence[EntityLock]) -> Verdict:
    if topology.plan.starter != service:
        return Settle() if locks and service in topology.services else Skip()
    return Park(reason=fitness.ending[:500]) if fitness.ending else Settle()


def _sort_event(envelope: Envelope, topic: str, service: str, topology: Topology, fitness: Fitness) -> Verdict:
    planned = planned_type(topology, envelope.type)
    if not planned:
        return Bury(reason=f"plan {topology.plan.saga}.v{topology.plan.version} has no event {envelope.type}")
    if topics.without_lane(topic) not in {topics.events_topic(source) for source in topology.sources[planned]}:
        return Bury(reason=f"event {envelope.type} is not accepted from topic {topic}")
    steps = tuple(s.name for s in takers(topology, planned, envelope.branch) if s.service == service)
    if not steps:
        return Skip()
    here = tuple(name for name in steps if name not in fitness.steps)
    parked = tuple(_parked(name, fitness) for name in steps if name in fitness.steps)
    if here:
        return React(steps=here, parked=parked)
    reason = "; ".join(park.reason for park in parked)
    return Park(reason=reason[:500], steps=steps)


def _undo_parked(envelope: Envelope, topology: Topology, fitness: Fitness) -> Park | None:
    step = topology.steps.get(envelope.step)
    if envelope.kind is not Kind.UNDO or step is None or not needs_code_to_undo(step):
        return None
    return _parked(step.name, fitness) if step.name in fitness.steps else None


def _parked(name: str, fitness: Fitness) -> Park:
    return Park(reason=fitness.steps[name][:500], steps=(name,))


def _misplaced(envelope: Envelope, topic: str, service: str) -> str:
    if envelope.kind in COMMAND_KINDS:
        wanted = topics.commands_topic(service)
    elif envelope.kind is Kind.OUTCOME:
        wanted = topics.OUTCOMES
    elif envelope.kind is Kind.EVENT:
        misplaced = topics.without_lane(topic).endswith(".commands")
        return "an event on a topic for commands" if misplaced else ""
    else:
        return f"a {envelope.kind} record does not belong on topic {topic}"
    found = topics.without_lane(topic)
    return "" if found == wanted else f"a {envelope.kind} belongs on topic {wanted}, not on {topic}"
