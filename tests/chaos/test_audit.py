"""An audit that finds nothing proves something only if it finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from examples.payment.gateway import Entry
from examples.payment.ledger import Books
from saga import Ending
from saga._core.ids import saga_id_of
from saga._core.words import Cause
from tests.chaos.audit import FORWARD, Receipts, audit
from tests.chaos.basket import KINDS, Kind, Order, fill
from tests.chaos.facts import Facts, Start

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN, LATE = "o1", "o2"
ORDERED = ("orders.start", "orders.write_order", "inventory.reserve_stock", "payment.authorize", "payment.capture")
AFTER = ("inventory.sell_stock", "shipping.ship")


def at(second: int) -> datetime:
    return T0 + timedelta(seconds=second)


def run(order: str, step: str, second: int, *, status: str = "done", undone: int | None = None) -> dict[str, Any]:
    return {
        "saga_id": saga_id_of("checkout", "", order),
        "step": step,
        "branch": "",
        "status": status,
        "undo": "none" if undone is None else "done",
        "pending_at": None,
        "error": "",
        "done_at": at(second),
        "undone_at": None if undone is None else at(undone),
    }


def entry(order: str, what: str, second: int) -> Entry:
    return Entry(at=at(second), what=what, key=f"{what} {order}", authorization=order, order_id=order, amount=10)


def start(order: str, ending: Ending | None, cause: Cause | None = None) -> Start:
    return Start(saga_id=saga_id_of("checkout", "", order), order_id=order, ending=ending, cause=cause, refusal="")


def instance(order: str, phase: str) -> dict[str, Any]:
    return {"saga_id": saga_id_of("checkout", "", order), "phase": phase, "due_at": None, "state": b"{}"}


def world() -> Facts:
    """Return two orders as they should be: one completed, one undone because the bank refused late."""
    runs = [run(PLAIN, step, second) for second, step in enumerate((*ORDERED, *AFTER))]
    runs += [
        run(LATE, "orders.start", 0),
        run(LATE, "orders.write_order", 1, undone=6),
        run(LATE, "inventory.reserve_stock", 2, undone=9),
        run(LATE, "payment.authorize", 3, undone=8),
        run(LATE, "payment.capture", 4, status="refused"),
    ]
    reservations = [
        {"order_id": PLAIN, "sku": "lamp", "quantity": 1, "state": "sold"},
        {"order_id": LATE, "sku": "lamp", "quantity": 1, "state": "released"},
    ]
    books = Books(
        orders=[
            {"order_id": PLAIN, "amount": 10, "state": "completed", "reason": ""},
            {"order_id": LATE, "amount": 10, "state": "cancelled", "reason": "payment.declined.v1"},
        ],
        payments=[{"charge": "c", "order_id": PLAIN, "amount": 10}],
        stock=[{"sku": "lamp", "initial": 100, "free": 99}],
        reservations=reservations,
        parcels=[{"parcel": "p", "order_id": PLAIN}],
        runs=runs,
        entries=[
            entry(PLAIN, "authorized", 3),
            entry(PLAIN, "captured", 4),
            entry(LATE, "authorized", 3),
            entry(LATE, "voided", 7),
        ],
        open_authorizations=[],
    )
    return Facts(
        starts=[start(PLAIN, Ending.COMPLETED), start(LATE, Ending.COMPENSATED, Cause.REFUSED)],
        runs=runs,
        instances=[instance(PLAIN, "completed"), instance(LATE, "compensated")],
        outbox=[],
        waiting=[],
        gates=[],
        books=books,
    )


def receipts() -> Receipts:
    kinds = {PLAIN: "plain", LATE: "declined-late"}
    orders = {key: order_of(key, next(kind for kind in KINDS if kind.name == name)) for key, name in kinds.items()}
    return Receipts(orders=orders, sagas={key: saga_id_of("checkout", "", key) for key in orders})


def order_of(key: str, kind: Kind) -> Order:
    (drawn,) = fill(1, Random(1), [kind])
    return replace(drawn, placed=drawn.placed.model_copy(update={"order_id": key}))


def change_run(facts: Facts, order: str, step: str, **changes: object) -> Facts:
    saga_id = saga_id_of("checkout", "", order)
    runs = [{**row, **changes} if (row["saga_id"], row["step"]) == (saga_id, step) else row for row in facts.runs]
    return replace(facts, runs=runs, books=replace(facts.books, runs=runs))


def with_entries(facts: Facts, *more: Entry) -> Facts:
    return replace(facts, books=replace(facts.books, entries=[*facts.books.entries, *more]))


def without_run(facts: Facts, step: str) -> Facts:
    return replace(facts, runs=[row for row in facts.runs if row["step"] != step])


def test_nothing_is_wrong_with_what_is_right() -> None:
    assert audit(world(), receipts()) == []


def test_the_fixture_knows_every_run_of_a_completed_order() -> None:
    assert frozenset((*ORDERED, *AFTER)) == FORWARD


WRONG: dict[str, tuple[Callable[[Facts], Facts], str]] = {
    "a start is lost": (lambda f: replace(f, starts=f.starts[1:]), "no start row"),
    "an instance is lost": (lambda f: replace(f, instances=f.instances[1:]), "not known to the coordinator"),
    "a saga nobody started": (
        lambda f: replace(f, instances=[*f.instances, instance("o3", "completed")]),
        "nobody has",
    ),
    "an order started twice": (lambda f: replace(f, starts=[*f.starts, f.starts[0]]), "started 2 times"),
    "a run doubled": (lambda f: replace(f, runs=[*f.runs, f.runs[3]]), "ran 2 times"),
    "no outcome": (lambda f: replace(f, starts=[f.starts[0], start(LATE, None)]), "has no outcome"),
    "outcomes differ": (
        lambda f: replace(f, instances=[f.instances[0], instance(LATE, "completed")]),
        "the coordinator completed",
    ),
    "still open": (lambda f: replace(f, instances=[f.instances[0], instance(LATE, "closing")]), "is closing at"),
    "an ending that must not be": (
        lambda f: replace(f, starts=[f.starts[0], start(LATE, Ending.COMPLETED)]),
        "must not",
    ),
    "a step missing": (lambda f: without_run(f, "shipping.ship"), "shipping.ship is missing"),
    "a step undone after all": (lambda f: change_run(f, PLAIN, "orders.write_order", undo="done"), "has an undo"),
    "a step not undone": (lambda f: change_run(f, LATE, "inventory.reserve_stock", undo="none"), "stands"),
    "undone in the wrong order": (
        lambda f: change_run(f, LATE, "inventory.reserve_stock", undone_at=at(7)),
        "was undone before payment.authorize",
    ),
    "work pending": (lambda f: change_run(f, LATE, "payment.capture", pending_at=at(5)), "work pending"),
    "an intent left": (lambda f: change_run(f, LATE, "payment.capture", status="intent"), "is intent"),
    "charged twice": (lambda f: with_entries(f, entry(PLAIN, "captured", 9)), "captured order o1 2 times"),
    "charged after the void": (lambda f: with_entries(f, entry(LATE, "captured", 9)), "charged and voided"),
    "never voided": (
        lambda f: replace(f, books=replace(f.books, entries=f.books.entries[:-1])),
        "last word is authorized",
    ),
    "an outbox row": (
        lambda f: replace(f, outbox=[("orders", {"seq": 1, "type": "t", "aggregateid": "a"})]),
        "never published",
    ),
    "a delivery": (
        lambda f: replace(
            f,
            waiting=[
                (
                    "orders",
                    {
                        "saga_id": "a",
                        "topic": "t",
                        "service": "orders",
                        "reason": "dead",
                        "attempt": 1,
                        "error": "",
                    },
                )
            ],
        ),
        "waits at orders (dead",
    ),
    "goods held": (
        lambda f: replace(f, books=replace(f.books, stock=[{"sku": "lamp", "initial": 100, "free": 98}])),
        "lamp: 98 are free",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    spoil, sentence = WRONG[name]
    assert any(sentence in problem for problem in audit(spoil(world()), receipts())), audit(spoil(world()), receipts())
