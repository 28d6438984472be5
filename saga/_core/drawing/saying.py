"""Put what services and the coordinator told each other in one saga in an order, and what is alike in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from saga._core.drawing.lanes import BRANCHES, NAMES, tally_of
from saga._core.drawing.measuring import TIMES, counted
from saga._core.drawing.story import State, Story, Told
from saga._core.ids import run_path
from saga._core.instance import ENDED, Answer
from saga._core.words import RunKey

COORDINATOR = "saga-coordinator"
ACTORS = 24
"""The most services of a sequence."""
LINES = 120
"""The most lines of a sequence; what is beyond is counted in words."""


class Sort(StrEnum):
    """Say what a line is: an arrow of some kind, one to many services, or what happened at one."""

    EVENT = "event"
    COMMAND = "command"
    REPLY = "reply"
    REFUSAL = "refusal"
    UNDO = "undo"
    ALL = "all"
    RUN = "run"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Be one line: who told whom what, or what happened at `tail` when there are no `heads`."""

    sort: Sort
    tail: str
    heads: tuple[str, ...] = ()
    text: str
    title: str = ""
    run: str = ""
    state: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Be everything said, who takes part, and a sentence on what is left out."""

    actors: tuple[str, ...]
    said: tuple[Said, ...]
    left_out: str


def scene_of(story: Story) -> Scene:
    """Return what was said in one saga: the runs in the order they ended, then how it was closed and undone."""
    lines = [*_forward(story), *_closing(story), *_undoing(story), *_end(story)]
    left_out = ""
    if len(lines) > LINES:
        # The end says most: what is in the middle goes.
        dropped = lines[LINES - 40 : -40]
        lines = [*lines[: LINES - 40], *lines[-40:]]
        left_out = f"{counted(len(dropped), 'line')} in the middle not drawn"
    met = [actor for line in lines for actor in (line.tail, *line.heads)]
    first = [story.starter] if story.starter else []
    services = [actor for actor in dict.fromkeys([*first, *met]) if actor != COORDINATOR]
    actors = (*services[:ACTORS], COORDINATOR) if COORDINATOR in met else tuple(services[:ACTORS])
    if services[ACTORS:]:
        lines = [_among(line, actors) for line in lines if _is_among(line, actors)]
        left_out = "; ".join(filter(None, (left_out, f"{counted(len(services) - ACTORS, 'more service')} not drawn")))
    return Scene(actors=actors or (COORDINATOR,), said=tuple(lines), left_out=left_out)


def _is_among(line: Said, actors: Sequence[str]) -> bool:
    return line.tail in actors and (not line.heads or any(head in actors for head in line.heads))


def _among(line: Said, actors: Sequence[str]) -> Said:
    return replace(line, heads=tuple(head for head in line.heads if head in actors))


def _forward(story: Story) -> Iterator[Said]:
    runs = [run for run in story.runs if run.state is not State.OPEN]
    crowded = {step for step, each in _by_step(runs).items() if len(each) > BRANCHES}
    done: set[str] = set()
    for run in runs:
        step = run.key.step
        if step in done:
            continue
        if step in crowded:
            done.add(step)
            yield from _folded(story, [other for other in runs if other.key.step == step])
        else:
            yield from _run(story, run)


def _by_step(runs: Sequence[Told]) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    for run in runs:
        found.setdefault(run.key.step, []).append(run)
    return found


def _run(story: Story, run: Told) -> Iterator[Said]:
    service = run.key.service
    for cause in run.causes:
        yield _event(story, cause, run.key, 1)
    text = run.key.step.partition(".")[2] + (f"/{run.key.branch}" if run.key.branch else "")
    text += f" {TIMES}{run.attempts}" if run.attempts > 1 else ""
    text += f": {NAMES[run.state]}" if run.state is State.DOUBT else ""
    path = run_path(*run.key)
    state = State.DONE if run.state in _UNDONE else run.state
    yield Said(sort=Sort.RUN, tail=service, text=text, title=f"{path}: {NAMES[run.state]}", run=path, state=state)
    if run.state in (State.REFUSED, State.FAILED):
        why = f"refused {run.refusal}".rstrip() if run.state is State.REFUSED else "failed"
        title = run.error or why
        yield Said(sort=Sort.REFUSAL, tail=service, heads=(COORDINATOR,), text=why, title=title, run=path)


_UNDONE = (State.UNDOING, State.UNDONE, State.UNDO_FAILED)


def _folded(story: Story, runs: Sequence[Told]) -> Iterator[Said]:
    """Yield a step with many branches as one: what came, and what became of it."""
    step, service = runs[0].key.step, runs[0].key.service
    causes = {cause.step for run in runs for cause in run.causes}
    for cause in sorted(causes):
        yield _event(story, RunKey(cause), runs[0].key, len(runs))
    told = tally_of(runs)
    function = step.partition(".")[2]
    states = {run.state for run in runs}
    state = next(iter(states)) if len(states) == 1 else State.DONE
    shown = State.DONE if state in _UNDONE else state
    yield Said(sort=Sort.RUN, tail=service, text=f"{function} {TIMES}{len(runs)}", title=f"{step}: {told}", state=shown)
    bad = [run for run in runs if run.state in (State.REFUSED, State.FAILED)]
    if bad:
        yield Said(sort=Sort.REFUSAL, tail=service, heads=(COORDINATOR,), text=tally_of(bad), title=f"{step}: {told}")


def _event(story: Story, cause: RunKey, key: RunKey, count: int) -> Said:
    emitted = next((run.emits for run in story.runs if run.key.step == cause.step and run.emits), ())
    step = next((step for step in story.plan.steps if step.name == key.step), None) if story.plan is not None else None
    taken = [i.event for i in step.inputs] if step is not None else []
    event = next((event for event in emitted if event in taken), "") or ", ".join(emitted) or "an event"
    text = f"{event} {TIMES}{count}" if count > 1 else event
    return Said(sort=Sort.EVENT, tail=cause.service, heads=(key.service,), text=text)


def _closing(story: Story) -> Iterator[Said]:
    if not story.answers:
        return
    asked = tuple(sorted(story.answers))
    yield Said(sort=Sort.ALL, tail=COORDINATOR, heads=asked, text="close", title=f"close: {', '.join(asked)}")
    for answer in (Answer.CLOSED, Answer.COMMITTED):
        said = [service for service in asked if story.answers[service] is answer]
        for service in said[:BRANCHES]:
            yield Said(sort=Sort.REPLY, tail=service, heads=(COORDINATOR,), text=answer.value)
        if len(said) > BRANCHES:
            text = f"{counted(len(said) - BRANCHES, 'more')} {answer.value}".replace("mores", "more")
            yield Said(sort=Sort.NOTE, tail=COORDINATOR, text=text, title=", ".join(said))


def _undoing(story: Story) -> Iterator[Said]:
    undos = [run for run in story.runs if run.back is not None]
    in_order = sorted(undos, key=lambda run: (run.back.end if run.back else story.now, run.key.step, run.key))
    for step, grouped in groupby(in_order, key=lambda run: run.key.step):
        runs = list(grouped)
        service = runs[0].key.service
        if len(runs) <= BRANCHES:
            for run in runs:
                path = run_path(*run.key)
                tail = path.partition(".")[2]
                yield Said(sort=Sort.UNDO, tail=COORDINATOR, heads=(service,), text=f"undo {tail}", run=path)
                yield Said(sort=Sort.RUN, tail=service, text=f"{tail}: {NAMES[run.state]}", run=path, state=run.state)
        else:
            tail = f"{step.partition('.')[2]} {TIMES}{len(runs)}"
            yield Said(sort=Sort.UNDO, tail=COORDINATOR, heads=(service,), text=f"undo {tail}")
            yield Said(sort=Sort.RUN, tail=service, text=tally_of(runs), state=runs[0].state)


def _end(story: Story) -> Iterator[Said]:
    if story.stuck:
        yield Said(sort=Sort.NOTE, tail=COORDINATOR, text="stuck", title=story.stuck)
    if story.held:
        yield Said(sort=Sort.NOTE, tail=COORDINATOR, text="held by a person")
    if story.phase in {phase.value for phase in ENDED} and story.starter:
        why = story.refusal or story.cause
        text = f"{story.phase}: {why}" if why else story.phase
        title = f"{text}\n{story.detail}" if story.detail else text
        yield Said(sort=Sort.COMMAND, tail=COORDINATOR, heads=(story.starter,), text=text, title=title)
