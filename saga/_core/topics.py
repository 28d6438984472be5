"""Name the topics (docs/protocol.md)."""

from __future__ import annotations

from saga._core.words import Priority

URGENT = ".urgent"
EVENTS = ".events"
RUNS = "saga.runs"
OUTCOMES = "saga.outcomes"
PLANS = "saga.plans"
MANIFESTS = "saga.manifests"
BREAKERS = "saga.breakers"


def events_topic(service: str, lane: Priority = Priority.NORMAL) -> str:
    """Return the topic a service's events of one lane are published on."""
    return in_lane(service + EVENTS, lane)


def commands_topic(service: str, lane: Priority = Priority.NORMAL) -> str:
    """Return the topic the coordinator commands a service on about the sagas of one lane."""
    return in_lane(f"{service}.commands", lane)


def in_lane(topic: str, lane: Priority) -> str:
    """Return the topic that stands beside `topic` for one lane."""
    return topic + URGENT if lane is Priority.URGENT else topic


def without_lane(topic: str) -> str:
    """Return the topic for normal sagas that a topic of either lane stands for."""
    return topic.removesuffix(URGENT)


def is_urgent(topic: str) -> bool:
    """Return whether only urgent sagas are on the topic."""
    return topic.endswith(URGENT)
