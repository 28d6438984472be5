"""Draw what stands in a graph: steps with their promises and their state, events, and ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saga._core.drawing.lanes import tally_of
from saga._core.drawing.marks import Align, Box, Dot, Mark, Point, Way, Words
from saga._core.drawing.measuring import SMALL, TIMES, counted, fitted, span, width_of
from saga._core.drawing.story import State, Told
from saga._core.mermaid import notes
from saga._core.plan import PlanStep, Undoing
from saga._core.words import Effects, StepKind

WIDEST = 300.0
LINE = 15.0
PAD = 12.0
EVENT_HEIGHT = 22.0
STOP_WIDTH = 52.0
STOP_HEIGHT = 26.0
UNDO_MARK = "↺"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLook:
    """Be a step as it is drawn; `runs` are those of the saga whose state is shown, None where only the plan is."""

    service: str
    function: str
    notes: tuple[str, ...]
    classes: str
    undoable: bool
    child: bool
    runs: tuple[Told, ...] | None

    @property
    def lines(self) -> tuple[str, ...]:
        """Return what stands below the name."""
        return (self.service, *self.notes, *([self.said] if self.said else []))

    @property
    def said(self) -> str:
        """Return the state in words, "" where only the plan is drawn."""
        if self.runs is None:
            return ""
        if len(self.runs) > 1:
            return tally_of(self.runs)
        return "; ".join(_run_words(run) for run in self.runs) or "not reached"

    @property
    def width(self) -> float:
        """Return how wide it is drawn."""
        texts = [width_of(self.function) + (18 if self.undoable else 0)]
        texts += [width_of(line, SMALL) for line in self.lines]
        return min(max(texts), WIDEST) + 2 * PAD + (10 if self.child else 0)

    @property
    def height(self) -> float:
        """Return how high it is drawn."""
        return 24 + LINE * len(self.lines) + (8 if self.runs else 2)


def _run_words(run: Told) -> str:
    words = tally_of((run,)).removeprefix("1 ")
    if run.refusal:
        return f"{words} {run.refusal}"
    if run.status is not None and run.causes and run.state is State.DONE:
        words += f", {span((run.forward.end - run.forward.begin).total_seconds())}"
    return words + (f", {run.attempts} attempts" if run.attempts > 1 else "")


def node_of(step: PlanStep, runs: Sequence[Told] | None) -> NodeLook:
    """Return how a step looks; its notes are those of every drawing of plans."""
    service, _, function = step.name.partition(".")
    pivot = " sg-pivot" if step.kind is StepKind.PIVOT else ""
    outside = " sg-outside" if step.effects is Effects.EXTERNAL or step.kind is StepKind.RECEIVE else ""
    said = [note for note in notes(step) if not note.startswith("undo: compensation")]
    if step.kind is StepKind.RECEIVE:
        said = ["from outside of the saga"]
    if step.delay_ms:
        said.append(f"{span(step.delay_ms / 1000)} after its event")
    if step.within_ms:
        said.append(f"within {span(step.within_ms / 1000)}")
    return NodeLook(
        service=service,
        function=function or step.name,
        notes=tuple(said),
        classes=f"sg-node{pivot}{outside}",
        undoable=step.undoing in (Undoing.LOCAL, Undoing.EXTERNAL, Undoing.CHILD),
        child=bool(step.child),
        runs=None if runs is None else tuple(runs),
    )


def start_of(name: str, event_starter: str, runs: Sequence[Told] | None) -> NodeLook:
    """Return how a saga's start looks."""
    return NodeLook(
        service=event_starter,
        function=name.partition(".")[2] or name,
        notes=("starts the saga",),
        classes="sg-node",
        undoable=False,
        child=False,
        runs=None if runs is None else tuple(runs),
    )


def node_marks(look: NodeLook, place: Point, hue: str) -> Iterator[Mark]:
    """Yield a step around its place."""
    width, height = look.width, look.height
    x, y = place[0] - width / 2, place[1] - height / 2
    round_ = 11.0 if look.notes == ("starts the saga",) else 4.0
    yield Box(name=look.classes, x=x, y=y, width=width, height=height, rounded=round_)
    if look.child:
        for inner in (x + 6, x + width - 6):
            yield Way(name="sg-inner", points=((inner, y), (inner, y + height)))
    yield Box(name=hue, x=x + PAD - 6 + (5 if look.child else 0), y=y + 8, width=3, height=LINE * 2 - 6)
    left, room = x + PAD + (5 if look.child else 0), width - 2 * PAD - (10 if look.child else 0)
    yield Words(name="sg-name sg-strong", x=left + 3, y=y + 19, text=fitted(look.function, room))
    if look.undoable:
        yield Words(name="sg-soft", x=x + width - PAD, y=y + 19, text=UNDO_MARK, align=Align.END)
    alarming = {State.REFUSED, State.FAILED, State.UNDO_FAILED, State.DOUBT} & {run.state for run in look.runs or ()}
    for number, line in enumerate(look.lines):
        alarm = alarming and line == look.said
        text = fitted(line, room, SMALL)
        yield Words(name="sg-alarm" if alarm else "sg-small", x=left + 3, y=y + 34 + LINE * number, text=text)
    if look.runs:
        yield from _parts(look.runs, x + 1, y + height - 7, width - 2)


def _parts(runs: Sequence[Told], x: float, y: float, width: float) -> Iterator[Mark]:
    """Yield the strip at the foot of a step: how much of it is in which state."""
    counts = Counter(run.state for run in runs)
    for state in State:
        if counts[state]:
            part = width * counts[state] / len(runs)
            yield Box(name=f"sg-part {state.value}", x=x, y=y, width=part, height=6)
            x += part


def event_width(event: str, each: str) -> float:
    """Return how wide an event is drawn; `each` is what is said of a fan-out."""
    return min(width_of(event, SMALL) + (width_of(each, SMALL) + 8 if each else 0), WIDEST) + 18


def event_marks(event: str, each: str, place: Point) -> Iterator[Mark]:
    """Yield an event around its place; that of a fan-out is a pile."""
    width = event_width(event, each)
    x, y = place[0] - width / 2, place[1] - EVENT_HEIGHT / 2
    if each:
        yield Box(name="sg-stack", x=x + 4, y=y - 4, width=width, height=EVENT_HEIGHT, rounded=11)
    yield Box(name="sg-event", x=x, y=y, width=width, height=EVENT_HEIGHT, rounded=11)
    text = fitted(f"{event} {each}".rstrip(), width - 14, SMALL)
    yield Words(name="sg-small", x=place[0], y=place[1] + 3.5, text=text, align=Align.MIDDLE)


def stop_marks(place: Point) -> Iterator[Mark]:
    """Yield the end of a way on which nothing is emitted."""
    x, y = place
    yield Dot(name="sg-stop", x=x, y=y - STOP_HEIGHT / 2 + 6, radius=5)
    yield Words(name="sg-small", x=x, y=y + STOP_HEIGHT / 2 - 2, text="nothing", align=Align.MIDDLE)


def each_of(runs: Sequence[Told]) -> str:
    """Return what is said of a fan-out: into how many branches, once that is known."""
    counts = [run.fan_out for run in runs if run.fan_out is not None]
    return f"{TIMES}{counted(counts[0], 'branch', 'branches')}" if counts else "one each"
