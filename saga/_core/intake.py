"""Decide what one decoded message means to a service, before anything is read from the database."""

from __future__ import annotations

from dataclasses import dataclass

from saga._core import topics
from saga._core.envelope import Envelope
from saga._core.plan import Topology
from saga._core.words import COMMAND_KINDS, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Say that nothing here reacts to the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Say that this replica cannot handle the message now, though it or another may later."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """Say that the message can never be handled; it becomes a dead letter with its raw bytes."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class React:
    """Say which of the service's steps react to the event."""

    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obey:
    """Say that the message is a command of the coordinator to this service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Say that the message tells this service how a saga that it started has ended."""


Verdict = Skip | Park | Bury | React | Obey | Settle


def sort_message(
    envelope: Envelope, topic: str, *, service: str, topology: Topology | None, problems: tuple[str, ...]
) -> Verdict:
    """Return what a message from `topic` means to `service`.

    `topology` is the plan its hash names, None when unknown here; `problems` say where this replica's
    code does not match that plan. An event is accepted only from the topic its plan names.
    """
    if not envelope.saga_id:
        return Skip() if envelope.kind is Kind.EVENT else Bury(reason=f"a {envelope.kind} without a saga ID")
    misplaced = _misplaced(envelope, topic, service)
    if misplaced:
        return Bury(reason=misplaced)
    if topology is None:
        return Park(reason=f"plan {envelope.plan[:12] or '(none)'} is not known here")
    if envelope.kind is Kind.OUTCOME:
        return Settle() if topology.plan.starter == service else Skip()
    if envelope.kind in COMMAND_KINDS:
        return _parked(problems) or Obey()
    return _sort_event(envelope, topic, service, topology, problems)


def _sort_event(envelope: Envelope, topic: str, service: str, topology: Topology, problems: tuple[str, ...]) -> Verdict:
    sources = topology.sources.get(envelope.type)
    if sources is None:
        return Bury(reason=f"plan {topology.plan.saga}.v{topology.plan.version} has no event {envelope.type}")
    if topic not in {topics.events_topic(source) for source in sources}:
        return Bury(reason=f"event {envelope.type} is not accepted from topic {topic}")
    steps = tuple(s.name for s in topology.reacting.get(envelope.type, ()) if s.service == service)
    if not steps:
        return Skip()
    return _parked(problems) or React(steps=steps)


def _parked(problems: tuple[str, ...]) -> Park | None:
    return Park(reason="; ".join(problems)[:500]) if problems else None


def _misplaced(envelope: Envelope, topic: str, service: str) -> str:
    if envelope.kind in COMMAND_KINDS:
        wanted = topics.commands_topic(service)
    elif envelope.kind is Kind.OUTCOME:
        wanted = topics.OUTCOMES
    elif envelope.kind is Kind.EVENT:
        return "an event on a topic for commands" if topic.endswith(".commands") else ""
    else:
        return f"a {envelope.kind} record does not belong on topic {topic}"
    return "" if topic == wanted else f"a {envelope.kind} belongs on topic {wanted}, not on {topic}"
