"""Find what does not fit in a fleet: code and plans, replicas of a service, dependencies that are out; pure."""

from __future__ import annotations

from collections.abc import Iterator

from saga._core.breaker import Phase
from saga._core.doctor.facts import FleetFacts, PlanFact
from saga._core.doctor.findings import Code, Found, Severity, run_of


def fleet_findings(facts: FleetFacts, open_sagas: int) -> Iterator[Found]:
    """Yield what is announced and not well."""
    for one in facts.dependencies:
        if one.phase is Phase.CLOSED:
            continue
        text = f"dependency {one.dependency} is {one.phase.value} for the fleet ({one.share} % of its calls): "
        text += "its steps wait as rows; see to the other side, the breaker closes by itself"
        mend = "saga breakers ls"
        yield Found(severity=Severity.WRONG, code=Code.BREAKER_OPEN, where="saga.breakers", text=text, mend=mend)
    if facts.silent:
        # A fleet that was never started has nothing to do yet.
        severity = Severity.WRONG if open_sagas else Severity.RISK
        text = f"no replica is announced of {', '.join(facts.silent)}; {open_sagas} sagas are open: start them"
        mend = "; ".join(run_of(service) for service in facts.silent)
        yield Found(severity=severity, code=Code.SERVICE_ABSENT, where="saga.manifests", text=text, mend=mend)
    for sentence in facts.drift:
        mend = "saga plan TARGET; saga coordinator --plans FOLDER"
        yield Found(severity=Severity.RISK, code=Code.CODE_UNPLANNED, where="saga.manifests", text=sentence, mend=mend)
    for sentence in facts.divided:
        mend = "saga check TARGET --live --store STORE"
        yield Found(severity=Severity.RISK, code=Code.REPLICAS_DIFFER, where="saga.manifests", text=sentence, mend=mend)


def plan_findings(plans: tuple[PlanFact, ...]) -> Iterator[Found]:
    """Yield the plans that the code makes and the coordinator does not have, or has otherwise."""
    for plan in plans:
        if plan.coded == plan.published:
            continue
        where = f"plan {plan.title}"
        mend = "saga plan TARGET --output plans; saga coordinator --plans plans"
        if not plan.published:
            text = "the coordinator has no such plan, so none of its sagas can start"
            yield Found(severity=Severity.WRONG, code=Code.PLAN_MISSING, where=where, text=text, mend=mend)
            continue
        told = "; ".join(plan.changes) or "another shape"
        text = f"the code differs from revision {plan.revision}, which the coordinator has: {told}"
        yield Found(severity=Severity.WRONG, code=Code.PLAN_DIFFERS, where=where, text=text, mend=mend)
