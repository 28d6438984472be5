"""Grow random plans out of a few patterns: ways, forks, alternatives, fan-outs, joins, waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from saga._core.plan import PlanInput, PlanStep, Undoing, run_scope
from saga._core.plan_graph import Draft
from saga._core.words import Effects, StepKind, Takes

STARTER = "shop"
START = f"{STARTER}.start"
START_EVENT = "started.v1"
CHILD = "k"
SIZES = (1, 2, 2, 3, 3, 3, 4, 4, 5, 6)


class Grower:
    """Grow one plan; `open_events` may be reacted to by whatever grows next."""

    def __init__(self, random: Random, letter: str = "s") -> None:
        """Begin with the start; the names of the steps begin with `letter`, `k` for those of a child."""
        self._random = random
        self._letter = letter
        self._services = ["a", "b", "c", "d"][: random.randint(1, 4)]
        if random.random() < 0.25:
            self._services.append(STARTER)
        self._external = random.choice((0.0, 0.3, 0.6))
        self._timed = random.random() < 0.25
        self._open = [START_EVENT]
        self._steps: list[PlanStep] = []

    def grown(self) -> tuple[PlanStep, ...]:
        """Return the steps; they may be no plan after all."""
        random = self._random
        shaped = random.random() < 0.45
        patterns: list[Callable[[], None]] = [self._fan, self._meet, self._wait]
        size = random.choice(SIZES)
        while len(self._steps) < size:
            if shaped and random.random() < 0.45:
                random.choice(patterns)()
            else:
                self._way()
        if self._letter != CHILD and random.random() < 0.6:
            return self._with_pivot()
        return tuple(self._steps)

    # --- patterns ----------------------------------------------------------------------------------------------

    def _event(self) -> str:
        return self._random.choice(self._open[-3:])

    def _new(self, number: int = 0) -> str:
        return f"e{len(self._steps)}{'abcd'[number]}.v1"

    def _add(self, emits: tuple[str, ...], *, ends: bool = False, **shape: object) -> PlanStep:
        random = self._random
        step = PlanStep(
            name=f"{random.choice(self._services)}.{self._letter}{len(self._steps)}",
            kind=StepKind.STEP,
            effects=Effects.EXTERNAL if random.random() < self._external else Effects.LOCAL,
            reacts_to="",
            emits=tuple(sorted(set(emits))),
            ends=ends or not emits,
            refuses=("no.v1",) if random.random() < 0.35 else (),
            undoing=self._undoing(),
            timeout_ms=1_000,
            delay_ms=10_000 if self._timed and random.random() < 0.4 else 0,
            within_ms=20_000 if self._timed and random.random() < 0.4 else 0,
        )
        step = replace(step, **shape)  # type: ignore[arg-type]
        self._steps.append(step)
        return step

    def _undoing(self) -> Undoing:
        random = self._random
        if random.random() < 0.12:
            return Undoing.NOTHING
        return Undoing.EXTERNAL if random.random() < self._external else Undoing.LOCAL

    def _way(self) -> None:
        """Add one step with up to two alternatives; one may be an event that another step emits too."""
        random = self._random
        reacts_to = self._event()
        emits = [self._new(number) for number in range(random.choice((0, 1, 1, 1, 2)))]
        others = [event for event in self._open[1:] if event != reacts_to]
        if emits and others and random.random() < 0.2:
            emits[0] = random.choice(others)
        self._open += [event for event in emits if event not in self._open]
        self._add(tuple(emits), ends=random.random() < 0.15, reacts_to=reacts_to)

    def _fan(self) -> None:
        """Add a fan-out, a step or two in its branches, and mostly what gathers them."""
        random = self._random
        element, other = self._new(), self._new(1)
        alternatives = (element, other) if random.random() < 0.2 else (element,)
        self._add(alternatives, reacts_to=self._event(), fan_out=element)
        last = element
        for _ in range(random.choice((1, 1, 2))):
            result = self._new()
            self._add((result,), reacts_to=last)
            last = result
        if random.random() < 0.8:
            gathered = self._new()
            self._add((gathered,), joins=(PlanInput(event=last, takes=Takes.EVERY),))
            self._open.append(gathered)
        if len(alternatives) > 1:
            self._open.append(other)

    def _meet(self) -> None:
        """Add two ways that part and meet again."""
        event = self._event()
        one, other = self._new(), self._new(1)
        self._add((one,), reacts_to=event)
        self._add((other,), reacts_to=event)
        self._join(one, other)

    def _wait(self) -> None:
        """Add an event from outside and what waits for it."""
        random = self._random
        received = self._new(2)
        service = random.choice(self._services)
        name = f"{service}.receive_{received.partition('.')[0]}"
        step = PlanStep(
            name=name,
            kind=StepKind.RECEIVE,
            effects=Effects.LOCAL,
            reacts_to="",
            emits=(received,),
            ends=False,
            refuses=(),
            undoing=Undoing.NOTHING,
            timeout_ms=1,
        )
        event = self._event()
        self._steps.append(step)
        self._join(event, received)

    def _join(self, *events: str) -> None:
        met = self._new(3)
        self._add((met,), joins=tuple(PlanInput(event=event) for event in sorted(events)))
        self._open.append(met)

    # --- the pivot ---------------------------------------------------------------------------------------------

    def _with_pivot(self) -> tuple[PlanStep, ...]:
        """Return the steps with one of them as the pivot, the rest promising what that asks of them."""
        random = self._random
        draft = Draft(saga="random", version=1, starts={START: START_EVENT}, steps=tuple(self._steps))
        outside = [
            step
            for step in self._steps
            if step.kind is StepKind.STEP and not run_scope(step, lambda event: draft.scopes.get(event, ""))
        ]
        if draft.cycle() or not outside:
            return tuple(self._steps)
        pivot = random.choice(outside).name
        possible = {START}
        for name in draft.order:
            taken = draft.by_name[name].inputs
            if name != pivot and all(possible.intersection(draft.emitters.get(each.event, ())) for each in taken):
                possible.add(name)
        effects = Effects.EXTERNAL if random.random() < 0.6 else Effects.LOCAL
        found: list[PlanStep] = []
        for step in self._steps:
            if step.kind is StepKind.RECEIVE or pivot in draft.reached(draft.children(step.name)):
                found.append(step)
            elif step.name == pivot:
                found.append(replace(step, kind=StepKind.PIVOT, effects=effects, undoing=Undoing.NEVER))
            else:
                never = step.name not in possible and random.random() < 0.7
                undoing = Undoing.NEVER if never else step.undoing
                found.append(replace(step, kind=StepKind.RETRIABLE, refuses=(), undoing=undoing))
        return tuple(found)
