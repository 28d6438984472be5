"""Lay out one saga against time: a lane for each run, its way there and its way back, and nothing of the idle time."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from saga._core.drawing.axis import Axis, axis
from saga._core.drawing.lanes import NAMES, Lane, lanes_of, tally_of
from saga._core.drawing.marks import Align, Box, Group, Joined, Mark, Picture, Way, Words
from saga._core.drawing.measuring import SMALL, counted, fitted, span, width_of
from saga._core.drawing.story import Span, State, Story
from saga._core.drawing.style import hue
from saga._core.ids import run_path

WIDTH = 960.0
HEAD = 40.0
LANE = 24.0
BAR = 12.0
LEAST = 4.0
"""The least width of a bar: what took no time is seen all the same."""
LABELS = 270.0
RIGHT = (70.0, 240.0)
"""The least and the most room for the words behind a bar that ends last."""
FOOT = 30.0
CROSS = 18.0
TICKS = 12
"""The most retries that are drawn one by one."""

Crossed = tuple[tuple[float, float], ...]
"""From where to where something goes through all lanes."""


def timeline(story: Story, anchor: str = "") -> Picture:
    """Return the picture of one saga over time; `anchor` is what links of runs begin with, "" for none."""
    chosen = lanes_of(story)
    lanes = chosen.lanes
    services = tuple(dict.fromkeys(lane.service for lane in lanes))
    left = min(max((width_of(lane.label) + (14 if lane.inner else 0) for lane in lanes), default=80.0) + 26, LABELS)
    ends = (story.began, story.until)
    right = _room(lanes, story)
    scale = axis([*ends, *(at for lane in lanes for at in lane.moments)], left, WIDTH - left - right)
    bottom = HEAD + LANE * len(lanes)
    marks: list[Mark] = list(_frame(scale, len(lanes), bottom))
    for number, lane in enumerate(lanes):
        marks.append(_lane(lane, HEAD + LANE * number, scale, left, hue(services, lane.service), anchor))
    marks += _breaks(scale, bottom)
    marks += _ends(story, scale, bottom)
    now = scale.at(story.until)
    crossed = (*_gaps(scale), (now, now))
    for number, lane in enumerate(lanes):
        marks += _behind(lane, HEAD + LANE * number, scale, crossed)
    foot = bottom + 20
    if chosen.left_out:
        marks.append(Words(name="sg-small", x=10, y=foot, text=chosen.left_out))
        foot += 20
    marks += _legend(lanes, foot)
    return Picture(
        name="sg-timeline",
        title=f"{story.name}: timeline",
        about=_about(story),
        width=WIDTH,
        height=foot + FOOT - 18,
        marks=tuple(marks),
    )


def _about(story: Story) -> str:
    said = f"{story.name}, {story.saga_id}, {story.phase} after {span((story.until - story.began).total_seconds())}; "
    return said + (tally_of(story.runs) or "nothing has run")


def _frame(scale: Axis, lanes: int, bottom: float) -> Iterator[Mark]:
    for number in range(0, lanes, 2):
        yield Box(name="sg-row", x=0, y=HEAD + LANE * number, width=WIDTH, height=LANE)
    last = scale.x + scale.width - 46
    for tick in scale.ticks():
        yield Way(name="sg-grid", points=((tick.x, HEAD - 6), (tick.x, bottom)))
        text = span(tick.seconds) if tick.first else f"+{span(tick.seconds)}"
        if tick.x < last:
            yield Words(name="sg-small", x=tick.x, y=HEAD - 12, text=text if tick.seconds else "0", align=Align.MIDDLE)


def _breaks(scale: Axis, bottom: float) -> Iterator[Mark]:
    """Yield the breaks of the axis: a strip through all lanes, and how long nothing happened."""
    for stretch in scale.stretches:
        if not stretch.left_out:
            continue
        middle = stretch.x + stretch.width / 2
        yield Box(name="sg-gap", x=middle - 5, y=HEAD - 4, width=10, height=bottom - HEAD + 4)
        for x in (middle - 5, middle + 5):
            steps = int((bottom - HEAD + 4) // 6)
            points = tuple((x + (2 if n % 2 else -2), HEAD - 4 + 6 * n) for n in range(steps + 1))
            yield Way(name="sg-zigzag", points=points)
        text = span(stretch.seconds)
        yield Words(name="sg-small", x=middle, y=12, text=text, align=Align.MIDDLE)


def _ends(story: Story, scale: Axis, bottom: float) -> Iterator[Mark]:
    x = scale.at(story.until)
    name, text = ("sg-now", "now") if story.open else ("sg-end", story.phase)
    yield Way(name=name, points=((x, 18), (x, bottom)))
    yield Words(name="sg-small", x=x + 5, y=26, text=fitted(text, WIDTH - x - 8, SMALL))


def _lane(lane: Lane, y: float, scale: Axis, left: float, colour: str, anchor: str) -> Group:
    indent = 14.0 if lane.inner else 0.0
    shown = fitted(lane.label, left - 26 - indent)
    label = Words(name="sg-soft sg-name" if lane.inner else "sg-name", x=16 + indent, y=y + 16, text=shown)
    stripe = Box(name=colour, x=6, y=y + 4, width=4, height=LANE - 8, rounded=1)
    bars = tuple(_bars(lane, y + (LANE - BAR) / 2, scale))
    first = lane.runs[0]
    name = run_path(*first.key) if len(lane.runs) == 1 else first.key.step
    return Group(
        marks=(stripe, label, *bars),
        title=_title(lane),
        data=(("run" if len(lane.runs) == 1 else "step", name),),
        href=anchor + quote(name, safe="") if anchor else "",
    )


def _bars(lane: Lane, y: float, scale: Axis) -> Iterator[Mark]:
    """Yield the bars of a lane from left to right; none lies on another, however short it is."""
    forward, back = lane.forward, lane.back
    begin, end = scale.at(forward.begin), scale.at(forward.end)
    end = max(end, begin + LEAST)
    forward_state = State.DONE if back is not None and lane.state in _BACK else lane.state
    called = lane.alone.called if lane.alone is not None else None
    if called is not None and begin + LEAST < scale.at(called) < end - LEAST:
        yield Box(name="sg-bar sg-queue", x=begin, y=y, width=scale.at(called) - begin, height=BAR)
        begin = scale.at(called)
    folded = " sg-folded" if len(lane.runs) > 1 else ""
    yield Box(name=f"sg-bar {forward_state.value}{folded}", x=begin, y=y, width=end - begin, height=BAR, rounded=2)
    yield from _retries(lane, begin, end, y)
    if back is not None:
        start = max(scale.at(back.begin), end + 1)
        state = lane.state if lane.state in _BACK else State.UNDONE
        guess = "" if back.known else " sg-guess"
        width = max(scale.at(back.end) - start, LEAST)
        yield Box(name=f"sg-bar {state.value}{guess}", x=start, y=y, width=width, height=BAR, rounded=2)


_CROSSED = (State.REFUSED, State.FAILED, State.UNDO_FAILED)
_ALARM = (*_CROSSED, State.DOUBT)
_BACK = (State.UNDOING, State.UNDONE, State.UNDO_FAILED)


def _retries(lane: Lane, begin: float, end: float, y: float) -> Iterator[Mark]:
    """Yield a tick for each attempt behind the first; when each was made is not known, so they lie in even paces."""
    if lane.alone is None:
        return
    ticks = min(lane.alone.attempts - 1, TICKS, int((end - begin) // 4))
    for number in range(1, ticks + 1):
        x = begin + (end - begin) * number / (ticks + 1)
        yield Way(name="sg-tick", points=((x, y), (x, y + BAR)))


def _room(lanes: tuple[Lane, ...], story: Story) -> float:
    """Return the room that the words behind the last bars need."""
    words = [width_of(_few_words(lane), SMALL) + (CROSS if lane.state in _ALARM else 0) for lane in lanes]
    return min(max([RIGHT[0], width_of(story.phase, SMALL) + 10, *(width + 12 for width in words)]), RIGHT[1])


def _gaps(scale: Axis) -> Iterator[tuple[float, float]]:
    """Yield from where to where a break is drawn."""
    for stretch in scale.stretches:
        if stretch.left_out:
            middle = stretch.x + stretch.width / 2
            yield (middle - 8, middle + 8)


def _behind(lane: Lane, y: float, scale: Axis, crossed: Crossed) -> Iterator[Mark]:
    """Yield what is said of a lane: behind its last bar, or before its first, where nothing crosses the words."""
    bars = [mark for mark in _bars(lane, y + (LANE - BAR) / 2, scale) if isinstance(mark, Box)]
    begin, end = min(mark.x for mark in bars), max(mark.x + mark.width for mark in bars)
    alarm = lane.state in _ALARM
    cross = CROSS if lane.state in _CROSSED else 0.0
    if cross:
        end = _free(end, cross, crossed)
        middle = y + LANE / 2
        for slope in (-4, 4):
            yield Way(name="sg-cross", points=((end + 5, middle - slope), (end + 13, middle + slope)))
    text = _few_words(lane)
    width = width_of(text, SMALL)
    x = end + (18 if cross else 6)
    if _is_crossed(x, width, crossed):
        before = begin - 6 - width
        free = before > scale.x and not _is_crossed(before, width, crossed)
        x = before if free else _free(x, width, crossed)
    text = fitted(text, WIDTH - x - 4, SMALL)
    if len(text) > 1:
        yield Words(name="sg-alarm sg-halo" if alarm else "sg-small sg-halo", x=x, y=y + 16, text=text)


def _is_crossed(x: float, width: float, crossed: Crossed) -> bool:
    return any(x < to and x + width > since for since, to in crossed)


def _free(x: float, width: float, crossed: Crossed) -> float:
    """Return the first place from `x` on where nothing crosses so many pixels."""
    for since, to in sorted(crossed):
        if x < to and x + width > since:
            x = to + 4
    return x


def _few_words(lane: Lane) -> str:
    run = lane.alone
    if run is None:
        return tally_of(lane.runs)
    if run.state is State.REFUSED:
        return f"refused {run.refusal}".rstrip()
    took = span((run.forward.end - run.forward.begin).total_seconds())
    words = [took] if run.causes and run.state in (State.DONE, *_BACK) else []
    if run.state is not State.DONE:
        words.append(NAMES[run.state])
    if run.attempts > 1:
        words.append(f"{run.attempts} attempts")
    return ", ".join(words)


def _title(lane: Lane) -> str:
    run = lane.alone
    if run is None:
        return f"{lane.runs[0].key.step}, {counted(len(lane.runs), 'branch', 'branches')}: {tally_of(lane.runs)}"
    parts = [run_path(*run.key), NAMES[run.state], _period(run.forward)]
    parts += [f"{run.attempts} attempts"] if run.attempts > 1 else []
    parts += [f"refused with {run.refusal}"] if run.refusal else []
    parts += [run.error] if run.error else []
    if run.back is not None:
        parts.append(f"undo {_period(run.back)}" if run.back.known else "undone, when is not known here")
    return "\n".join(parts)


def _period(period: Span) -> str:
    took = span((period.end - period.begin).total_seconds())
    return f"until {period.end.isoformat(sep=' ', timespec='milliseconds')}, {took}"


def _legend(lanes: tuple[Lane, ...], y: float) -> Iterator[Mark]:
    """Yield a word for each colour in use."""
    used = {run.state for lane in lanes for run in lane.runs}
    used |= {State.DONE} if used & set(_BACK) else set()
    x = 16.0
    for state in NAMES:
        if state in used:
            yield Box(name=f"sg-swatch {state.value}", x=x, y=y - 8, width=10, height=10, rounded=2)
            yield Words(name="sg-small", x=x + 15, y=y + 1, text=NAMES[state])
            x += 15 + width_of(NAMES[state], SMALL) + 18
    if any(run.attempts > 1 for lane in lanes for run in lane.runs):
        yield Box(name="sg-swatch sg-done", x=x, y=y - 8, width=18, height=10, rounded=2)
        yield Way(name="sg-tick", points=((x + 9, y - 8), (x + 9, y + 2)), joined=Joined.STRAIGHT)
        yield Words(name="sg-small", x=x + 23, y=y + 1, text="a tick is a retry")
