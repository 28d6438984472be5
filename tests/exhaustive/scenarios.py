"""Hold the plans that are explored, and how far the exploration of each one goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from saga._core.plan import Plan, PlanInput, PlanStep, Topology, Undoing, topology_of
from saga._core.plan_check import draft_problems
from saga._core.plan_graph import Draft
from saga._core.words import Effects, RunKey, StepKind, Takes

START = "shop.start"
START_EVENT = "started.v1"
TIMEOUT_MS = 60_000
FORWARD_WINDOW_MS = 3_600_000


class Bounds(NamedTuple):
    """Say how often what may happen at any moment happens.

    A takeover leaves a zombie behind whose call and answer may come at any later time.
    """

    duplicates: int = 0
    deadlines: int = 0
    cancels: int = 0
    takeovers: int = 0
    settles: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenario:
    """Be a plan and what its steps can do.

    `fails` are local steps that may use up their attempts, `sticks` the steps whose compensation may
    fail for good, `probed` the outside steps with a `confirm`. `counts` are how many elements a fan-out may
    have. `parent` is the run that has started the saga, if it is a child. `late` lets its timeout pass in every
    exploration.
    """

    name: str
    topology: Topology
    call_attempts: int = 1
    fails: frozenset[str] = frozenset()
    sticks: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset()
    counts: tuple[int, ...] = (2,)
    parent: tuple[RunKey, ...] = ()
    late: bool = False

    @property
    def external(self) -> bool:
        """Return whether calls leave the services at all."""
        return any(Effects.EXTERNAL is found.effects for found in self.topology.plan.steps) or any(
            found.undoing is Undoing.EXTERNAL for found in self.topology.plan.steps
        )


def step(
    name: str,
    reacts_to: str,
    *emits: str,
    kind: StepKind = StepKind.STEP,
    external: bool = False,
    ends: bool = False,
    refuses: bool = False,
    undoing: Undoing | None = None,
    joins: tuple[PlanInput, ...] = (),
    fan_out: str = "",
    child: str = "",
) -> PlanStep:
    """Return a step; its compensation is of the kind its action is, the pivot and what is certain has none."""
    if undoing is None and kind is StepKind.STEP:
        undoing = Undoing.EXTERNAL if external else Undoing.LOCAL
    return PlanStep(
        name=name,
        kind=kind,
        effects=Effects.CHILD if child else Effects.EXTERNAL if external else Effects.LOCAL,
        reacts_to=reacts_to,
        emits=emits,
        ends=ends or not emits,
        refuses=("no.v1",) if refuses else (),
        undoing=undoing or Undoing.NEVER,
        timeout_ms=1_000,
        joins=joins,
        fan_out=fan_out,
        child=child,
    )


def every(event: str) -> PlanInput:
    """Take an event of every branch."""
    return PlanInput(event=event, takes=Takes.EVERY)


def topology(name: str, *steps: PlanStep) -> Topology:
    """Return the index over a plan that the production check lets pass."""
    problems = draft_problems(Draft(saga=name, version=1, starts={START: START_EVENT}, steps=steps))
    assert not problems, problems
    plan = Plan(
        saga=name,
        version=1,
        revision=1,
        start=START,
        start_event=START_EVENT,
        timeout_ms=TIMEOUT_MS,
        forward_window_ms=FORWARD_WINDOW_MS,
        steps=steps,
        hash=name,
    )
    return topology_of(plan)


PIVOT = StepKind.PIVOT
RETRIABLE = StepKind.RETRIABLE

SEQUENCE = Scenario(
    name="sequence",
    topology=topology(
        "sequence",
        step("a.one", START_EVENT, "one.v1", refuses=True),
        step("b.two", "one.v1", "two.v1", refuses=True),
        step("c.three", "two.v1", refuses=True),
    ),
    fails=frozenset({"c.three"}),
)

PARALLEL = Scenario(
    name="parallel with a refusal",
    topology=topology(
        "parallel",
        step("a.left", START_EVENT, "left.v1"),
        step("b.right", START_EVENT, refuses=True),
        step("c.after_left", "left.v1"),
    ),
)

PIVOT_IN_THE_MIDDLE = Scenario(
    name="pivot in the middle",
    topology=topology(
        "middle",
        step("a.reserve", START_EVENT, "reserved.v1", refuses=True),
        step("b.capture", "reserved.v1", "captured.v1", kind=PIVOT, refuses=True),
        step("c.ship", "captured.v1", kind=RETRIABLE),
    ),
    fails=frozenset({"b.capture"}),
)

PIVOT_BEHIND_A_REFUSAL = Scenario(
    name="pivot behind a step that refuses",
    topology=topology(
        "behind",
        step("a.reserve", START_EVENT, "reserved.v1"),
        step("b.check", "reserved.v1", "checked.v1", refuses=True),
        step("c.capture", "checked.v1", kind=PIVOT),
        step("a.note", "reserved.v1", kind=RETRIABLE, undoing=Undoing.LOCAL),
    ),
)

PIVOT_IN_DOUBT = Scenario(
    name="external pivot in doubt",
    topology=topology(
        "doubt",
        step("a.reserve", START_EVENT, "reserved.v1"),
        step("b.capture", "reserved.v1", "captured.v1", kind=PIVOT, external=True, refuses=True),
        step("b.note", "reserved.v1", kind=RETRIABLE, undoing=Undoing.LOCAL),
        step("c.ship", "captured.v1", kind=RETRIABLE),
    ),
)

EXTERNAL_STEP = Scenario(
    name="external step in doubt",
    topology=topology(
        "external",
        step("a.reserve", START_EVENT, "reserved.v1"),
        step("b.book", "reserved.v1", "booked.v1", external=True, refuses=True),
        step("c.confirm", "booked.v1", refuses=True),
    ),
)

ALTERNATIVES = Scenario(
    name="alternatives",
    topology=topology(
        "alternatives",
        step("a.decide", START_EVENT, "cheap.v1", "dear.v1"),
        step("b.cheap", "cheap.v1", "settled.v1"),
        step("c.dear", "dear.v1", "settled.v1", refuses=True),
        step("b.settle", "settled.v1", refuses=True),
    ),
)

TWO_SERVICES = Scenario(
    name="two services with several steps",
    topology=topology(
        "two",
        step("a.one", START_EVENT, "one.v1"),
        step("b.two", "one.v1", "two.v1"),
        step("a.three", "two.v1", "three.v1"),
        step("b.four", "three.v1", refuses=True),
        step("a.aside", "one.v1", ends=True),
    ),
)

STUCK = Scenario(
    name="compensation fails for good",
    topology=topology(
        "stuck",
        step("a.one", START_EVENT, "one.v1"),
        step("b.two", "one.v1", "two.v1"),
        step("c.three", "two.v1", refuses=True),
    ),
    sticks=frozenset({"b.two"}),
)

CERTAIN = Scenario(
    name="certain outside step behind the pivot",
    topology=topology(
        "certain",
        step("shop.reserve", START_EVENT, "reserved.v1"),
        step("b.capture", "reserved.v1", "captured.v1", kind=PIVOT, refuses=True),
        step("shop.ship", "captured.v1", kind=RETRIABLE, external=True),
    ),
)

AROUND_THE_PIVOT = Scenario(
    name="a way around the pivot",
    topology=topology(
        "around",
        step("a.reserve", START_EVENT, "reserved.v1", "free.v1"),
        step("b.capture", "reserved.v1", "ready.v1", kind=PIVOT, external=True, refuses=True),
        step("c.waive", "free.v1", "ready.v1", kind=RETRIABLE, undoing=Undoing.LOCAL),
        step("c.ship", "ready.v1", kind=RETRIABLE, undoing=Undoing.LOCAL),
    ),
    call_attempts=2,
)

MIXED = Scenario(
    name="inside steps undone outside and the reverse",
    topology=topology(
        "mixed",
        step("a.one", START_EVENT, "one.v1", undoing=Undoing.EXTERNAL),
        step("b.two", "one.v1", "two.v1", external=True, undoing=Undoing.LOCAL, refuses=True),
        step("a.three", "two.v1", refuses=True),
    ),
)

NOTHING = Scenario(
    name="outside step with nothing to undo",
    topology=topology(
        "nothing",
        step("a.one", START_EVENT, "one.v1"),
        step("b.two", "one.v1", "two.v1", external=True, undoing=Undoing.NOTHING, refuses=True),
        step("c.three", "two.v1", refuses=True),
    ),
)

PIVOT_AMONG_ITS_OWN = Scenario(
    name="the pivot's service hosts its cause and an outside step",
    topology=topology(
        "own",
        step("b.reserve", START_EVENT, "reserved.v1"),
        step("b.capture", "reserved.v1", kind=PIVOT, external=True, refuses=True),
        step("b.note", "reserved.v1", "noted.v1", kind=RETRIABLE, external=True, undoing=Undoing.EXTERNAL),
        step("c.file", "noted.v1", kind=RETRIABLE, undoing=Undoing.LOCAL),
    ),
)

STUCK_OUTSIDE = Scenario(
    name="outside compensation fails for good",
    topology=topology(
        "stuck-outside",
        step("a.one", START_EVENT, "one.v1"),
        step("b.two", "one.v1", external=True, refuses=True),
    ),
    sticks=frozenset({"b.two"}),
)

PROBED_STEP = Scenario(
    name="outside step with a probe",
    topology=topology(
        "probed-step",
        step("a.book", START_EVENT, "booked.v1", external=True, refuses=True),
        step("b.confirm", "booked.v1", refuses=True),
    ),
    call_attempts=2,
    probed=frozenset({"a.book"}),
)

PROBED_PIVOT = Scenario(
    name="outside pivot with a probe",
    topology=topology(
        "probed-pivot",
        step("a.reserve", START_EVENT, "reserved.v1"),
        step("b.capture", "reserved.v1", "captured.v1", kind=PIVOT, external=True, refuses=True),
        step("c.ship", "captured.v1", kind=RETRIABLE),
    ),
    call_attempts=2,
    probed=frozenset({"b.capture"}),
)

FAN_OUT = Scenario(
    name="fan-out over two or nothing and its gather",
    topology=topology(
        "fan-out",
        step("a.split", START_EVENT, "part.v1", fan_out="part.v1"),
        step("b.each", "part.v1", "made.v1", refuses=True),
        step("c.gather", "", joins=(every("made.v1"),), refuses=True),
    ),
    counts=(0, 2),
)

FAN_OUT_THAT_NOBODY_GATHERS = Scenario(
    name="fan-out over two that nobody gathers",
    topology=topology(
        "fan-ends",
        step("a.split", START_EVENT, "part.v1", fan_out="part.v1"),
        step("b.each", "part.v1", refuses=True),
    ),
)

FAN_OUT_BEFORE_THE_PIVOT = Scenario(
    name="fan-out over two before the pivot",
    topology=topology(
        "fan-pivot",
        step("a.split", START_EVENT, "part.v1", fan_out="part.v1"),
        step("b.each", "part.v1", "made.v1"),
        step("c.capture", "", kind=PIVOT, joins=(every("made.v1"),), refuses=True),
    ),
    fails=frozenset({"b.each"}),
)

JOIN = Scenario(
    name="join of two parallel ways",
    topology=topology(
        "join",
        step("a.left", START_EVENT, "left.v1"),
        step("b.right", START_EVENT, "right.v1", refuses=True),
        step("c.both", "", joins=(PlanInput(event="left.v1"), PlanInput(event="right.v1")), refuses=True),
    ),
)

JOINING_PIVOT = Scenario(
    name="outside pivot that joins",
    topology=topology(
        "joining-pivot",
        step("a.left", START_EVENT, "left.v1"),
        step("b.right", START_EVENT, "right.v1"),
        step(
            "a.capture",
            "",
            joins=(PlanInput(event="left.v1"), PlanInput(event="right.v1")),
            kind=PIVOT,
            external=True,
            refuses=True,
        ),
    ),
)

PARENT = Scenario(
    name="child saga beside a step that refuses",
    topology=topology(
        "parent",
        step("a.child", START_EVENT, "grown.v1", child="child.v1", undoing=Undoing.CHILD),
        step("b.beside", START_EVENT, refuses=True),
        step("c.after", "grown.v1", refuses=True),
    ),
)

CHILD = Scenario(
    name="a child saga itself",
    topology=topology(
        "child",
        step("a.one", START_EVENT, "one.v1"),
        step("b.two", "one.v1", refuses=True),
    ),
    parent=(RunKey(step="parent.step"),),
)

LATE_CHILD = Scenario(
    name="a child saga that may be late",
    topology=topology("late-child", step("a.one", START_EVENT, "one.v1"), step("b.two", "one.v1")),
    parent=(RunKey(step="parent.step"),),
    late=True,
)

SCENARIOS = (
    LATE_CHILD,
    FAN_OUT,
    FAN_OUT_THAT_NOBODY_GATHERS,
    FAN_OUT_BEFORE_THE_PIVOT,
    JOIN,
    JOINING_PIVOT,
    PARENT,
    CHILD,
    SEQUENCE,
    PARALLEL,
    PIVOT_IN_THE_MIDDLE,
    PIVOT_BEHIND_A_REFUSAL,
    PIVOT_IN_DOUBT,
    EXTERNAL_STEP,
    ALTERNATIVES,
    TWO_SERVICES,
    STUCK,
    CERTAIN,
    AROUND_THE_PIVOT,
    MIXED,
    NOTHING,
    PIVOT_AMONG_ITS_OWN,
    STUCK_OUTSIDE,
    PROBED_STEP,
    PROBED_PIVOT,
)

EVERY_BUILD = (
    Bounds(duplicates=1, cancels=1),
    Bounds(deadlines=1),
    Bounds(cancels=1, takeovers=1),
    Bounds(cancels=1, settles=1),
)

FULL = (
    Bounds(deadlines=1, cancels=1),
    Bounds(duplicates=1, deadlines=1),
    Bounds(duplicates=1, takeovers=1),
    Bounds(deadlines=1, takeovers=1),
    Bounds(duplicates=2, cancels=1),
    Bounds(duplicates=1, deadlines=1, cancels=1),
)
