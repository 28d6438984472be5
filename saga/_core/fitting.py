"""Say which steps of a plan a service's code can run, though the plan may be older or newer than the code.

While a fleet changes, sagas of several plans are open at once. Code fits a step of a plan when whatever the
step does under that plan can be done, undone and told: times and refusals may differ, and the code may emit
less than the plan allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from saga._core.definition import ServiceDefinition
from saga._core.plan import Plan, PlanStep, Undoing
from saga._core.shape import plan_receive, plan_step
from saga._core.upcasting import ways_of
from saga._core.versions import as_emitted, as_taken, leads

_FREE = frozenset({"name", "timeout_ms", "within_ms", "delay_ms", "refuses", "calls"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """Say what of one plan a service's code cannot do: `steps` it cannot run, by name, and why.

    `ending` says why the starter's code cannot be told how a saga of the plan ends; `""` when it can.
    """

    steps: Mapping[str, str] = field(default_factory=dict[str, str])
    ending: str = ""


FIT = Fitness()


def fitness(definition: ServiceDefinition, plan: Plan) -> Fitness:
    """Return what of `plan` the service's code cannot do, with one sentence for each."""
    wanted = (plan.saga, plan.version)
    title = f"{plan.saga} v{plan.version} revision {plan.revision}"
    coded = {step.name: plan_step(step) for step in definition.steps if (step.saga, step.version) == wanted}
    coded |= {r.name: plan_receive(r) for r in definition.receives if (r.saga, r.version) == wanted}
    ways = ways_of(definition.upcasters)
    starts = {start.name: start.event.wire_type for start in definition.starts if (start.saga, start.version) == wanted}
    ending = ""
    if plan.starter == definition.name:
        began = starts.get(plan.start)
        if began is None:
            ending = f"{plan.start} ({title}): this code does not start the saga any more, or not yet"
        elif not leads(plan.start_event, began, ways):
            ending = f"{plan.start} ({title}): starts with {began} in this code and {plan.start_event} in the plan"
    return Fitness(steps=unfit(definition.name, coded, plan, ways), ending=ending)


def unfit(
    service: str, coded: Mapping[str, PlanStep], plan: Plan, ways: Mapping[str, str] | None = None
) -> Mapping[str, str]:
    """Return the steps of `service` in `plan` that code with the steps `coded` cannot run, each with a sentence.

    `ways` says into which later event type the code can turn an older one.
    """
    title = f"{plan.saga} v{plan.version} revision {plan.revision}"
    found: dict[str, str] = {}
    for planned in plan.steps:
        if planned.service != service:
            continue
        step = coded.get(planned.name)
        if step is None:
            found[planned.name] = f"{planned.name} ({title}): this code does not have the step"
            continue
        step = as_emitted(as_taken(step, planned, ways or {}), planned, ways or {})
        if different := [name for name in _compared() if not _fits(name, step, planned)]:
            said = ", ".join(
                f"{name} is {_spelled(getattr(step, name))} in this code and "
                f"{_spelled(getattr(planned, name))} in the plan"
                for name in different
            )
            found[planned.name] = f"{planned.name} ({title}): {said}"
    return found


def needs_code_to_undo(step: PlanStep) -> bool:
    """Return whether undoing a run of the step takes the step's code."""
    return step.undoing in (Undoing.LOCAL, Undoing.EXTERNAL)


def _compared() -> list[str]:
    return [each.name for each in fields(PlanStep) if each.name not in _FREE]


def _fits(name: str, coded: PlanStep, planned: PlanStep) -> bool:
    mine, theirs = getattr(coded, name), getattr(planned, name)
    if name == "emits":
        return set(mine) <= set(theirs)
    if name == "ends":
        return theirs or not mine
    return bool(mine == theirs)


def _spelled(value: object) -> str:
    if isinstance(value, tuple):
        return " | ".join(str(each) for each in value) or "nothing"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return str(value) or "nothing"
