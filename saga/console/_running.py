"""Say who runs, how far everybody is, and who hears whom."""

from __future__ import annotations

from collections.abc import Sequence

from saga._core.doctor.brokers import COORDINATOR_GROUP
from saga._core.overview import Card, Changes
from saga._core.plan import Plan
from saga._core.running import BreakerState, Consumers, ServiceMap
from saga.console._asking import Asked
from saga.console._hearing import Ear
from saga.console._maps import service_map
from saga.console._places import Places

_MARKS = ("read", "sent", "audits", "dead", "plans")


async def _plans(asked: Asked) -> Sequence[Plan]:
    return [state.plan for state in await asked.plans() if state.plan is not None]


async def breakers(ear: Ear | None, asked: Asked) -> tuple[BreakerState, ...]:
    """Return how each dependency is treated: those that plans name, and all that are heard of."""
    if ear is None:
        return ()
    return ear.breakers(sorted({step.calls for plan in await _plans(asked) for step in plan.steps if step.calls}))


async def consumers(places: Places, ear: Ear | None, asked: Asked) -> Consumers:
    """Return the replicas heard of, the coordinator's partitions, and how far groups are where the broker tells."""
    partitions = tuple(await (await places.coordinator()).partitions())
    if ear is None:
        return Consumers(partitions=partitions)
    plans = await _plans(asked)
    services = {step.service for plan in plans for step in plan.steps} | {plan.starter for plan in plans}
    groups, problem = await ear.groups([*sorted(services), COORDINATOR_GROUP])
    problems = dict.fromkeys(one for one in (ear.problem, problem) if one is not None)
    return Consumers(
        replicas=ear.replicas(),
        partitions=partitions,
        groups=groups,
        drift=ear.drift(plans),
        missing=tuple(problems),
    )


async def topology(ear: Ear | None, asked: Asked) -> ServiceMap:
    """Return who hears whom, by the newest plan of every saga version."""
    counted: dict[str, int] = {}
    for replica in ear.replicas() if ear is not None else ():
        counted[replica.service] = counted.get(replica.service, 0) + 1
    return service_map(await asked.plans(), counted)


async def changes(places: Places, ear: Ear | None) -> Changes:
    """Return what moves once there is something new to show on a card."""
    found, missing = await places.each(lambda each: each.marks())
    marks = {name: ";".join(each.get(name, "") for each in found.values()) for name in _MARKS}
    away = f"!{len(missing)}"
    heard, running = ear.mark if ear is not None else ("", "")
    return Changes(
        marks={
            Card.SAGAS: ";".join(marks[name] for name in ("read", "sent", "audits")),
            Card.LETTERS: marks["dead"] + away,
            Card.OUTBOX: marks["sent"] + away,
            Card.AUDITS: marks["audits"] + away,
            Card.PLANS: marks["plans"],
            Card.BREAKERS: heard,
            Card.CONSUMERS: running,
        }
    )
