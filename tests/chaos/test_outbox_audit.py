"""The audit of the outbox run says a sentence for each thing that is wrong, and nothing when all is well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.chaos.outbox_audit import Found, Order, Sent, Written, audit, duplicates


def written(key: str | None, number: int) -> Written:
    uid = f"u-{key}-{number}"
    return Written(message_id=f"m-{key}-{number}", uid=uid, key=key, number=number)


def sent(offset: int, key: str, number: int, sequence: int | None = None) -> Sent:
    was = written(key, number)
    shown = f"{offset if sequence is None else sequence:020}"
    ids = {"message_id": was.message_id, "uid": was.uid}
    return Sent(partition=0, offset=offset, key=key, number=number, sequence=shown, **ids)


def order(ending: str | None, effects: Mapping[str, int], order_id: str = "o") -> Order:
    return Order(order_id=order_id, ending=ending, effects=effects)


NOTE = written(None, 0)
KEYED = (written("a", 1), written("a", 2), written("b", 1))
GOOD = Found(
    written=(*KEYED, NOTE),
    sent=(
        sent(0, "a", 1),
        sent(1, "b", 1),
        sent(2, "a", 2),
        sent(3, "a", 1, sequence=0),
        Sent(partition=1, offset=0, message_id="m-None-0", uid="u-None-0", key="m-None-0", number=0, sequence=""),
    ),
    handled={"kept": (*KEYED, NOTE), "shaken": (KEYED[1], KEYED[0], KEYED[2])},
    in_order=frozenset({"kept"}),
    unkeyed=frozenset({"kept"}),
    placed=("o", "p", "q"),
    orders=(
        order("completed", {"reserved": 1, "paid": 1}),
        order("compensated", {"reserved": 1, "released": 1}, "p"),
        order("compensated", {}, "q"),
    ),
    left=(),
)
PAID = {"reserved": 1, "paid": 1}


def test_a_good_run_has_no_problems() -> None:
    assert audit(GOOD) == []
    assert duplicates(GOOD) == 1


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (replace(GOOD, sent=(*GOOD.sent[1:3], *GOOD.sent[4:])), "lost: a 1"),
        (replace(GOOD, sent=GOOD.sent[:-1]), "lost: no key 0"),
        (replace(GOOD, sent=(*GOOD.sent, sent(9, "c", 1))), "made up: m-c-1"),
        (replace(GOOD, sent=(*GOOD.sent[:4], replace(GOOD.sent[4], uid="other"))), "changed: no key 0"),
        (replace(GOOD, sent=(sent(5, "a", 1, 0), *GOOD.sent[1:3], GOOD.sent[4])), "out of order: a 1 comes behind 2"),
        (replace(GOOD, sent=(sent(0, "a", 1, 7), *GOOD.sent[1:3], GOOD.sent[4])), "a: sequence 00000000000000000002"),
        (replace(GOOD, sent=(*GOOD.sent, sent(9, "a", 1, 9))), "a 1 has sequence"),
        (replace(GOOD, sent=(*GOOD.sent[:2], replace(GOOD.sent[2], partition=1), GOOD.sent[4])), "more than one"),
        (replace(GOOD, handled={"kept": (*KEYED, NOTE, NOTE)}), "kept has handled no key 0 (m-None-0) 2 times"),
        (replace(GOOD, handled={"kept": KEYED}), "kept has handled no key 0 (m-None-0) 0 times"),
        (replace(GOOD, handled={"shaken": KEYED[1:]}), "shaken has handled a 1 (m-a-1) 0 times"),
        (replace(GOOD, handled={"kept": (*KEYED, NOTE, written("c", 1))}), "u-c-1, which was never committed"),
        (replace(GOOD, handled={"kept": (KEYED[1], KEYED[0], KEYED[2], NOTE)}), "kept has handled a 1 behind 2"),
        (replace(GOOD, orders=GOOD.orders[1:]), "order o was committed and not started"),
        (replace(GOOD, placed=("o", "p")), "order q was never committed"),
        (replace(GOOD, orders=(*GOOD.orders, GOOD.orders[0])), "order o was started 2 times"),
        (replace(GOOD, orders=(order(None, PAID), *GOOD.orders[1:])), "order o has ended not at all"),
        (replace(GOOD, orders=(order("completed", {}), *GOOD.orders[1:])), "order o is completed and has {}"),
        (replace(GOOD, orders=(order("compensated", PAID), *GOOD.orders[1:])), "order o is compensated and has"),
        (replace(GOOD, left=("shop: outbox row 7 is left over",)), "outbox row 7"),
    ],
)
def test_each_thing_that_is_wrong_is_said(found: Found, words: str) -> None:
    problems = audit(found)
    assert any(words in problem for problem in problems), problems
