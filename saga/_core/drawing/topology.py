"""Lay out all plans together: services, the topics they write, who hears them, and what the coordinator does beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from saga._core.drawing.arrows import arrow_marks
from saga._core.drawing.layers import Arrow, Layout, Spot, layout
from saga._core.drawing.marks import Align, Box, Group, Mark, Picture, Words
from saga._core.drawing.measuring import SMALL, counted, fitted, width_of
from saga._core.drawing.nodes import EVENT_HEIGHT, event_marks, event_width
from saga._core.drawing.style import hue
from saga._core.mermaid import emissions
from saga._core.plan import Plan
from saga._core.topics import OUTCOMES, RUNS, events_topic

SERVICES = 60
"""The most services of a topology; what is beyond is counted in words."""
MARGIN = 24.0
LINES = 4
"""The most sagas that a service names."""
BUS = 62.0
WIDEST = 260.0
_TOPIC = "topic "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """Be what all plans say together: what each service does, and which events go from whom to whom."""

    services: Mapping[str, tuple[str, ...]]
    heard: Mapping[tuple[str, str], tuple[str, ...]]
    starters: tuple[str, ...]
    left_out: int


def topology(plans: Sequence[Plan], anchor: str = "") -> Picture:
    """Return the picture of all plans; `anchor` is what links of services begin with, "" for none."""
    heard = _heard(plans)
    spots, arrows = _graph(heard)
    found = layout(spots, arrows, 34.0)
    width = max(found.width + 2 * MARGIN, 620.0)
    aside = (width - found.width) / 2
    marks = [*_arrows(arrows, found, aside), *_services(heard, found, aside, anchor)]
    marks += _topics(heard, found, aside)
    bottom = MARGIN + found.height + 26
    marks.append(_coordinator(heard, bottom, width))
    height = bottom + BUS + MARGIN
    if heard.left_out:
        text = f"{counted(heard.left_out, 'more service')} not drawn"
        marks.append(Words(name="sg-small", x=MARGIN, y=height - 6, text=text))
        height += 12
    return Picture(
        name="sg-topology",
        title="Services and topics",
        about=f"{counted(len(heard.services), 'service')} in {counted(len(plans), 'plan')}",
        width=width,
        height=height,
        marks=tuple(marks),
    )


def _heard(plans: Sequence[Plan]) -> _Heard:
    roles: dict[str, dict[str, None]] = {}
    heard: dict[tuple[str, str], dict[str, None]] = {}
    for plan in plans:
        title = f"{plan.saga} v{plan.version}"
        roles.setdefault(plan.starter, {})[f"starts {title}"] = None
        senders: dict[str, list[str]] = {}
        for name, event, _ in emissions(plan):
            senders.setdefault(event, []).append(name.partition(".")[0])
        for step in plan.steps:
            roles.setdefault(step.service, {})[title] = None
            for taken in step.inputs:
                for sender in senders.get(taken.event, ()):
                    heard.setdefault((sender, step.service), {})[taken.event] = None
    shown = {service: tuple(said) for service, said in list(roles.items())[:SERVICES]}
    kept = {way: tuple(events) for way, events in heard.items() if way[0] in shown and way[1] in shown}
    starters = tuple(dict.fromkeys(plan.starter for plan in plans))
    return _Heard(services=shown, heard=kept, starters=starters, left_out=len(roles) - len(shown))


def _lines(said: Sequence[str]) -> list[str]:
    starts = [line for line in said if line.startswith("starts ")]
    others = [line for line in said if f"starts {line}" not in starts and line not in starts]
    lines = [*starts, *others]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more"]


def _size(service: str, said: Sequence[str]) -> tuple[float, float]:
    lines = _lines(said)
    width = max([width_of(service), *(width_of(line, SMALL) for line in lines)])
    return min(width, WIDEST) + 30, 30 + 15.0 * len(lines)


def _graph(heard: _Heard) -> tuple[list[Spot], dict[Arrow, tuple[str, ...]]]:
    spots: list[Spot] = []
    for service, said in heard.services.items():
        width, height = _size(service, said)
        spots.append(Spot(name=service, width=width, height=height))
    arrows: dict[Arrow, tuple[str, ...]] = {}
    for (sender, reader), events in heard.heard.items():
        topic = _TOPIC + sender
        if topic not in {tail for tail, _ in arrows}:
            spots.append(Spot(name=topic, width=event_width(events_topic(sender), ""), height=EVENT_HEIGHT))
            arrows[sender, topic] = ()
        arrows[topic, reader] = events
    return spots, arrows


def _arrows(arrows: Mapping[Arrow, tuple[str, ...]], found: Layout, aside: float) -> Iterator[Mark]:
    for arrow, events in arrows.items():
        points = [(x + aside, y + MARGIN) for x, y in found.routes[arrow]]
        yield Group(marks=tuple(arrow_marks(points, "sg-edge")), title="\n".join(events))


def _services(heard: _Heard, found: Layout, aside: float, anchor: str) -> Iterator[Mark]:
    names = tuple(heard.services)
    for service, said in heard.services.items():
        width, height = _size(service, said)
        x, y = found.places[service][0] + aside - width / 2, found.places[service][1] + MARGIN - height / 2
        marks: list[Mark] = [
            Box(name="sg-node", x=x, y=y, width=width, height=height, rounded=4),
            Box(name=hue(names, service), x=x + 7, y=y + 8, width=3, height=height - 16),
            Words(name="sg-name sg-strong", x=x + 17, y=y + 20, text=fitted(service, width - 26)),
        ]
        for number, line in enumerate(_lines(said)):
            text = fitted(line, width - 26, SMALL)
            marks.append(Words(name="sg-small", x=x + 17, y=y + 36 + 15 * number, text=text))
        href = anchor + quote(service, safe="") if anchor else ""
        title = "\n".join((service, *said))
        yield Group(marks=tuple(marks), title=title, data=(("service", service),), href=href)


def _topics(heard: _Heard, found: Layout, aside: float) -> Iterator[Mark]:
    for sender in dict.fromkeys(sender for sender, _ in heard.heard):
        x, y = found.places[_TOPIC + sender]
        events = dict.fromkeys(e for (tail, _), each in heard.heard.items() if tail == sender for e in each)
        marks = tuple(event_marks(events_topic(sender), "", (x + aside, y + MARGIN)))
        yield Group(marks=marks, title="\n".join((events_topic(sender), *events)), data=(("service", sender),))


def _coordinator(heard: _Heard, y: float, width: float) -> Group:
    starters = ", ".join(heard.starters) or "nobody"
    lines = (
        f"reads {RUNS}, which every service writes",
        f"writes <service>.commands (close, undo, …) and {OUTCOMES} (to {starters})",
    )
    room = width - 2 * MARGIN - 24
    marks: list[Mark] = [
        Box(name="sg-bus", x=MARGIN, y=y, width=width - 2 * MARGIN, height=BUS, rounded=4),
        Words(name="sg-strong", x=width / 2, y=y + 20, text="saga-coordinator", align=Align.MIDDLE),
    ]
    for number, line in enumerate(lines):
        text = fitted(line, room, SMALL)
        marks.append(Words(name="sg-small", x=width / 2, y=y + 37 + 15 * number, text=text, align=Align.MIDDLE))
    return Group(marks=tuple(marks), title="\n".join(lines))
