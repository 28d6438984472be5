"""Name the topics (docs/protocol.md)."""

from __future__ import annotations

RUNS = "saga.runs"
OUTCOMES = "saga.outcomes"
PLANS = "saga.plans"
MANIFESTS = "saga.manifests"
BREAKERS = "saga.breakers"


def events_topic(service: str) -> str:
    """Return the topic a service's events are published on."""
    return f"{service}.events"


def commands_topic(service: str) -> str:
    """Return the topic the coordinator commands a service on."""
    return f"{service}.commands"
