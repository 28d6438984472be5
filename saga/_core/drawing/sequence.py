"""Lay out who told whom in one saga: a line for each service, and what went between them from the top down."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from saga._core.drawing.arrows import straight_marks
from saga._core.drawing.marks import Align, Box, Group, Joined, Mark, Picture, Point, Way, Words
from saga._core.drawing.measuring import SMALL, fitted, width_of
from saga._core.drawing.saying import COORDINATOR, Said, Scene, Sort, scene_of
from saga._core.drawing.story import Story
from saga._core.drawing.style import hue

MARGIN = 20.0
HEAD = 46.0
LEAST_APART = 150.0
MOST_APART = 240.0
ARROW = 30.0
PILL = 30.0
PILL_HEIGHT = 22.0
_ARROWS = {
    Sort.EVENT: "sg-edge",
    Sort.COMMAND: "sg-edge sg-command",
    Sort.REPLY: "sg-edge sg-reply",
    Sort.REFUSAL: "sg-edge sg-reply sg-no",
    Sort.UNDO: "sg-edge sg-back",
}


def sequence(story: Story, anchor: str = "") -> Picture:
    """Return the picture of one saga's messages; `anchor` is what links of runs begin with, "" for none."""
    scene = scene_of(story)
    apart = _apart(scene)
    xs = {actor: MARGIN + apart / 2 + apart * number for number, actor in enumerate(scene.actors)}
    width = apart * len(scene.actors) + 2 * MARGIN
    services = tuple(actor for actor in scene.actors if actor != COORDINATOR)
    marks: list[Mark] = []
    y = HEAD + 14
    for said in scene.said:
        marks.append(_row(said, xs, y, apart, anchor))
        y += _height(said)
    if scene.left_out:
        marks.append(Words(name="sg-small", x=MARGIN, y=y + 8, text=scene.left_out))
        y += 18
    lines = [
        _actor(actor, x, y, apart, "" if actor == COORDINATOR else hue(services, actor)) for actor, x in xs.items()
    ]
    return Picture(
        name="sg-sequence",
        title=f"{story.name}: sequence",
        about=f"{story.name}, {story.saga_id}, {story.phase}: " + "; ".join(map(_told, scene.said[:40])),
        width=max(width, 260.0),
        height=y + 16,
        marks=(*lines, *marks),
    )


def _told(said: Said) -> str:
    return f"{said.tail} to {', '.join(said.heads)}: {said.text}" if said.heads else f"{said.tail}: {said.text}"


def _apart(scene: Scene) -> float:
    texts = [width_of(said.text, SMALL) + 30 for said in scene.said if said.sort is not Sort.ALL]
    texts += [width_of(actor) + 30 for actor in scene.actors]
    return min(max([LEAST_APART, *texts]), MOST_APART)


def _height(said: Said) -> float:
    return PILL if said.sort in (Sort.RUN, Sort.NOTE) else ARROW


def _actor(actor: str, x: float, bottom: float, apart: float, colour: str) -> Group:
    text = fitted(actor, apart - 24)
    width = min(width_of(text) + 24, apart - 6)
    stripe: tuple[Mark, ...] = (Box(name=colour, x=x - width / 2 + 5, y=15, width=3, height=18),) if colour else ()
    return Group(
        marks=(
            Way(name="sg-life", points=((x, HEAD - 6), (x, bottom))),
            Box(name="sg-node", x=x - width / 2, y=10, width=width, height=28, rounded=4),
            *stripe,
            Words(name="sg-strong" if colour else "sg-soft", x=x + 2, y=28, text=text, align=Align.MIDDLE),
        ),
        title=actor,
        data=(("service", actor),),
    )


def _row(said: Said, xs: dict[str, float], y: float, apart: float, anchor: str) -> Group:
    marks = tuple(_marks(said, xs, y, apart))
    href = anchor + quote(said.run, safe="") if anchor and said.run else ""
    return Group(marks=marks, title=said.title or said.text, data=(("run", said.run),) if said.run else (), href=href)


def _marks(said: Said, xs: dict[str, float], y: float, apart: float) -> Iterator[Mark]:
    tail = xs[said.tail]
    if said.sort in (Sort.RUN, Sort.NOTE):
        yield from _pill(said, tail, y, apart)
    elif said.sort is Sort.ALL:
        yield from _to_all(said, xs, y)
    elif said.heads and said.heads[0] != said.tail:
        yield from _arrow(said, (tail, y + 14), (xs[said.heads[0]], y + 14))
    else:
        yield from _loop(said, tail, y)


def _arrow(said: Said, begin: Point, end: Point) -> Iterator[Mark]:
    room = abs(end[0] - begin[0]) - 14
    text = fitted(said.text, room, SMALL)
    middle = (begin[0] + end[0]) / 2
    yield from straight_marks(begin, end, _ARROWS[said.sort])
    yield Words(name="sg-small sg-halo", x=middle, y=begin[1] - 5, text=text, align=Align.MIDDLE)


def _loop(said: Said, x: float, y: float) -> Iterator[Mark]:
    yield Way(name=_ARROWS[said.sort], points=((x, y + 4), (x + 18, y + 4), (x + 18, y + 18), (x + 8, y + 18)))
    yield Way(name="sg-head", points=((x + 1, y + 18), (x + 9, y + 14.4), (x + 9, y + 21.6)), joined=Joined.OUTLINE)
    yield Words(name="sg-small sg-halo", x=x + 24, y=y + 14, text=fitted(said.text, LEAST_APART, SMALL))


def _to_all(said: Said, xs: dict[str, float], y: float) -> Iterator[Mark]:
    """Yield one line from the coordinator to everybody it asked, with a head at each."""
    ends = [xs[head] for head in said.heads if head in xs]
    tail = xs[said.tail]
    far = min(ends, default=tail)
    yield from straight_marks((tail, y + 14), (far, y + 14), "sg-edge sg-command")
    for end in ends:
        if end != far:
            yield from straight_marks((end + 12, y + 14), (end, y + 14), "sg-edge sg-command")
    text = fitted(said.text, LEAST_APART - 20, SMALL)
    yield Words(name="sg-small sg-halo", x=tail - 14, y=y + 9, text=text, align=Align.END)


def _pill(said: Said, x: float, y: float, apart: float) -> Iterator[Mark]:
    text = fitted(said.text, apart - 30, SMALL)
    width = width_of(text, SMALL) + 20
    yield Box(name="sg-node", x=x - width / 2, y=y + 2, width=width, height=PILL_HEIGHT, rounded=4)
    if said.state is not None:
        yield Box(name=f"sg-part {said.state.value}", x=x - width / 2, y=y + 2, width=5, height=PILL_HEIGHT, rounded=2)
    name = "sg-alarm" if said.sort is Sort.NOTE else "sg-small"
    yield Words(name=name, x=x + 2, y=y + 17, text=text, align=Align.MIDDLE)
