"""Put what some services declare into a plan in place of what it has of them; the others' steps stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from saga._core.manifest import Manifest, SagaManifest
from saga._core.meeting import as_sent
from saga._core.plan import Plan
from saga._core.planning import build_plan
from saga._core.schemas import EventSchema
from saga.errors import PlanError


def services_of(plan: Plan) -> frozenset[str]:
    """Return the services that a plan needs: those of its steps and the one that starts it."""
    return frozenset({plan.starter, *(step.service for step in plan.steps)})


def grafted(plan: Plan, manifests: Iterable[Manifest]) -> Plan:
    """Return the plan as it were with these services' manifests; the others' schemas are not known, so not compared.

    Times are those of the manifests. Raises PlanError with everything that does not fit.
    """
    given = tuple(manifests)
    rest = sorted(services_of(plan) - {manifest.service for manifest in given})
    parts = [(m.service, p) for m in given for p in m.sagas if (p.saga, p.version) == (plan.saga, plan.version)]
    said = parts[0][1] if parts else None
    kept = [(service, _kept(plan, service, said)) for service in rest]
    fitted, problems = as_sent([*parts, *kept])
    if problems:
        raise PlanError(problems)
    # What the others emit is only known by name: without a schema there is nothing to hold a reader against.
    by_service = {s: replace(p, emits=()) if s in rest else p for s, p in fitted}
    whole = [
        *(replace(m, sagas=tuple(by_service[m.service] if _is_of(p, plan) else p for p in m.sagas)) for m in given),
        *(Manifest(service=service, sagas=(by_service[service],)) for service in rest),
    ]
    return build_plan(plan.saga, plan.version, whole)


def _is_of(part: SagaManifest, plan: Plan) -> bool:
    return (part.saga, part.version) == (plan.saga, plan.version)


def _kept(plan: Plan, service: str, said: SagaManifest | None) -> SagaManifest:
    """Return a service's part as the plan has it."""
    steps = tuple(step for step in plan.steps if step.service == service)
    starts_with = plan.start_event if plan.starter == service else ""
    emitted = {event for step in steps for event in step.emits} | ({starts_with} - {""})
    times: Plan | SagaManifest = plan if said is None else said
    return SagaManifest(
        saga=plan.saga,
        version=plan.version,
        timeout_ms=times.timeout_ms,
        forward_window_ms=times.forward_window_ms,
        starts_with=starts_with,
        steps=steps,
        emits=tuple(EventSchema(type=event, schema="") for event in sorted(emitted)),
        needs=(),
        attempts=times.attempts,
    )
