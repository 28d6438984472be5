"""Hold the plan of one saga version, and the index over it that decisions read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from saga._core.words import Effects, RunKey, StepKind, Takes

KEEP_MARGIN_CAP = timedelta(days=1)


class Undoing(StrEnum):
    """Say how a step is undone: by a compensation, by nothing, or not at all."""

    LOCAL = "local"
    EXTERNAL = "external"
    CHILD = "child"
    NOTHING = "nothing"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """Be one event a step takes: the one of its own branch, or those of every branch of a fan-out."""

    event: str
    takes: Takes = Takes.ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """Describe one step as everybody must agree on it; types are wire names such as `stock.reserved.v1`.

    `emits` are alternatives; `ends` says that the step may also emit nothing. `reacts_to` is the one event
    of an ordinary step and `""` where there are several (`joins`) or none (it is received from outside).
    `fan_out` names the alternative that is emitted once for each element of a list. `child` is the child
    saga an effect lives in, such as `trip.v1`. `calls` names the dependency; it is not part of the shape.
    A step waits `delay_ms` after its event, and has to be done `within_ms` of its cause; 0 says nothing.
    """

    name: str
    kind: StepKind
    effects: Effects
    reacts_to: str
    emits: tuple[str, ...]
    ends: bool
    refuses: tuple[str, ...]
    undoing: Undoing
    timeout_ms: int
    joins: tuple[PlanInput, ...] = ()
    fan_out: str = ""
    delay_ms: int = 0
    within_ms: int = 0
    child: str = ""
    calls: str = ""

    @property
    def inputs(self) -> tuple[PlanInput, ...]:
        """Return every event the step takes; none where it is received."""
        return self.joins or ((PlanInput(event=self.reacts_to),) if self.reacts_to else ())

    @property
    def service(self) -> str:
        """Return the service that hosts the step."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Be all steps of one saga version; `hash` covers everything but `revision`, `attempts` and itself.

    `start` is the start run's name (`orders.start`), `start_event` what it emits. `attempts` bounds what all runs
    of a saga may take together; 0 does not.
    """

    saga: str
    version: int
    revision: int
    start: str
    start_event: str
    timeout_ms: int
    forward_window_ms: int
    steps: tuple[PlanStep, ...]
    hash: str
    attempts: int = 0

    @property
    def starter(self) -> str:
        """Return the service that starts the saga and hears of its end."""
        return self.start.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Index a plan once: who reacts, who comes after whom, where the point of no return is.

    `scopes[event]` names the fan-out whose branches the event belongs to, `""` outside of one. `gathers[event]`
    are the steps that take something of every branch of the fan-out of `event`. `limited` says whether any
    step has to be done within a time of its own; in a `simple` plan none has, none is received from outside, and nobody
    counts attempts. `demands[event]` are the runs that an event outside of branches asks for. `lifetime` is from a
    saga's start to its expiry, and `keep_margin` how long before it the participants of an open one are told to keep
    its rows.

    `after[step]` are all steps a run of `step` can lead to, itself left out. `hosts_after[step]` are
    the services hosting `step` or one of those. `services` host at least one step. `sources[event]` are
    the services an event may come from.
    """

    plan: Plan
    steps: Mapping[str, PlanStep]
    reacting: Mapping[str, tuple[PlanStep, ...]]
    after: Mapping[str, frozenset[str]]
    hosts_after: Mapping[str, frozenset[str]]
    services: tuple[str, ...]
    sources: Mapping[str, frozenset[str]]
    pivot: PlanStep | None
    scopes: Mapping[str, str]
    gathers: Mapping[str, tuple[PlanStep, ...]]
    limited: bool
    simple: bool
    demands: Mapping[str, tuple[RunKey, ...]]
    start: RunKey
    lifetime: timedelta
    forward_window: timedelta
    keep_margin: timedelta


def topology_of(plan: Plan) -> Topology:
    """Index `plan`; the plan must have been checked (no cycle)."""
    steps = {step.name: step for step in plan.steps}
    reacting: dict[str, tuple[PlanStep, ...]] = {}
    for step in plan.steps:
        for taken in step.inputs:
            reacting[taken.event] = (*reacting.get(taken.event, ()), step)
    after = _descendants(steps, reacting)
    sources: dict[str, frozenset[str]] = {plan.start_event: frozenset((plan.starter,))}
    for step in plan.steps:
        for event in step.emits:
            sources[event] = sources.get(event, frozenset()) | {step.service}
    scopes = scopes_of(plan.start_event, plan.steps)
    gathers: dict[str, tuple[PlanStep, ...]] = {}
    for step in plan.steps:
        for scope in dict.fromkeys(scopes[i.event] for i in step.inputs if i.takes is Takes.EVERY):
            gathers[scope] = (*gathers.get(scope, ()), step)
    forward_window = timedelta(milliseconds=plan.forward_window_ms)
    limited = any(step.within_ms for step in plan.steps)
    return Topology(
        plan=plan,
        steps=steps,
        reacting=reacting,
        after=after,
        hosts_after={n: frozenset(steps[m].service for m in after[n] | {n}) for n in steps},
        services=tuple(sorted({step.service for step in plan.steps})),
        sources=sources,
        pivot=next((step for step in plan.steps if step.kind is StepKind.PIVOT), None),
        scopes=scopes,
        gathers=gathers,
        limited=limited,
        simple=not (limited or plan.attempts or any(step.kind is StepKind.RECEIVE for step in plan.steps)),
        demands={event: tuple(RunKey(step=step.name) for step in reacting.get(event, ())) for event in sources},
        start=RunKey(step=plan.start),
        lifetime=timedelta(milliseconds=plan.timeout_ms) + forward_window,
        forward_window=forward_window,
        keep_margin=min(KEEP_MARGIN_CAP, forward_window / 4),
    )


def _descendants(
    steps: Mapping[str, PlanStep], reacting: Mapping[str, tuple[PlanStep, ...]]
) -> dict[str, frozenset[str]]:
    after: dict[str, frozenset[str]] = {}

    def descend(name: str) -> frozenset[str]:
        if name not in after:
            found: set[str] = set()
            for event in steps[name].emits:
                for child in reacting.get(event, ()):
                    found.add(child.name)
                    found |= descend(child.name)
            after[name] = frozenset(found)
        return after[name]

    for name in steps:
        descend(name)
    return after


def scopes_of(start_event: str, steps: Iterable[PlanStep]) -> Mapping[str, str]:
    """Return the fan-out each event belongs to, `""` outside of one; unknown and circular causes count as outside."""
    emitters: dict[str, PlanStep] = {}
    for step in steps:
        for event in step.emits:
            emitters.setdefault(event, step)
    scopes: dict[str, str] = {start_event: ""}

    def scope_of(event: str) -> str:
        if event not in scopes:
            scopes[event] = ""
            emitter = emitters.get(event)
            if emitter is not None:
                scopes[event] = event if emitter.fan_out == event else run_scope(emitter, scope_of)
        return scopes[event]

    for event in [*emitters, *(taken.event for step in steps for taken in step.inputs)]:
        scope_of(event)
    return scopes


def run_scope(step: PlanStep, scope_of: Callable[[str], str]) -> str:
    """Return the fan-out in whose branches a step runs: that of its inputs, `""` where it gathers them."""
    if any(taken.takes is Takes.EVERY for taken in step.inputs):
        return ""
    return next((scope_of(taken.event) for taken in step.inputs), "")
