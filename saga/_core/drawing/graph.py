"""Lay out a plan as a graph, steps and the events between them, and over it the state of one saga."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from urllib.parse import quote

from saga._core.drawing.arrows import arrow_marks
from saga._core.drawing.layers import Arrow, Layout, Spot, layout
from saga._core.drawing.marks import Group, Mark, Picture, Point, Words
from saga._core.drawing.measuring import counted
from saga._core.drawing.nodes import (
    EVENT_HEIGHT,
    STOP_HEIGHT,
    STOP_WIDTH,
    NodeLook,
    each_of,
    event_marks,
    event_width,
    node_marks,
    node_of,
    start_of,
    stop_marks,
)
from saga._core.drawing.story import State, Story, Told
from saga._core.drawing.style import hue
from saga._core.plan import Plan, PlanStep
from saga._core.words import RunStatus, Takes

STEPS = 120
"""The most steps of a graph; what is beyond is counted in words."""
MARGIN = 24.0
GAP = 30.0
ASIDE = 10.0
"""How far beside the way there the way back is drawn."""

_EVENT = "event "
_STOP = "stop "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Be what a graph consists of, by the names of its spots; `arrows` have the classes they are drawn with."""

    looks: Mapping[str, NodeLook]
    events: Mapping[str, str]
    stops: tuple[str, ...]
    arrows: Mapping[Arrow, str]
    left_out: int

    @property
    def spots(self) -> tuple[Spot, ...]:
        """Return all that needs a place."""
        nodes = [Spot(name=name, width=look.width + 14, height=look.height) for name, look in self.looks.items()]
        events = [
            Spot(name=_EVENT + event, width=event_width(event, each) + 8, height=EVENT_HEIGHT)
            for event, each in self.events.items()
        ]
        return (*nodes, *events, *(Spot(name=stop, width=STOP_WIDTH, height=STOP_HEIGHT) for stop in self.stops))


def graph(plan: Plan, story: Story | None = None, anchor: str = "") -> Picture:
    """Return the picture of a plan from the top down; `story` adds the state of one saga, and its way back."""
    runs: dict[str, list[Told]] = {}
    for run in story.runs if story is not None else ():
        runs.setdefault(run.key.step, []).append(run)
    parts = _parts(plan, runs if story is not None else None)
    found = layout(parts.spots, parts.arrows, GAP)
    height = found.height + 2 * MARGIN
    marks = [*_arrows(parts, found, runs if story is not None else None), *_ways_back(plan, parts, found, runs)]
    emitted = None if story is None else {event for run in story.runs for event in run.emits}
    marks += _nodes(plan, parts, found, anchor)
    marks += _events(parts, found, emitted)
    if parts.left_out:
        text = f"{counted(parts.left_out, 'more step')} not drawn"
        marks.append(Words(name="sg-small", x=MARGIN, y=height, text=text))
        height += 16
    state = f", {story.phase}" if story is not None else ""
    return Picture(
        name="sg-graph",
        title=f"{plan.saga} v{plan.version}: graph",
        about=f"{counted(len(plan.steps), 'step')} from {plan.start}{state}",
        width=max(found.width + 2 * MARGIN, 260.0),
        height=height,
        marks=tuple(marks),
    )


def _parts(plan: Plan, runs: Mapping[str, Sequence[Told]] | None) -> _Parts:
    steps = plan.steps[:STEPS]
    looks = {plan.start: start_of(plan.start, plan.starter, None if runs is None else runs.get(plan.start, ()))}
    looks |= {step.name: node_of(step, None if runs is None else runs.get(step.name, ())) for step in steps}
    events = {plan.start_event: ""}
    arrows: dict[Arrow, str] = {(plan.start, _EVENT + plan.start_event): "sg-edge"}
    stops: list[str] = []
    for step in steps:
        either = " sg-alt" if len(step.emits) + step.ends > 1 else ""
        for event in step.emits:
            each = each_of((runs or {}).get(step.name, ())) if event == step.fan_out else ""
            events[event] = events.get(event, "") or each
            arrows[step.name, _EVENT + event] = f"sg-edge{either}"
        if step.ends and step.emits:
            stops.append(_STOP + step.name)
            arrows[step.name, _STOP + step.name] = f"sg-edge{either}"
    for step in steps:
        for taken in step.inputs:
            events.setdefault(taken.event, "")
            every = " sg-every" if taken.takes is Takes.EVERY else ""
            arrows[_EVENT + taken.event, step.name] = f"sg-edge{every}"
    left_out = len(plan.steps) - len(steps)
    return _Parts(looks=looks, events=events, stops=tuple(stops), arrows=arrows, left_out=left_out)


