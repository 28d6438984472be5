"""Draw sagas and plans as SVG: pure functions from rows and plans to text."""

from __future__ import annotations

from collections.abc import Sequence

from saga._core.drawing.graph import graph
from saga._core.drawing.sequence import sequence
from saga._core.drawing.story import Story, story_of
from saga._core.drawing.style import CLASSES, stylesheet
from saga._core.drawing.svg import Sheet, svg
from saga._core.drawing.timeline import timeline
from saga._core.drawing.topology import topology
from saga._core.plan import Plan

__all__ = [
    "CLASSES",
    "Sheet",
    "Story",
    "graph_svg",
    "sequence_svg",
    "story_of",
    "stylesheet",
    "timeline_svg",
    "topology_svg",
]


def timeline_svg(story: Story, *, sheet: Sheet = Sheet.PAGE, anchor: str = "") -> str:
    """Draw one saga against time: what ran when, what was tried again, what was undone; idle time is left out."""
    return svg(timeline(story, anchor), sheet)


def sequence_svg(story: Story, *, sheet: Sheet = Sheet.PAGE, anchor: str = "") -> str:
    """Draw who told whom in one saga: events, refusals, the coordinator's commands and their answers."""
    return svg(sequence(story, anchor), sheet)


def graph_svg(plan: Plan, story: Story | None = None, *, sheet: Sheet = Sheet.PAGE, anchor: str = "") -> str:
    """Draw the steps of a plan and the events between them, with the state and the way back of one saga if given."""
    return svg(graph(plan, story, anchor), sheet)


def topology_svg(plans: Sequence[Plan], *, sheet: Sheet = Sheet.PAGE, anchor: str = "") -> str:
    """Draw the services of all plans, the topics they write, and who hears them."""
    return svg(topology(plans, anchor), sheet)
