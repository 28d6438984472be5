from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from saga import Refusal
from saga.testing.examples import example_of
from saga.testing.faults import Crash, Cut, Delay, Duplicate, Fail, Fault, Hang, Moment, Refuse, Reorder, When, in_words
from saga.testing.schedule import MOST, Extent, schedule, shrink, singles
from tests.testing.shop import OutOfStock

EXTENT = Extent(
    commits=(("coordinator", 4), ("inventory", 2)),
    messages=(("inventory", 3),),
    steps=("inventory.reserve_stock",),
    others=("inventory.release_stock",),
    refusals=(("inventory.reserve_stock", OutOfStock(sku="book")),),
    late_seconds=65.0,
)


def test_a_schedule_is_a_function_of_its_seed() -> None:
    first = [schedule("3f2a", index, EXTENT) for index in range(200)]
    assert first == [schedule("3f2a", index, EXTENT) for index in range(200)]
    assert first != [schedule("3f2b", index, EXTENT) for index in range(200)]
    assert schedule("3f2a", 17, EXTENT) == first[17]


def test_every_single_fault_has_its_turn() -> None:
    alone = singles(EXTENT)
    seen = {schedule("x", index, EXTENT) for index in range(2 * len(alone))}
    assert {(fault,) for fault in alone} <= seen
    assert {type(fault) for fault in alone} == {Crash, Cut, Delay, Duplicate, Fail, Hang, Refuse, Reorder}


def test_the_others_are_combined() -> None:
    combined = [schedule("x", index, EXTENT) for index in range(1, 400, 2)]
    assert {len(faults) for faults in combined} >= {2, 3, MOST}
    # Also at places which only another fault brings about.
    assert any(
        isinstance(f, Crash) and f.process == "inventory" and f.number > 3 for faults in combined for f in faults
    )


def test_nothing_to_break_is_no_fault() -> None:
    empty = Extent(commits=(), messages=(), steps=(), others=(), refusals=(), late_seconds=1.0)
    assert [schedule("x", index, empty) for index in range(5)] == [()] * 5


def test_shrinking_keeps_what_is_needed_together() -> None:
    faults = [Cut(process="inventory", number=number) for number in range(1, 7)]
    needed = {faults[1], faults[4]}
    tried: list[int] = []

    def fails(rest: Sequence[Fault]) -> bool:
        tried.append(len(rest))
        return needed <= set(rest)

    assert shrink(faults, fails) == (faults[1], faults[4])
    assert len(tried) < 20


def test_shrinking_lets_a_step_fail_once_where_that_is_enough() -> None:
    often = Fail(step="inventory.reserve_stock", times=10)
    assert shrink([often], bool) == (Fail(step="inventory.reserve_stock"),)
    assert shrink([often], lambda rest: often in rest) == (often,)


def test_faults_are_told_in_words() -> None:
    assert in_words(Crash(process="inventory", moment=Moment.AFTER_COMMIT, number=2)) == (
        "inventory dies after commit 2 and is back after 1 s"
    )
    assert in_words(Fail(step="payment.capture", times=3, when=When.AFTER)) == (
        "payment.capture raises 3 times after it has done its work"
    )
    assert len({in_words(fault) for fault in singles(EXTENT)}) == len(singles(EXTENT))


# --- refusals that are made up -------------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"


class Part(BaseModel):
    number: int


class Everything(Refusal, name="every.thing", version=1):
    text: str
    number: int
    amount: Decimal
    at: datetime
    key: UUID
    colour: Colour
    word: Literal["yes", "no"]
    perhaps: Part | None
    part: Part
    parts: list[Part]
    known: str = "default"


class Odd(Refusal, name="odd.one", version=1):
    what: complex


def test_a_refusal_is_made_up() -> None:
    made = example_of(Everything)
    assert made is not None
    assert (made.colour, made.word, made.perhaps, made.part.number, made.parts, made.known) == (
        Colour.RED,
        "yes",
        None,
        1,
        [],
        "default",
    )
    assert made.at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_refusal_of_a_strange_kind_is_not_made_up() -> None:
    assert example_of(Odd) is None
