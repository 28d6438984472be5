"""Hold every drawing to what a page relies on: sound XML, nothing outside, nothing on top of each other, no markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga._core.drawing import (
    CLASSES,
    Sheet,
    Story,
    graph_svg,
    sequence_svg,
    stylesheet,
    timeline_svg,
    topology_svg,
)
from saga._core.drawing.lanes import LANES, lanes_of
from saga._core.drawing.marks import Box, Dot, Group, Mark, Picture, Words, flat
from saga._core.drawing.measuring import SMALL, fitted, span, width_of
from saga._core.drawing.saying import ACTORS, LINES, scene_of
from saga._core.drawing.sequence import sequence
from saga._core.drawing.svg import escaped, svg
from saga._core.drawing.timeline import timeline
from saga._core.drawing.topology import topology
from saga._core.instance import Answer, Phase
from saga._core.plan import Plan
from tests.core.drafts import step
from tests.core.drawing import samples
from tests.core.drawing.strategies import ODD, stories

SVG = "{http://www.w3.org/2000/svg}"
IMAGES = Path(__file__).parents[3] / "docs" / "images"
TAGS = {"svg", "title", "desc", "g", "a", "rect", "path", "circle", "text"}


def drawings(story: Story) -> Iterator[str]:
    assert story.plan is not None
    for anchor in ("", "#run-"):
        yield timeline_svg(story, anchor=anchor)
        yield sequence_svg(story, anchor=anchor)
        yield graph_svg(story.plan, story, anchor=anchor)


def check_text(text: str) -> ET.Element:
    root = ET.fromstring(text)
    for element in root.iter():
        tag = element.tag.removeprefix(SVG)
        assert tag in TAGS, tag
        assert "style" not in element.attrib
        assert not [name for name in element.attrib if name.startswith("on")]
        for name in element.get("class", "").split():
            assert name in CLASSES, name
    assert root.get("role") == (
        "group" if root.find(f".//{SVG}a") is not None or root.find(".//a") is not None else "img"
    )
    assert root[0].tag.removeprefix(SVG) == "title"
    assert root[0].text
    return root


def check_inside(picture: Picture) -> None:
    for mark in flat(picture.marks):
        match mark:
            case Box(x=x, y=y):
                assert x >= -0.01
                assert y >= -0.01
                assert x + mark.width <= picture.width + 0.01
                assert y + mark.height <= picture.height + 0.01
                assert mark.width >= 0
            case Dot(x=x, y=y):
                assert mark.radius <= x <= picture.width - mark.radius
                assert mark.radius <= y <= picture.height - mark.radius
            case Words(x=x, y=y):
                size = 12.0 if "sg-name" in mark.name or "sg-strong" in mark.name else SMALL
                wide = width_of(mark.text, size)
                left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[mark.align.value]
                assert left >= -0.5, mark
                assert left + wide <= picture.width + 0.5, mark
                assert 0 <= y <= picture.height
            case _:
                for x, y in mark.points:
                    assert -0.01 <= x <= picture.width + 0.01
                    assert -0.01 <= y <= picture.height + 0.01


def lanes(marks: tuple[Mark, ...]) -> Iterator[list[Box]]:
    for mark in marks:
        if isinstance(mark, Group) and mark.data:
            yield [each for each in mark.marks if isinstance(each, Box) and "sg-bar" in each.name]


@settings(max_examples=60, deadline=None)
@given(stories())
def test_whatever_the_records_say_the_text_is_sound(story: Story) -> None:
    for text in drawings(story):
        check_text(text)


@settings(max_examples=60, deadline=None)
@given(stories())
def test_bars_of_a_lane_lie_beside_each_other_and_inside(story: Story) -> None:
    picture = timeline(story)
    check_inside(picture)
    found = list(lanes(picture.marks))
    assert len(found) == len(lanes_of(story).lanes)
    for bars in found:
        assert bars
        for left, right in pairwise(sorted(bars, key=lambda bar: bar.x)):
            assert left.x + left.width <= right.x + 1e-6


@settings(max_examples=60, deadline=None)
@given(stories())
def test_clocks_that_disagree_turn_no_time_around(story: Story) -> None:
    for run in story.runs:
        assert story.began <= run.forward.begin <= run.forward.end <= story.until
        assert run.called is None or run.forward.begin <= run.called <= run.forward.end
        assert run.back is None or run.forward.end <= run.back.end
        assert run.back is None or run.back.begin <= run.back.end


@settings(max_examples=40, deadline=None)
@given(stories())
def test_a_sequence_stays_inside(story: Story) -> None:
    check_inside(sequence(story))


@settings(deadline=None)
@given(ODD)
def test_no_value_becomes_markup(value: str) -> None:
    root = ET.fromstring(f'<t a="{escaped(value)}">{escaped(value)}</t>')
    plain = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", value)
    assert root.text in (plain.replace("\r\n", "\n").replace("\r", "\n"), plain or None)
    assert len(root) == 0
    assert not set(escaped(value)) & set("<>\"'")


@pytest.mark.parametrize("planted", ["<script>x</script>", '"><svg onload=x>', "a'b&c"])
def test_a_planted_name_is_only_text(planted: str) -> None:
    plan = samples.checkout()
    renamed = replace(plan.steps[0], name=f"inv.{planted}", calls=planted, refuses=(planted,), emits=(planted,))
    told = replace(plan, saga=planted, start_event=planted, steps=(renamed, *plan.steps[1:]))
    story = replace(samples.compensated(), plan=told, saga=planted, detail=planted, phase=planted, stuck=planted)
    for text in (*drawings(story), topology_svg([told])):
        check_text(text)
        assert planted not in text
        assert "<script" not in text


def test_a_file_brings_its_colours_and_a_page_does_not() -> None:
    story = samples.compensated()
    page, file = timeline_svg(story), timeline_svg(story, sheet=Sheet.FILE)
    assert "<style" not in page
    assert f"<style>\n{stylesheet()}</style>" in file
    assert 'xmlns="http://www.w3.org/2000/svg"' in file
    ET.fromstring(file)


def test_the_same_rows_make_the_same_text() -> None:
    assert list(drawings(samples.large())) == list(drawings(samples.large()))


PICTURES: dict[str, Callable[[], str]] = {
    "timeline": lambda: timeline_svg(samples.compensated(), sheet=Sheet.FILE),
    "sequence": lambda: sequence_svg(samples.compensated(), sheet=Sheet.FILE),
    "graph": lambda: graph_svg(samples.parcels(), sheet=Sheet.FILE),
    "way-back": lambda: graph_svg(samples.checkout(), samples.compensated(), sheet=Sheet.FILE),
    "topology": lambda: topology_svg([samples.checkout(), samples.parcels()], sheet=Sheet.FILE),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_in_the_docs_are_these(name: str) -> None:
    """`python -m tests.core.drawing.pictures` writes them."""
    assert (IMAGES / f"{name}.svg").read_text() == PICTURES[name]()


# --- what stands in a picture ------------------------------------------------------------------------------


def texts(text: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(text).iter() if element.tag.endswith("text")]


def test_a_timeline_shows_the_way_there_and_back() -> None:
    picture = timeline(samples.compensated())
    by_run = {dict(m.data)["run"]: m for m in picture.marks if isinstance(m, Group) and m.data}
    bars = [each for each in by_run["inventory.reserve_stock"].marks if isinstance(each, Box) and "sg-bar" in each.name]
    assert ["sg-done" in bars[0].name, "sg-undone" in bars[1].name] == [True, True]
    assert bars[1].x > bars[0].x + bars[0].width
    ticks = [each for each in flat(by_run["crm.note_order"].marks) if each.name == "sg-tick"]
    assert len(ticks) == 2
    assert "refused payment.declined.v1" in texts(svg(picture))


def test_an_undo_without_a_recorded_time_says_so() -> None:
    assert "sg-guess" in timeline_svg(samples.compensated(recorded=False))
    assert "sg-guess" not in timeline_svg(samples.compensated())


def test_idle_time_is_left_out_and_the_line_of_now_is_drawn() -> None:
    said = texts(timeline_svg(samples.waiting()))
    assert "2 h" in said
    assert "now" in said
    assert "sg-zigzag" in timeline_svg(samples.waiting())
    assert "compensated" in texts(timeline_svg(samples.compensated()))


def test_many_branches_are_one_bar_and_those_that_stand_out() -> None:
    story = samples.large()
    said = texts(timeline_svg(story))
    assert "label.print \N{MULTIPLICATION SIGN}200" in said
    assert "195 done, 5 open" in said
    assert "40of200" in said
    assert len(lanes_of(story).lanes) < 25
    assert any("200 branches" in text for text in texts(graph_svg(samples.parcels(), story)))


def test_a_saga_beyond_all_bounds_says_what_is_left_out() -> None:
    plan = samples.wide(150)
    facts = [samples.fact("svc0.start", 0, emits="s.v1")]
    facts += [samples.fact(step.name, 1 + n, emits=step.emits[0]) for n, step in enumerate(plan.steps)]
    story = samples.story(plan, facts, 200)
    timeline_ = timeline(story)
    assert len(list(lanes(timeline_.marks))) == LANES
    assert any("91 more runs of 91 steps not drawn" in text for text in texts(svg(timeline_)))
    assert len(scene_of(story).said) <= LINES
    assert any("not drawn" in text for text in texts(sequence_svg(story)))
    assert any("30 more steps not drawn" in text for text in texts(graph_svg(plan)))


def test_a_sequence_of_many_services_says_how_many_are_left_out() -> None:
    steps = [step(f"svc{n}.go: step, {f'e{n - 1}' if n else 's'} -> e{n}") for n in range(40)]
    plan = samples.plan_of("many", "first.start", "s", *steps)
    facts = [samples.fact("first.start", 0, emits="s")]
    facts += [samples.fact(f"svc{n}.go", n, f"svc{n - 1}.go" if n else "first.start", emits=f"e{n}") for n in range(40)]
    answers = {f"svc{n}": Answer.CLOSED for n in range(40)}
    story = samples.story(plan, facts, 50, phase=Phase.CLOSING, answers=answers)
    check_inside(sequence(story))
    assert len(scene_of(story).actors) == ACTORS + 1
    assert scene_of(story).left_out == "17 more services not drawn"


def test_the_way_back_is_drawn_against_the_arrows() -> None:
    assert "sg-back" in graph_svg(samples.checkout(), samples.compensated())
    assert "sg-back" not in graph_svg(samples.checkout(), samples.completed())


def test_a_sequence_tells_who_said_what() -> None:
    said = [(line.tail, line.heads, line.text) for line in scene_of(samples.compensated()).said]
    assert ("orders", ("inventory",), "order.placed.v1") in said
    assert ("payment", ("saga-coordinator",), "refused payment.declined.v1") in said
    assert ("saga-coordinator", ("crm", "inventory", "payment", "shipping"), "close") in said
    undo = said.index(("saga-coordinator", ("inventory",), "undo reserve_stock"))
    assert undo > said.index(("saga-coordinator", ("crm",), "undo note_order"))
    assert said[-1] == ("saga-coordinator", ("orders",), "compensated: payment.declined.v1")


def test_a_topology_says_who_hears_whom() -> None:
    picture = topology([samples.checkout(), samples.parcels()])
    check_inside(picture)
    titles = [mark.title for mark in picture.marks if isinstance(mark, Group)]
    assert "order.placed.v1" in titles
    assert any(title.startswith("orders\nstarts checkout v1") for title in titles)


def test_pictures_of_plans_stay_inside() -> None:
    for plan in (samples.checkout(), samples.parcels(), samples.wide()):
        check_text(graph_svg(plan))
        check_text(topology_svg([plan]))


def test_no_plan_and_no_records_are_drawn_as_well() -> None:
    empty = samples.story(samples.checkout(), [], 1)
    unknown: Story = replace(samples.compensated(), plan=None)
    check_text(timeline_svg(empty))
    check_text(sequence_svg(empty))
    check_text(sequence_svg(unknown))
    check_text(topology_svg(list[Plan]()))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.041, "41 ms"),
        (0.9999, "1 s"),
        (2.5, "2.5 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (7200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


@settings(deadline=None)
@given(st.text(max_size=60), st.floats(20, 300))
def test_a_text_is_cut_to_its_room(text: str, room: float) -> None:
    cut = fitted(text, room)
    assert width_of(cut) <= max(room, 10)
    assert cut == text or cut.endswith("…")
