"""Make random plans that the production check lets pass, each from its number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from random import Random

from saga._core.doubt import Memory
from saga._core.plan import Plan, Topology, Undoing, topology_of
from saga._core.plan_check import draft_problems
from saga._core.plan_graph import Draft
from saga._core.words import Effects, StepKind
from tests.exhaustive.scenarios import SCENARIOS
from tests.simulation.growing import CHILD, START, START_EVENT, Grower

DAY_MS = 86_400_000


LONG = Memory(max_in_flight=timedelta(seconds=60), key_ttl=timedelta(hours=24))
BRIEF = Memory(max_in_flight=timedelta(seconds=60), key_ttl=timedelta(seconds=150))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kit:
    """Be a plan and what its steps can do.

    `fails` are steps that may use up their attempts, `sticks` those whose compensation may fail for good.
    `short` says that the forward window is short enough to end while the schedule runs, `probed` names the
    steps with a `confirm`, and `memory` says how long a call is under way and its key known outside.
    `child` is the plan of the sagas that steps start.
    """

    plan: Plan
    topology: Topology
    fails: frozenset[str]
    sticks: frozenset[str]
    attempts: int
    short: bool
    probed: frozenset[str] = frozenset()
    memory: Memory = LONG
    child: Topology | None = None

    @property
    def steady(self) -> bool:
        """Return whether the services' clocks must not jump: proof that a call has not happened rests on them."""
        return bool(self.probed) or self.memory is not LONG


SCHEDULES_OF_A_PLAN = 16
"""So many seeds in a row share a plan: making one costs a quarter of a schedule."""


@lru_cache(maxsize=4096)
def kit(number: int) -> Kit:
    """Return the plan with this number; every twelfth is one of the exhaustive exploration.

    In some plans one of the steps is a child saga. Those with too little time or memory have none: a child that is
    stuck leaves its parent waiting for ever.
    """
    found = _kit(number)
    random = Random(f"child {number}")
    steps = found.plan.steps
    child = next((step for step in steps if step.effects is Effects.CHILD), None)
    if child is None:
        possible = [step for step in steps if step.kind is StepKind.STEP and not step.fan_out]
        if found.short or found.memory is not LONG or not possible or number % 12 == 0 or random.random() < 0.6:
            return found
        chosen = random.choice(possible)
        child = replace(chosen, effects=Effects.CHILD, undoing=Undoing.CHILD, refuses=("no.v1",), child="child.v1")
        steps = tuple(child if step is chosen else step for step in steps)
        if draft_problems(Draft(saga="random", version=1, starts={START: START_EVENT}, steps=steps)):
            return found
    plan, its_own = replace(found.plan, steps=steps), _child_plan(child.service, random, number)
    fails = [step.name for step in its_own.steps if step.kind is StepKind.STEP and random.random() < 0.2]
    undone = [step.name for step in its_own.steps if step.undoing in (Undoing.LOCAL, Undoing.EXTERNAL)]
    sticks = undone if random.random() < 0.35 else []
    return replace(
        found,
        plan=plan,
        topology=topology_of(plan),
        fails=found.fails.union(fails) - {child.name},
        sticks=found.sticks.union(sticks) - {child.name},
        probed=found.probed - {child.name},
        child=topology_of(its_own),
    )


def _child_plan(service: str, random: Random, number: int) -> Plan:
    """Return the plan of the sagas that a step of `service` starts; it has no pivot."""
    start = f"{service}.{START.partition('.')[2]}"
    while True:
        drawn = Grower(random, CHILD).grown()
        if not draft_problems(Draft(saga="child", version=1, starts={start: START_EVENT}, steps=drawn)):
            break
    return Plan(
        saga="child",
        version=1,
        revision=1,
        start=start,
        start_event=START_EVENT,
        timeout_ms=random.choice((30_000, 300_000)),
        forward_window_ms=7 * DAY_MS,
        steps=drawn,
        hash=f"child-{number}",
    )


def _kit(number: int) -> Kit:
    if number % 12 == 0:
        scenario = SCENARIOS[number // 12 % len(SCENARIOS)]
        plan = replace(scenario.topology.plan, forward_window_ms=7 * DAY_MS)
        return Kit(
            plan=plan,
            topology=topology_of(plan),
            fails=scenario.fails,
            sticks=scenario.sticks,
            attempts=scenario.call_attempts,
            short=False,
        )
    random = Random(f"plan {number}")  # a string: its own stream beside that of the schedule
    while True:
        drawn = Grower(random).grown()
        draft = Draft(saga="random", version=1, starts={START: START_EVENT}, steps=drawn)
        if not draft_problems(draft):
            break
    short = random.random() < 0.08
    plan = Plan(
        saga="random",
        version=1,
        revision=1,
        start=START,
        start_event=START_EVENT,
        timeout_ms=random.choice((30_000, 300_000, 3_600_000)),
        forward_window_ms=random.choice((60_000, 1_800_000)) if short else 7 * DAY_MS,
        steps=drawn,
        hash=f"plan-{number}",
    )
    local = [step.name for step in drawn if step.kind in (StepKind.STEP, StepKind.PIVOT)]
    outside = [step.name for step in drawn if step.effects is Effects.EXTERNAL]
    asks = random.random() < 0.5
    # What is certain to succeed and can ask is rare, and what it does with the proof that nothing happened is rarer.
    certain = {step.name for step in drawn if step.kind is StepKind.RETRIABLE} if number % 3 else set[str]()
    undone = [step.name for step in drawn if step.undoing in (Undoing.LOCAL, Undoing.EXTERNAL)]
    return Kit(
        plan=plan,
        topology=topology_of(plan),
        fails=frozenset(name for name in local if random.random() < 0.3),
        sticks=frozenset(name for name in undone if random.random() < 0.5) if random.random() < 0.2 else frozenset(),
        attempts=min(random.choice((1, 2, 3)), 1 if certain.intersection(outside) else 3),
        short=short,
        probed=frozenset(name for name in outside if (asks and random.random() < 0.7) or name in certain),
        memory=BRIEF if random.random() < 0.15 else LONG,
    )
