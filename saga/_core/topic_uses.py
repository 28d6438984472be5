"""Say who writes and who reads each topic that a set of plans needs: what an ACL has to allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saga._core.plan import Plan, topology_of
from saga._core.topics import (
    BREAKERS,
    EVENTS,
    MANIFESTS,
    OUTCOMES,
    PLANS,
    RUNS,
    commands_topic,
    events_topic,
    without_lane,
)

COORDINATOR = "coordinator"
EVERYBODY = "services"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicUse:
    """Name those who write a topic, and those who read it."""

    writers: tuple[str, ...]
    readers: tuple[str, ...]


_SHARED = {
    RUNS: TopicUse(writers=(EVERYBODY, COORDINATOR), readers=(COORDINATOR,)),
    OUTCOMES: TopicUse(writers=(COORDINATOR,), readers=(EVERYBODY,)),
    PLANS: TopicUse(writers=(COORDINATOR,), readers=(EVERYBODY,)),
    MANIFESTS: TopicUse(writers=(EVERYBODY,), readers=(COORDINATOR,)),
    BREAKERS: TopicUse(writers=(EVERYBODY, COORDINATOR), readers=(EVERYBODY, COORDINATOR)),
}


def use_of(topic: str, plans: Iterable[Plan]) -> TopicUse:
    """Return who writes and reads a topic, by its name and the plans; a topic of neither has nobody."""
    name = without_lane(topic)
    if name in _SHARED:
        return _SHARED[name]
    readers: set[str] = set()
    writer = name.removesuffix(EVENTS) if name.endswith(EVENTS) else ""
    for plan in plans:
        topology = topology_of(plan)
        for step in plan.steps:
            if name == commands_topic(step.service):
                return TopicUse(writers=(COORDINATOR,), readers=(step.service,))
            if any(name == events_topic(source) for each in step.inputs for source in topology.sources[each.event]):
                readers.add(step.service)
        if name == commands_topic(plan.starter):
            return TopicUse(writers=(COORDINATOR,), readers=(plan.starter,))
    return TopicUse(writers=(writer,) if writer else (), readers=tuple(sorted(readers)))
