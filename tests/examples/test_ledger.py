from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from examples.payment.gateway import Entry
from examples.payment.ledger import CHAIN, Books, problems, undone_steps

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(what: str, order_id: str, amount: int, key: str) -> Entry:
    return Entry(at=NOW, what=what, key=key, authorization=f"auth-{order_id}", order_id=order_id, amount=amount)


def run(saga_id: str, step: str, done_at: int, undone_at: int | None = None) -> dict[str, Any]:
    return {
        "saga_id": saga_id,
        "step": step,
        "status": "done",
        "undo": "none" if undone_at is None else "done",
        "done_at": done_at,
        "undone_at": undone_at,
    }


RESERVE, AUTHORIZE, CAPTURE = CHAIN

# One order went through and one was undone.
SOUND = Books(
    orders=(
        {"order_id": "good", "amount": 500, "state": "completed", "reason": ""},
        {"order_id": "bad", "amount": 300, "state": "cancelled", "reason": "declined"},
    ),
    payments=({"charge": "charge-1", "order_id": "good", "amount": 500},),
    stock=({"sku": "lamp", "initial": 10, "free": 8},),
    reservations=(
        {"order_id": "good", "sku": "lamp", "quantity": 2, "state": "sold"},
        {"order_id": "bad", "sku": "lamp", "quantity": 3, "state": "released"},
    ),
    parcels=({"parcel": "parcel-good", "order_id": "good"},),
    runs=(
        run("saga-good", RESERVE, 1),
        run("saga-good", AUTHORIZE, 2),
        run("saga-good", CAPTURE, 3),
        run("saga-bad", RESERVE, 1, 9),
        run("saga-bad", AUTHORIZE, 2, 8),
    ),
    entries=(
        entry("authorized", "good", 500, "k1"),
        entry("captured", "good", 500, "k2"),
        entry("authorized", "bad", 300, "k3"),
        entry("voided", "bad", 300, "k4"),
    ),
    open_authorizations=(),
)


def test_sound_books_have_no_problems() -> None:
    assert problems(SOUND) == []


def test_tells_what_was_undone_in_order() -> None:
    assert undone_steps(SOUND.runs, "saga-bad") == [AUTHORIZE, RESERVE]
    assert undone_steps(SOUND.runs, "saga-good") == []


Spoil = Callable[[Books], Books]

PLANTED: dict[str, tuple[Spoil, str]] = {
    "an order never ended": (
        lambda b: replace(b, orders=(*b.orders, {"order_id": "new", "amount": 1, "state": "open", "reason": ""})),
        "order new is open",
    ),
    "a payment is missing": (lambda b: replace(b, payments=()), "payments say 0"),
    "an amount is wrong": (
        lambda b: replace(b, payments=({"charge": "charge-1", "order_id": "good", "amount": 400},)),
        "payments say 400",
    ),
    "charged twice": (
        lambda b: replace(b, entries=(*b.entries, entry("captured", "good", 500, "k5"))),
        "order good was charged 2 times",
    ),
    "charged though undone": (
        lambda b: replace(b, entries=(*b.entries, entry("captured", "bad", 300, "k5"))),
        "order bad was charged but is not completed",
    ),
    "one key did two things": (
        lambda b: replace(b, entries=(*b.entries, entry("voided", "bad", 300, "k4"))),
        "2 things for the key k4",
    ),
    "an authorization is left": (lambda b: replace(b, open_authorizations=("auth-x",)), "auth-x is still open"),
    "goods are lost": (
        lambda b: replace(b, stock=({"sku": "lamp", "initial": 10, "free": 7},)),
        "lamp: 7 are free and 2 sold",
    ),
    "a reservation is left": (
        lambda b: replace(
            b,
            reservations=(b.reservations[0], {"order_id": "bad", "sku": "lamp", "quantity": 3, "state": "held"}),
        ),
        "order bad still holds 3 lamp",
    ),
    "nothing was shipped": (lambda b: replace(b, parcels=()), "order good is completed and not shipped"),
    "shipped though undone": (
        lambda b: replace(b, parcels=(*b.parcels, {"parcel": "p", "order_id": "bad"})),
        "order bad is completed and not shipped, or shipped and not completed",
    ),
    "undone in the wrong order": (
        lambda b: replace(b, runs=(run("saga-bad", RESERVE, 1, 7), run("saga-bad", AUTHORIZE, 2, 8))),
        f"{RESERVE} was undone before {AUTHORIZE}",
    ),
    "undone below a standing effect": (
        lambda b: replace(b, runs=(run("saga-bad", RESERVE, 1, 7), run("saga-bad", AUTHORIZE, 2))),
        f"{RESERVE} is undone, {AUTHORIZE} after it is not",
    ),
    "done before its cause": (
        lambda b: replace(b, runs=(run("saga-bad", RESERVE, 5), run("saga-bad", AUTHORIZE, 2))),
        f"{AUTHORIZE} was done before {RESERVE}",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_finds_what_was_planted(planted: str) -> None:
    spoil, sentence = PLANTED[planted]
    found = problems(spoil(SOUND))
    assert any(sentence in problem for problem in found), found
