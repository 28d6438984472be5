from __future__ import annotations

from dataclasses import replace

from saga._core.bodies import CancelRequested, UndoFailed, Undone
from saga._core.coordinator import Input
from saga._core.instance import Instance
from saga._core.plan import Topology
from saga._core.transitions import has_ended, transitions
from saga._core.verbs import HoldSaga, ReleaseSaga, RetryStep
from saga._core.words import RunKey, RunStatus
from tests.core.protocol_examples import (
    CAPTURED,
    NOW,
    PIVOTAL,
    PLAIN,
    RESERVED,
    SENT_PLAIN,
    START,
    a_fact,
    closed,
    new_instance,
    ran,
    told,
)

BADLY = replace(a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve"), attempts=5)


def steps(topology: Topology, *inputs: Input) -> list[list[str]]:
    """Return what is told after each input."""
    before, seen = new_instance(), list[list[str]]()
    for received in inputs:
        after = told(topology, received, at=before).instance
        seen.append([each.text for each in transitions(before, after)])
        before = after
    return seen


def test_a_saga_that_completes() -> None:
    assert steps(PLAIN, ran(START), ran(RESERVED), ran(SENT_PLAIN)) == [
        ["orders.start done, emitted placed.v1"],
        ["stock.reserve done, emitted reserved.v1"],
        ["ship.send done", "it has completed"],
    ]


def test_a_saga_that_is_undone_and_stuck_and_goes_on() -> None:
    stock = RunKey(step="stock.reserve")
    assert steps(
        PLAIN,
        ran(START),
        ran(RESERVED),
        ran(BADLY),
        closed("ship", BADLY),
        closed("stock", RESERVED),
        UndoFailed(step="stock.reserve", reason="gone"),
        RetryStep(key=stock),
        Undone(step="stock.reserve"),
    )[2:] == [
        [
            "ship.send failed: boom (attempt 5)",
            "it has to be undone: failed: ship.send: boom",
            "it is closed and undone",
        ],
        ["ship has closed"],
        ["stock has closed", "stock.reserve is being undone"],
        ["stock.reserve could not be undone", "it is stuck: undo_failed: stock.reserve: gone"],
        ["stock.reserve is being undone", "it is not stuck any more"],
        ["stock.reserve was undone", "it has been undone"],
    ]


def test_a_refusal_a_pivot_and_a_hold() -> None:
    refused = a_fact("stock.reserve", RunStatus.REFUSED)
    assert steps(PLAIN, ran(START), ran(refused))[1][0] == "stock.reserve refused with stock.out.v1"
    seen = steps(PIVOTAL, ran(START), ran(RESERVED), HoldSaga(), ReleaseSaga(), ran(CAPTURED))
    assert seen[2:] == [
        ["it is held"],
        ["it is released"],
        ["pay.capture done, emitted captured.v1", "it is past its pivot and can only go forward"],
    ]
    asked = steps(PIVOTAL, ran(START), CancelRequested(reason="fraud"))[1]
    assert asked == ["it has to be undone: cancelled: fraud", "it is asked whether its pivot has run"]


def test_the_first_reading_tells_everything_in_the_order_of_time() -> None:
    later = replace(RESERVED, at=NOW.replace(hour=13))
    instance: Instance = told(PLAIN, ran(later), ran(START)).instance
    assert [each.run for each in transitions(None, instance)] == [
        RunKey(step="orders.start"),
        RunKey(step="stock.reserve"),
    ]
    assert transitions(instance, instance) == ()
    assert not has_ended(instance)
