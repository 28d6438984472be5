"""Choose what of a saga gets a lane of its own in its timeline, and what is drawn as one bar together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from saga._core.drawing.measuring import TIMES, counted
from saga._core.drawing.story import Span, State, Story, Told
from saga._core.ids import run_path

LANES = 60
"""The most lanes of a timeline; what is beyond is counted in words."""
BRANCHES = 8
"""A step with more branches has them drawn as one bar, and at most so many of those that stand out on their own."""
NAMES = {
    State.DONE: "done",
    State.REFUSED: "refused",
    State.FAILED: "failed",
    State.INTENT: "calling",
    State.DOUBT: "in doubt",
    State.WAITING: "waiting",
    State.OPEN: "open",
    State.UNDOING: "being undone",
    State.UNDONE: "undone",
    State.UNDO_FAILED: "undo failed",
    State.UNTOUCHED: "not reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Be one line of a timeline: a run, or the branches of a step that are drawn together."""

    label: str
    service: str
    runs: tuple[Told, ...]
    inner: bool = False

    @property
    def alone(self) -> Told | None:
        """Return the one run of the lane, None where there are several."""
        return next(iter(self.runs)) if len(self.runs) == 1 else None

    @property
    def state(self) -> State:
        """Return how the lane is drawn: as its runs, and as what most of them are where they differ."""
        return Counter(run.state for run in self.runs).most_common(1)[0][0]

    @property
    def forward(self) -> Span:
        """Return from the first begin to the last end."""
        spans = [run.forward for run in self.runs]
        return Span(begin=min(span.begin for span in spans), end=max(span.end for span in spans))

    @property
    def back(self) -> Span | None:
        """Return the time of the undos, None where there are none."""
        backs = [run.back for run in self.runs if run.back is not None]
        if not backs:
            return None
        return Span(
            begin=min(back.begin for back in backs),
            end=max(back.end for back in backs),
            known=all(back.known for back in backs),
        )

    @property
    def moments(self) -> tuple[datetime, ...]:
        """Return the times that the axis has to show."""
        called = [run.called for run in self.runs if run.called is not None] if len(self.runs) == 1 else []
        spans = [self.forward] + ([self.back] if self.back is not None else [])
        return (*called, *(at for span in spans for at in (span.begin, span.end)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Be the lanes of a timeline and a sentence on what has none, "" when everything has."""

    lanes: tuple[Lane, ...]
    left_out: str


def lanes_of(story: Story) -> Lanes:
    """Return the lanes of a saga: steps in the order they began, branches below their step."""
    steps: dict[str, list[Told]] = {}
    for run in sorted(story.runs, key=lambda run: (run.forward.begin, run.forward.end, _place(run))):
        steps.setdefault(run.key.step, []).append(run)
    found: list[Lane] = []
    for step, runs in steps.items():
        found += _of_step(step, sorted(runs, key=_place))
    if len(found) <= LANES:
        return Lanes(lanes=tuple(found), left_out="")
    rest = found[LANES:]
    count = sum(len(lane.runs) for lane in rest)
    steps_left = len({run.key.step for lane in rest for run in lane.runs})
    said = f"{counted(count, 'more run')} of {counted(steps_left, 'step')} not drawn: {tally(rest)}"
    return Lanes(lanes=tuple(found[:LANES]), left_out=said)


def _of_step(step: str, runs: Sequence[Told]) -> list[Lane]:
    service = step.partition(".")[0]
    if len(runs) == 1:
        run = runs[0]
        return [Lane(label=run_path(*run.key), service=service, runs=(run,))]
    if len(runs) <= BRANCHES:
        head = [run for run in runs if not run.key.branch]
        rest = [run for run in runs if run.key.branch]
        lanes = [Lane(label=step, service=service, runs=(run,)) for run in head]
        return lanes + [Lane(label=run_path(*run.key), service=service, runs=(run,)) for run in rest]
    usual = Counter(run.state for run in runs).most_common(1)[0][0]
    special = [run for run in runs if run.state is not usual or run.attempts > 1]
    shown = sorted(sorted(special, key=_urgency)[:BRANCHES], key=_place)
    said = f"{step} {TIMES}{len(runs)}"
    alone = [Lane(label=run.key.branch or step, service=service, runs=(run,), inner=True) for run in shown]
    return [Lane(label=said, service=service, runs=tuple(runs)), *alone]


_URGENCY = (
    *(State.UNDO_FAILED, State.DOUBT, State.FAILED, State.REFUSED),
    *(State.UNDOING, State.INTENT, State.OPEN, State.WAITING),
)


def _urgency(run: Told) -> tuple[int, int, tuple[str, int, str]]:
    place = _URGENCY.index(run.state) if run.state in _URGENCY else len(_URGENCY)
    return (place, -run.attempts, _place(run))


def _place(run: Told) -> tuple[str, int, str]:
    """Order branches by their number: `2of12` before `10of12`."""
    number = run.key.branch.partition("of")[0]
    return (run.key.step, int(number) if number.isdecimal() and number.isascii() else 0, run.key.branch)


def tally(lanes: Sequence[Lane]) -> str:
    """Tell how many runs of lanes are what: `197 done, 2 not done yet`."""
    return tally_of([run for lane in lanes for run in lane.runs])


def tally_of(runs: Sequence[Told]) -> str:
    """Tell how many runs are what, the most first."""
    counts = Counter(run.state for run in runs)
    return ", ".join(f"{count} {NAMES[state]}" for state, count in counts.most_common())
