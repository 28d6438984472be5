"""Hold the plan of one saga version, and the index over it that decisions read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from saga._core.words import Effects, StepKind


class Undoing(StrEnum):
    """Say how a step is undone: by a compensation, by nothing, or not at all."""

    LOCAL = "local"
    EXTERNAL = "external"
    NOTHING = "nothing"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """Describe one step as everybody must agree on it; types are wire names such as `stock.reserved.v1`.

    `emits` are alternatives; `ends` says that the step may also emit nothing.
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

    @property
    def service(self) -> str:
        """Return the service that hosts the step."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Be all steps of one saga version; `hash` covers everything but `revision` and itself.

    `start` is the start run's name (`orders.start`), `start_event` what it emits.
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

    @property
    def starter(self) -> str:
        """Return the service that starts the saga and hears of its end."""
        return self.start.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Index a plan once: who reacts, who comes after whom, where the point of no return is.

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


def topology_of(plan: Plan) -> Topology:
    """Index `plan`; the plan must have been checked (no cycle)."""
    steps = {step.name: step for step in plan.steps}
    reacting: dict[str, tuple[PlanStep, ...]] = {}
    for step in plan.steps:
        reacting[step.reacts_to] = (*reacting.get(step.reacts_to, ()), step)
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
    sources: dict[str, frozenset[str]] = {plan.start_event: frozenset((plan.starter,))}
    for step in plan.steps:
        for event in step.emits:
            sources[event] = sources.get(event, frozenset()) | {step.service}
    return Topology(
        plan=plan,
        steps=steps,
        reacting=reacting,
        after=after,
        hosts_after={n: frozenset(steps[m].service for m in after[n] | {n}) for n in steps},
        services=tuple(sorted({step.service for step in plan.steps})),
        sources=sources,
        pivot=next((step for step in plan.steps if step.kind is StepKind.PIVOT), None),
    )