def _arrows(parts: _Parts, found: Layout, runs: Mapping[str, Sequence[Told]] | None) -> Iterator[Mark]:
    emitted = {(name, event) for name, each in (runs or {}).items() for run in each for event in run.emits}
    events = {event for _, event in emitted}
    for (tail, head), name in parts.arrows.items():
        passed = runs is None
        if not passed and head.startswith(_EVENT):
            passed = (tail, head.removeprefix(_EVENT)) in emitted
        elif not passed and tail.startswith(_EVENT):
            passed = tail.removeprefix(_EVENT) in events and head in (runs or {})
        elif not passed:
            passed = any(map(_emitted_nothing, (runs or {}).get(tail, ())))
        points = _moved(found.routes[tail, head])
        marks = tuple(arrow_marks(points, name))
        yield Group(marks=marks, name="" if passed else "sg-dim")


def _emitted_nothing(run: Told) -> bool:
    return run.status is RunStatus.DONE and not run.emits


_BACK = (State.UNDOING, State.UNDONE, State.UNDO_FAILED)


def _ways_back(plan: Plan, parts: _Parts, found: Layout, runs: Mapping[str, Sequence[Told]]) -> Iterator[Mark]:
    """Yield the way back of every step that is or was undone: against the arrows that led to it."""
    by_name = {step.name: step for step in plan.steps}
    drawn: set[Arrow] = set()
    for name, each in runs.items():
        undone = [run for run in each if run.state in _BACK]
        if name not in by_name or name not in parts.looks or not undone:
            continue
        causes = {cause.step for run in undone for cause in run.causes}
        for taken in by_name[name].inputs:
            event = _EVENT + taken.event
            senders = [cause for cause in sorted(causes) if (cause, event) in parts.arrows]
            for arrow in ((event, name), *((cause, event) for cause in senders)):
                if senders and arrow in found.routes and arrow not in drawn:
                    drawn.add(arrow)
                    yield _back(found.routes[arrow])


def _back(route: Sequence[Point]) -> Group:
    """Return a way beside a route, in the other direction."""
    points = [(x + ASIDE, y) for x, y in reversed(_moved(route))]
    return Group(marks=tuple(arrow_marks(points, "sg-edge sg-back")))


def _nodes(plan: Plan, parts: _Parts, found: Layout, anchor: str) -> Iterator[Mark]:
    services = tuple(dict.fromkeys(look.service for look in parts.looks.values()))
    steps: dict[str, PlanStep] = {step.name: step for step in plan.steps}
    for name, look in parts.looks.items():
        (place,) = _moved((found.places[name],))
        dim = "sg-dim" if look.runs is not None and not look.runs else ""
        yield Group(
            marks=tuple(node_marks(look, place, hue(services, look.service))),
            name=dim,
            title="\n".join((name, *look.lines[1:], *_errors(look), *_timing(steps.get(name)))),
            data=(("step", name),),
            href=anchor + quote(name, safe="") if anchor else "",
        )


def _events(parts: _Parts, found: Layout, emitted: AbstractSet[str] | None) -> Iterator[Mark]:
    for event, each in parts.events.items():
        (place,) = _moved((found.places[_EVENT + event],))
        dim = "" if emitted is None or event in emitted else "sg-dim"
        yield Group(marks=tuple(event_marks(event, each, place)), name=dim, title=event, data=(("event", event),))
    for stop in parts.stops:
        (place,) = _moved((found.places[stop],))
        step = stop.removeprefix(_STOP)
        runs = parts.looks[step].runs
        dim = "sg-dim" if runs is not None and not any(_emitted_nothing(run) for run in runs) else ""
        yield Group(marks=tuple(stop_marks(place)), name=dim, title=f"{step} may emit nothing")


def _errors(look: NodeLook) -> list[str]:
    return list(dict.fromkeys(run.error for run in look.runs or () if run.error))[:3]


def _timing(step: PlanStep | None) -> list[str]:
    return [f"an attempt within {step.timeout_ms} ms"] if step is not None and step.inputs else []


def _moved(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple((x + MARGIN, y + MARGIN) for x, y in points)
