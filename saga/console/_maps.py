"""Make values for pages out of plans and announcements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from saga._core.plan import Plan
from saga._core.planning import plan_from_json
from saga._core.running import Hears, PlanState, ServiceMap, ServiceNode, Standing, StoredPlan
from saga.errors import PlanError


def plan_states(stored: Sequence[StoredPlan], open_sagas: Mapping[str, int]) -> tuple[PlanState, ...]:
    """Return every stored plan, and those of open sagas that are not stored; in the order given."""
    newest: dict[tuple[str, int], int] = {}
    for one in stored:
        key = (one.row.saga, one.row.version)
        newest[key] = max(newest.get(key, 0), one.row.revision)
    return tuple(
        PlanState(
            saga=one.row.saga,
            version=one.row.version,
            revision=one.row.revision,
            hash=one.row.hash,
            stored_at=one.stored_at,
            standing=Standing.NEWEST if one.row.revision == newest[one.row.saga, one.row.version] else Standing.OLDER,
            open_sagas=open_sagas.get(one.row.hash, 0),
            plan=readable(one.row.body),
        )
        for one in stored
    )


def readable(body: bytes) -> Plan | None:
    """Return the plan in a file's JSON, None where this version of saga cannot read it."""
    try:
        return plan_from_json(body)
    except PlanError:
        return None


def service_map(plans: Iterable[PlanState], replicas: Mapping[str, int]) -> ServiceMap:
    """Return who hears whom by the newest plan of every saga version; `replicas` are counted by service."""
    newest = tuple(one.plan for one in plans if one.standing is Standing.NEWEST and one.plan is not None)
    nodes: dict[str, ServiceNode] = {}
    hears: list[Hears] = []

    def node(service: str) -> ServiceNode:
        empty = ServiceNode(service=service, starts=(), steps=(), replicas=replicas.get(service, 0))
        return nodes.setdefault(service, empty)

    for plan in newest:
        title = f"{plan.saga} v{plan.version}"
        nodes[plan.starter] = replace(node(plan.starter), starts=(*node(plan.starter).starts, title))
        for step in plan.steps:
            steps = tuple(dict.fromkeys((*node(step.service).steps, step.name)))
            nodes[step.service] = replace(node(step.service), steps=steps)
            hears += [
                Hears(saga=title, event=taken.event, emitter=emitter, listener=step.service, step=step.name)
                for taken in step.inputs
                for emitter in _emitters(plan, taken.event)
            ]
    for service in replicas:
        node(service)
    ordered = tuple(nodes[name] for name in sorted(nodes))
    return ServiceMap(services=ordered, hears=tuple(dict.fromkeys(hears)), plans=newest)


def _emitters(plan: Plan, event: str) -> list[str]:
    found = [step.service for step in plan.steps if event in step.emits]
    if event == plan.start_event:
        found.append(plan.starter)
    return sorted(set(found))
