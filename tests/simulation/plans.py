"""Make random plans that the production check lets pass, each from its number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from random import Random

from saga._core.doubt import Memory
from saga._core.plan import Plan, PlanStep, Topology, Undoing, topology_of
from saga._core.plan_check import draft_problems
from saga._core.plan_graph import Draft
from saga._core.words import Effects, StepKind
from tests.exhaustive.scenarios import SCENARIOS
from tests.simulation.growing import START, START_EVENT, Grower

DAY_MS = 86_400_000


EXPLORED = SCENARIOS
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
    """Return the plan with this number; every twelfth is one of the exhaustive exploration."""
    if number % 12 == 0:
        scenario = EXPLORED[number // 12 % len(EXPLORED)]
        plan = replace(scenario.topology.plan, forward_window_ms=7 * DAY_MS)
        return Kit(
            plan=plan,
            topology=topology_of(plan),
            fails=scenario.fails,
            sticks=scenario.sticks,
            attempts=scenario.call_attempts,
            short=False,
            child=_child_of(plan.steps, number),
        )
    random = Random(f"plan {number}")  # a string: its own stream beside that of the schedule
    while True:
        drawn = Grower(random).grown()
        draft = Draft(saga="random", version=1, starts={START: START_EVENT}, steps=drawn)
        if not draft_problems(draft):
            break
    short = random.random() < 0.08
    memory = None
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
    undone = [step.name for step in drawn if step.undoing in (Undoing.LOCAL, Undoing.EXTERNAL)]
    return Kit(
        plan=plan,
        topology=topology_of(plan),
        fails=frozenset(name for name in local if random.random() < 0.3),
        sticks=frozenset(name for name in undone if random.random() < 0.5) if random.random() < 0.2 else frozenset(),
        attempts=random.choice((1, 2, 3)),
        short=short,
        probed=frozenset(name for name in outside if asks and random.random() < 0.7),
        memory=BRIEF if random.random() < 0.15 else LONG,
    )
