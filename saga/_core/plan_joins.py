"""Check the parts of a plan where ways come together: fan-outs, gathers, joins and events from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from saga._core.plan import PlanStep, run_scope
from saga._core.plan_graph import Draft
from saga._core.versions import version_of
from saga._core.words import Effects, StepKind, Takes

MOST_WORLDS = 20_000
"""How many combinations of alternatives are looked at for one join before a person has to simplify it."""

Choices = Mapping[str, str]
"""What each step that can choose has emitted, `""` for nothing."""
Ask = Callable[[Callable[[str], bool]], tuple[bool, ...]]
"""Ask a world about several events, given what says of one whether it is emitted there."""


def shape_problems(draft: Draft) -> list[str]:
    """Return one sentence for each step whose inputs or branches cannot work; the draft has no cycle."""
    found: list[str] = []
    for step in draft.steps:
        found += _branch_problems(draft, step)
        if step.kind is StepKind.RECEIVE:
            found += _received_problems(draft, step)
        elif step.joins:
            found += _join_problems(draft, step)
        elif any(emitter_kind(draft, taken.event) is StepKind.RECEIVE for taken in step.inputs):
            found.append(
                f"{step.name}: reacts to {step.reacts_to}, which is received from outside, by itself, so it could run "
                f"before or after its saga; declare it @{step.service}.join with an event of the saga"
            )
        if (step.effects is Effects.CHILD) != bool(step.child):
            found.append(f"{step.name}: says child {step.child!r} and effects {step.effects}; write the plan again")
    return found or [problem for step in draft.steps if step.joins for problem in _partial_joins(draft, step)]


def emitter_kind(draft: Draft, event: str) -> StepKind | None:
    """Return the kind of the step that emits an event, None for a start and for nobody."""
    names = [name for name in draft.emitters.get(event, ()) if name in draft.by_name]
    return draft.by_name[names[0]].kind if names else None


# --- branches ------------------------------------------------------------------------------------------------


def _scope(draft: Draft, step: PlanStep) -> str:
    return run_scope(step, lambda event: draft.scopes.get(event, ""))


def _branch_problems(draft: Draft, step: PlanStep) -> list[str]:
    found: list[str] = []
    scope = _scope(draft, step)
    if step.fan_out and step.fan_out not in step.emits:
        found.append(f"{step.name}: fans out {step.fan_out}, which it does not emit; write the plan again")
    if step.fan_out and scope:
        found.append(
            f"{step.name}: emits list[{step.fan_out}] in a branch of the fan-out of {scope}; fan-outs do not nest: "
            f"gather the branches first, or emit one event that carries the list"
        )
    if scope and step.kind is StepKind.PIVOT:
        found.append(
            f"{step.name}: is the pivot and runs in every branch of the fan-out of {scope}, so it would be many points "
            f"of no return; gather the branches before it"
        )
    for event in step.emits:
        here = event if event == step.fan_out else scope
        if draft.scopes.get(event, here) != here:
            found.append(
                f"{step.name}: emits {event} {_inside(here)}, but it is also emitted "
                f"{_inside(draft.scopes[event])}; give one of them an event of its own"
            )
    return found


def _inside(scope: str) -> str:
    return f"in a branch of the fan-out of {scope}" if scope else "outside of a fan-out"


# --- joins -------------------------------------------------------------------------------------------------------


def _received_problems(draft: Draft, step: PlanStep) -> list[str]:
    found: list[str] = []
    for event in step.emits:
        if len(draft.emitters.get(event, ())) > 1:
            found.append(
                f"{step.name}: {event} is received from outside and also emitted by a step; give one of them an event "
                f"of its own"
            )
        if event not in draft.reacting:
            found.append(f"{step.name}: receives {event}, which no step takes; add a join that does, or remove it")
    return found


def _join_problems(draft: Draft, step: PlanStep) -> list[str]:
    events = [taken.event for taken in step.joins]
    if len({version_of(event)[0] or event for event in events}) < len(events):
        return [f"{step.name}: takes the same event twice; a join takes each event once, in one version"]
    if len(events) < 2 and step.joins[0].takes is Takes.ONE:  # noqa: PLR2004 - one event is no join
        return [f"{step.name}: joins one event only; declare it @{step.service}.step, or take list[...] of it"]
    scopes = {taken.event: draft.scopes.get(taken.event, "") for taken in step.joins}
    found = [
        f"{step.name}: takes list[{taken.event}], which is emitted outside of a fan-out; take it without list"
        for taken in step.joins
        if taken.takes is Takes.EVERY and not scopes[taken.event]
    ]
    ordinary = [t for t in step.joins if emitter_kind(draft, t.event) is not StepKind.RECEIVE]
    if not ordinary:
        found.append(f"{step.name}: joins only events received from outside; add an event of the saga")
    ones = {scopes[taken.event] for taken in ordinary if taken.takes is Takes.ONE}
    if any(taken.takes is Takes.EVERY for taken in step.joins):
        ones |= {""}
    if len(ones) > 1:
        spelled = " and ".join(sorted(f"{event} {_inside(scope)}" for event, scope in scopes.items()))
        found.append(
            f"{step.name}: joins {spelled}, which are not of one branch; take list[...] of what is in the branches"
        )
    if ones - {""} and len(ordinary) < len(step.joins):
        found.append(
            f"{step.name}: waits for an event from outside in a branch, and such an event has no branch; gather the "
            f"branches first"
        )
    return found


# --- all or none ---------------------------------------------------------------------------------------------------


def _partial_joins(draft: Draft, step: PlanStep) -> list[str]:
    """Return a sentence when some combination of alternatives brings a join some of its inputs and not the others."""
    ordinary = [t for t in step.joins if emitter_kind(draft, t.event) is not StepKind.RECEIVE]
    for taken in ordinary:
        if taken.takes is Takes.EVERY:
            # Whether a branch brings the event is asked for one branch: all of them are alike.
            fanned = draft.scopes[taken.event]
            answer = _differ(draft, _asking(fanned, taken.event), inside=fanned)
            if answer is None:
                return [_too_many(step)]
            if answer:
                problem = (
                    f"{step.name}: takes list[{taken.event}], but a branch of {fanned} may end without it "
                    f"({answer}); let every alternative in the branch emit {taken.event}"
                )
                return [problem]
    events = [draft.scopes[t.event] if t.takes is Takes.EVERY else t.event for t in ordinary]
    scope = _scope(draft, step)
    answer = _differ(draft, _asking(*events), inside=scope)
    if answer is None:
        return [_too_many(step)]
    if not answer:
        return []
    problem = (
        f"{step.name}: joins {' and '.join(events)}, but one may come without the other ({answer}), and then it "
        f"would wait for ever; a join gets all its inputs or none under every alternative"
    )
    return [problem]


def _asking(*events: str) -> Ask:
    return lambda emitted: tuple(map(emitted, events))


def _too_many(step: PlanStep) -> str:
    return (
        f"{step.name}: more than {MOST_WORLDS} combinations of alternatives lead to this join, too many to be checked; "
        f"join earlier, or use fewer alternatives"
    )


class _Undecided(Exception):
    def __init__(self, step: PlanStep) -> None:
        self.step = step


def _differ(draft: Draft, ask: Ask, *, inside: str) -> str | None:
    """Return the choices under which the answers are not all the same, `""` if there are none, None if too many."""
    open_worlds: list[dict[str, str]] = [{}]
    for _ in range(MOST_WORLDS):
        if not open_worlds:
            return ""
        choices = open_worlds.pop()
        try:
            answers = ask(_World(draft=draft, choices=choices, inside=inside).emitted)
        except _Undecided as undecided:
            # Choices are made only when asked for, so those that do not matter are not multiplied.
            step = undecided.step
            options = [*step.emits, ""] if step.ends else [*step.emits]
            open_worlds += [{**choices, step.name: option} for option in options]
        else:
            if len(set(answers)) > 1:
                made = [f"{name} emits {event or 'nothing'}" for name, event in sorted(choices.items())]
                return "if " + " and ".join(made)
    return None


@dataclass(frozen=True, kw_only=True)
class _World:
    """Be one combination of choices, seen from one branch of the fan-out `inside`, `""` from outside of all."""

    draft: Draft
    choices: Choices
    inside: str
    _known: dict[str, bool] = field(default_factory=dict[str, bool])

    def emitted(self, event: str) -> bool:
        """Return whether an event is emitted; raises _Undecided when it depends on a choice not made yet."""
        if event not in self._known:
            self._known[event] = self._find(event)
        return self._known[event]

    def _find(self, event: str) -> bool:
        for name in self.draft.emitters.get(event, ()):
            if name in self.draft.starts:
                return True
            step = self.draft.by_name[name]
            if not self._runs(step):
                continue
            options = len(step.emits) + step.ends
            if options > 1 and name not in self.choices:
                raise _Undecided(step)
            if options == 1 or self.choices[name] == event:
                return True
        return False

    def _runs(self, step: PlanStep) -> bool:
        # Loops instead of comprehensions: a plan may be as deep as it has steps, and each level costs frames.
        for taken in step.inputs:
            if emitter_kind(self.draft, taken.event) is StepKind.RECEIVE:
                continue
            scope = self.draft.scopes[taken.event]
            gathered = taken.takes is Takes.EVERY and scope != self.inside
            if not self.emitted(scope if gathered else taken.event):
                return False
        return True
