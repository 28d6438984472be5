from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import Undecodable
from saga._core.budget import (
    SAMPLE_CAP,
    SAMPLES_NEEDED,
    VALID_FOR,
    History,
    deadline_of,
    learned,
    seconds_ahead,
    turned_down,
)
from saga._core.paces import PaceOfPlan, decode_pace, encode_pace, pace_of
from saga._core.plan import Topology, Undoing
from saga._core.words import RunStatus, StepKind
from tests.core.protocol_examples import (
    EXPIRES,
    NOW,
    PIVOTAL,
    PLAIN,
    RESERVED,
    START,
    TIMEOUT_AT,
    a_fact,
    a_step,
    a_topology,
    new_instance,
    ran,
    told,
)

PACES = {"stock.reserve": 7.0, "pay.capture": 2.0, "ship.send": 5.0}


def test_the_deadline_is_the_timeout_and_ends_with_the_pivot() -> None:
    assert deadline_of(PIVOTAL, "stock.reserve", EXPIRES) == TIMEOUT_AT
    assert deadline_of(PIVOTAL, "pay.capture", EXPIRES) == TIMEOUT_AT
    assert deadline_of(PIVOTAL, "ship.send", EXPIRES) is None
    assert deadline_of(PLAIN, "ship.send", EXPIRES) == TIMEOUT_AT


def test_the_way_ends_at_the_pivot_or_else_at_the_end() -> None:
    assert seconds_ahead(PIVOTAL, "stock.reserve", PACES) == 2
    assert seconds_ahead(PLAIN, "stock.reserve", PACES) == 5
    assert seconds_ahead(PLAIN, "ship.send", PACES) == 0
    assert seconds_ahead(PLAIN, "stock.reserve", {}) == 0


def forked(*, pivot: str = "") -> Topology:
    """a -> b or c; b -> d and e; c -> f."""

    def kind(name: str) -> StepKind:
        return StepKind.PIVOT if name == pivot else StepKind.STEP

    steps = [
        a_step("s.a", "placed.v1", "b.v1", "c.v1"),
        a_step("s.b", "b.v1", "d.v1"),
        a_step("s.c", "c.v1", "f.v1"),
        a_step("s.d", "d.v1", kind=kind("s.d"), undoing=Undoing.NEVER if pivot == "s.d" else Undoing.LOCAL),
        a_step("s.e", "d.v1"),
        a_step("s.f", "f.v1"),
    ]
    return a_topology(*steps)


def test_the_quickest_alternative_and_the_slowest_of_those_side_by_side_count() -> None:
    paces = {"s.b": 1.0, "s.c": 1.0, "s.d": 3.0, "s.e": 9.0, "s.f": 4.0}
    assert seconds_ahead(forked(), "s.a", paces) == 5
    assert seconds_ahead(forked(), "s.a", {**paces, "s.f": 99.0}) == 10
    assert seconds_ahead(forked(), "s.b", paces) == 9


def test_only_what_leads_to_the_pivot_counts() -> None:
    paces = {"s.b": 1.0, "s.c": 1.0, "s.d": 3.0, "s.e": 9.0, "s.f": 4.0}
    there = forked(pivot="s.d")
    assert seconds_ahead(there, "s.b", paces) == 3
    assert seconds_ahead(there, "s.a", paces) == 0, "its other alternative never meets the pivot"
    assert seconds_ahead(there, "s.c", paces) == 0
    assert turned_down(there, "s.c", paces, EXPIRES, TIMEOUT_AT) == ""


def test_a_declared_delay_is_known_without_a_history() -> None:
    slow = a_topology(
        a_step("stock.reserve", "placed.v1", "reserved.v1"), replace(a_step("ship.send", "reserved.v1"), delay_ms=8000)
    )
    assert seconds_ahead(slow, "stock.reserve", {}) == 8
    assert seconds_ahead(slow, "stock.reserve", {"ship.send": 9.5}) == 9.5


def test_a_step_is_turned_down_when_less_is_left_than_is_needed() -> None:
    def said(left: float) -> str:
        return turned_down(PIVOTAL, "stock.reserve", PACES, EXPIRES, TIMEOUT_AT - timedelta(seconds=left))

    assert said(2) == ""
    assert said(1.5) == "turned down early: the remaining path takes about 2 s and 1.5 s are left"
    assert "0 s are left" in said(-3)
    assert turned_down(PIVOTAL, "stock.reserve", {}, EXPIRES, TIMEOUT_AT - timedelta(seconds=0.001)) == ""
    assert turned_down(PIVOTAL, "ship.send", {"ship.send": 999.0}, EXPIRES, TIMEOUT_AT) == ""


# --- what is learned ---------------------------------------------------------------------------------------------


def taught(history: History, *seconds: float, every: float = 1.0) -> History:
    """Teach how long `stock.reserve` took, one after another."""
    before = told(PLAIN, ran(START)).instance
    for number, took in enumerate(seconds):
        done = replace(RESERVED, at=START.at + timedelta(seconds=took))
        after = told(PLAIN, ran(done), at=before).instance
        history = learned(PLAIN, history, before, after, NOW + timedelta(seconds=number * every))
    return history


def test_a_pace_is_that_of_the_quick_runs_and_needs_enough_of_them() -> None:
    few = taught(History(), *[1.0] * (SAMPLES_NEEDED - 1))
    assert few.paces(NOW) == {}
    there = taught(History(), *[float(n) for n in range(20, 0, -1)])
    assert there.paces(NOW) == {"stock.reserve": 3.0}


def test_it_is_bounded_and_takes_one_run_a_second_once_it_knows_enough() -> None:
    many = taught(History(), *[1.0] * 200)
    assert len(many.samples["stock.reserve"].seconds) == SAMPLE_CAP
    at_once = taught(History(), *[1.0] * 200, every=0.0)
    assert len(at_once.samples["stock.reserve"].seconds) == SAMPLES_NEEDED


def test_only_runs_done_with_a_known_cause_teach() -> None:
    failed = a_fact("stock.reserve", RunStatus.FAILED)
    before = told(PLAIN, ran(START)).instance
    after = told(PLAIN, ran(failed), at=before).instance
    assert learned(PLAIN, History(), before, after, NOW).samples == {}
    orphan = told(PLAIN, ran(RESERVED)).instance
    assert learned(PLAIN, History(), new_instance(), orphan, NOW).samples == {}
    once = taught(History(), 1.0)
    done = told(PLAIN, ran(START), ran(RESERVED)).instance
    assert learned(PLAIN, once, done, done, NOW) is once


def test_what_is_old_is_not_believed() -> None:
    there = taught(History(), *[1.0] * 20, every=0.0)
    pace = pace_of("p", there)
    assert pace is not None
    assert pace.at_time(NOW + VALID_FOR - timedelta(seconds=1)) == {"stock.reserve": 1.0}
    assert pace.at_time(NOW + VALID_FOR) == {}
    assert there.paces(NOW + VALID_FOR) == {}
    assert pace_of("p", History()) is None


@given(paces=st.dictionaries(st.text("abc.", min_size=1), st.integers(0, 10**9).map(lambda ms: ms / 1000)))
def test_a_pace_comes_back_as_it_was_told(paces: dict[str, float]) -> None:
    told_ = PaceOfPlan(plan="9f2c", at=NOW, paces=paces)
    assert decode_pace(encode_pace(told_)) == told_


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"plan":"p"}',
        b'{"plan":"p","at":"2025-03-01T12:00:00Z","steps_ms":{"a.b":1.5}}',
        b'{"steps_ms":7}',
    ],
)
def test_what_is_no_pace_is_refused(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_pace(body)
