"""Check that steps make a plan that can always be finished or undone, and that code matches its plan."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations
from typing import cast

from saga._core.definition import ServiceDefinition, milliseconds
from saga._core.plan import Plan, PlanStep, Undoing
from saga._core.plan_graph import Coexistence, Draft
from saga._core.plan_joins import shape_problems
from saga._core.shape import BESIDE_THE_SHAPE, plan_receive, plan_step
from saga._core.upcasting import ways_of
from saga._core.versions import as_taken
from saga._core.words import StepKind

MOST_STEPS = 200
"""More steps than this are no transaction; the bound also keeps recursion over a plan shallow."""


def draft_problems(draft: Draft) -> list[str]:
    """Return one sentence for each reason why the draft is no plan; empty when it is one."""
    title = f"{draft.saga} v{draft.version}"
    if not draft.steps:
        return [f"{title}: no service declares a step of it; declare one with @service.step"]
    if len(draft.steps) > MOST_STEPS:
        return [f"{title}: has {len(draft.steps)} steps; split it into sagas of at most {MOST_STEPS} steps"]
    names = [step.name for step in draft.steps]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return [f"{name} ({title}): there are two steps of this name; rename one" for name in twice]
    found = [*_unfed(draft), *(problem for step in draft.steps for problem in _step_problems(step))]
    if cycle := draft.cycle():
        found.append(_cycle_problem(draft, cycle))
    else:
        found.extend(_emitter_problems(draft))
        if not found:
            found.extend(shape_problems(draft))
    found.extend(_undo_problems(draft))
    return found


def _unfed(draft: Draft) -> list[str]:
    return [
        f"{step.name}: reacts to {taken.event}, which no step emits and no service starts the saga with or receives "
        f"from outside; let a step return it, or correct the event's name or version"
        for step in draft.steps
        for taken in step.inputs
        if taken.event not in draft.emitters
    ]


def _step_problems(step: PlanStep) -> list[str]:
    """Check what one step says about itself; code cannot declare these, but a file can say them."""
    found: list[str] = []
    if step.kind is StepKind.RETRIABLE and step.refuses:
        found.append(
            f"{step.name}: is retriable, must succeed in the end, and yet refuses with "
            f"{', '.join(step.refuses)}; "
            f"remove the refusal, or declare @service.step with a compensation"
        )
    if step.kind is StepKind.PIVOT and step.undoing is not Undoing.NEVER:
        found.append(f"{step.name}: is the pivot, which is never undone, and yet has an undo; remove it")
    if step.reacts_to and step.joins:
        found.append(f"{step.name}: reacts to {step.reacts_to} and joins others; write the plan again")
    if (step.kind is StepKind.RECEIVE) == bool(step.inputs):
        found.append(f"{step.name}: is {step.kind} and takes {len(step.inputs)} events; write the plan again")
    if not step.emits and not step.ends:
        found.append(f"{step.name}: can neither emit an event nor end without one; add its event or None")
    return found


def _cycle_problem(draft: Draft, cycle: tuple[str, ...]) -> str:
    following = (*cycle[1:], cycle[0])
    way = " ".join(f"{step} -({_between(draft, step, child)})->" for step, child in zip(cycle, following, strict=True))
    return f"{way} {cycle[0]} is a cycle, on which nothing can begin or end; let one of them emit an event of its own"


def _between(draft: Draft, step: str, child: str) -> str:
    taken = [i.event for i in draft.by_name[child].inputs]
    return next(event for event in draft.by_name[step].emits if event in taken)


def _emitter_problems(draft: Draft) -> list[str]:
    coexistence = Coexistence(draft=draft)
    return [
        f"{one} and {other} both emit {event} and can both run in one saga, but what reacts to it runs once; "
        f"give one of them an event of its own, or put them behind different alternatives of one step"
        for event, emitters in draft.emitters.items()
        for one, other in combinations(emitters, 2)
        if coexistence.both((one, event), (other, event))
    ]


def _undo_problems(draft: Draft) -> list[str]:
    pivots = sorted(step.name for step in draft.steps if step.kind is StepKind.PIVOT)
    if len(pivots) > 1:
        names = " and ".join(pivots)
        return [f"{names} are all pivots of {draft.saga}; a saga has one point of no return, keep one"]
    if pivots:
        return _pivot_problems(draft, pivots[0])
    return [
        f"{step.name}: cannot be undone, and {draft.saga} has no pivot after which it would not need to be; "
        f"add @{_function(step)}.compensation or compensation=NOTHING"
        for step in draft.steps
        if step.undoing is Undoing.NEVER and step.kind is not StepKind.RECEIVE
    ]


def _pivot_problems(draft: Draft, pivot: str) -> list[str]:
    after = draft.reached(draft.children(pivot))
    without = _possible_without(draft, pivot)
    found: list[str] = []
    for step in draft.steps:
        if step.name == pivot or step.kind is StepKind.RECEIVE:
            continue
        leads = pivot in draft.reached(draft.children(step.name))
        if leads:
            place = f"comes before the pivot {pivot}"
        elif step.name in after:
            events = " and ".join(taken.event for taken in step.inputs)
            place = f"can run without the pivot {pivot}, as {events} is also emitted on a way around it"
        else:
            place = f"runs beside the pivot {pivot}, neither before nor after it"
        if not leads and step.kind is StepKind.STEP:
            found.append(_not_retriable(step, pivot))
        if (leads or step.name in without) and step.undoing is Undoing.NEVER:
            found.append(
                f"{step.name}: {place}, so it may have to be undone; "
                f"add @{_function(step)}.compensation or compensation=NOTHING"
            )
    return found


def _possible_without(draft: Draft, pivot: str) -> frozenset[str]:
    """Return the steps that may run although the pivot has not; a join needs all of its events."""
    possible = set(draft.starts)
    for name in draft.order:
        taken = draft.by_name[name].inputs
        if name != pivot and all(possible.intersection(draft.emitters.get(i.event, ())) for i in taken):
            possible.add(name)
    return frozenset(possible)


def _not_retriable(step: PlanStep, pivot: str) -> str:
    return (
        f"{step.name}: may run when the pivot {pivot} cannot be taken back any more, so it "
        "must succeed in the end; "
        f"declare it @{step.service}.retriable, or let it lead to the pivot"
    )


def _function(step: PlanStep) -> str:
    return step.name.partition(".")[2]


def check_service(definition: ServiceDefinition, plan: Plan) -> tuple[str, ...]:
    """Return one sentence for each difference between code and plan; when empty, the code may run it.

    Code that reads an older version of an event as its own matches a plan in which that version is sent.
    """
    wanted = (plan.saga, plan.version)
    title = f"{plan.saga} v{plan.version}"
    planned = {step.name: step for step in plan.steps if step.service == definition.name}
    ways = ways_of(definition.upcasters)
    coded = {s.name: plan_step(s) for s in definition.steps if (s.saga, s.version) == wanted}
    coded |= {r.name: plan_receive(r) for r in definition.receives if (r.saga, r.version) == wanted}
    coded = {n: as_taken(step, planned[n], ways) if n in planned else step for n, step in coded.items()}
    found = [
        f"{name} ({title}): is in the plan, but not in this code; deploy the code that has it, or run `saga plan`"
        for name in sorted(planned.keys() - coded.keys())
    ]
    found += [
        f"{name} ({title}): is in this code, but not in the plan; run `saga plan` and publish the new revision"
        for name in sorted(coded.keys() - planned.keys())
    ]
    for name in sorted(coded.keys() & planned.keys()):
        found += _step_differences(coded[name], planned[name], title)
    return (*found, *_start_differences(definition, plan, title), *_time_differences(definition, plan, title))


def _step_differences(coded: PlanStep, planned: PlanStep, title: str) -> list[str]:
    return [
        _difference(f"{coded.name} ({title})", field.name, getattr(coded, field.name), getattr(planned, field.name))
        for field in fields(PlanStep)
        if field.name not in BESIDE_THE_SHAPE
        and _comparable(getattr(coded, field.name)) != _comparable(getattr(planned, field.name))
    ]


def _comparable(value: object) -> object:
    return frozenset(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else value


def _difference(where: str, what: str, coded: object, planned: object) -> str:
    return (
        f"{where}: {what} is {_spelled(coded)} in this code and {_spelled(planned)} in the plan; "
        f"deploy the code that matches, or run `saga plan` and publish the new revision"
    )


def _spelled(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return " | ".join(map(str, cast("tuple[object, ...]", value))) or "nothing"


def _start_differences(definition: ServiceDefinition, plan: Plan, title: str) -> list[str]:
    coded = {s.name: s.event.wire_type for s in definition.starts if (s.saga, s.version) == (plan.saga, plan.version)}
    planned = {plan.start: plan.start_event} if plan.starter == definition.name else {}
    return [
        _difference(
            f"{name} ({title})",
            "the starting event",
            coded.get(name, "missing"),
            planned.get(name, "missing"),
        )
        for name in sorted(coded.keys() | planned.keys())
        if coded.get(name) != planned.get(name)
    ]


def _time_differences(definition: ServiceDefinition, plan: Plan, title: str) -> list[str]:
    for saga in definition.sagas:
        if (saga.name, saga.version) == (plan.saga, plan.version):
            where = f"{definition.name} ({title})"
            coded = milliseconds(saga.timeout, "timeout"), milliseconds(saga.forward_window, "forward_window")
            planned = plan.timeout_ms, plan.forward_window_ms
            words = "timeout_ms", "forward_window_ms"
            return [_difference(where, w, c, p) for w, c, p in zip(words, coded, planned, strict=True) if c != p]
    return []
