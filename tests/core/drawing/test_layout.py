"""Lay out any graph: nothing on top of each other, arrows from end to end, circles included."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from saga._core.drawing.axis import axis
from saga._core.drawing.layers import BETWEEN, Spot, layout
from tests.core.drawing.samples import T0


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Spot], list[tuple[str, str]]]:
    names = [f"n{number}" for number in range(draw(st.integers(0, 14)))]
    spots = [Spot(name=name, width=draw(st.floats(5, 200)), height=draw(st.floats(5, 80))) for name in names]
    ends = st.sampled_from(names) if names else st.nothing()
    return spots, draw(st.lists(st.tuples(ends, ends), max_size=30)) if names else []


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_no_two_spots_overlap_and_all_is_inside(graph: tuple[list[Spot], list[tuple[str, str]]]) -> None:
    spots, arrows = graph
    found = layout(spots, arrows)
    assert set(found.places) == {spot.name for spot in spots}
    assert set(found.routes) == {arrow for arrow in arrows if arrow[0] != arrow[1]}
    for spot in spots:
        x, y = found.places[spot.name]
        assert spot.width / 2 - 1e-6 <= x <= found.width - spot.width / 2 + 1e-6
        assert spot.height / 2 - 1e-6 <= y <= found.height - spot.height / 2 + 1e-6
    for one, other in combinations(spots, 2):
        (x, y), (u, v) = found.places[one.name], found.places[other.name]
        between = BETWEEN if y == v else 0
        apart_x = abs(x - u) >= (one.width + other.width) / 2 + between - 1e-6
        assert apart_x or abs(y - v) >= (one.height + other.height) / 2 - 1e-6


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_an_arrow_goes_from_its_tail_to_its_head(graph: tuple[list[Spot], list[tuple[str, str]]]) -> None:
    spots, arrows = graph
    found = layout(spots, arrows)
    by_name = {spot.name: spot for spot in spots}
    for (tail, head), points in found.routes.items():
        for name, (x, y) in ((tail, points[0]), (head, points[-1])):
            assert x == found.places[name][0]
            assert abs(abs(y - found.places[name][1]) - by_name[name].height / 2) < 1e-6
        for x, y in points:
            assert 0 <= x <= found.width
            assert 0 <= y <= found.height


def test_a_chain_lies_straight_below_itself() -> None:
    spots = [Spot(name=name, width=width, height=20) for name, width in (("a", 80), ("b", 30), ("c", 120))]
    found = layout(spots, [("a", "b"), ("b", "c")])
    assert len({x for x, _ in found.places.values()}) == 1
    assert [found.places[name][1] for name in "abc"] == sorted(found.places[name][1] for name in "abc")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), max_size=12))
def test_a_later_moment_is_never_further_left(seconds: list[float]) -> None:
    moments = sorted(T0 + timedelta(seconds=each) for each in seconds)
    scale = axis(moments, 100, 600)
    places = [scale.at(moment) for moment in moments]
    assert places == sorted(places)
    assert all(100 <= place <= 700 + 1e-6 for place in places)
    for left, right in pairwise(scale.ticks()):
        assert right.x > left.x
    assert all(100 <= tick.x <= 700 + 1e-6 for tick in scale.ticks())
