"""Say what the demo lets happen, and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass

from examples.payment.events import OrderPlaced
from saga import Ending

RESERVE, AUTHORIZE = "inventory.reserve_stock", "payment.authorize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Be one order and its expected end.

    `causes` are the reasons allowed for a compensation: a refusal's wire type, or the coordinator's word.
    `undone` are the steps that must be undone, in this order.
    """

    name: str
    story: str
    order: OrderPlaced
    ending: Ending
    causes: frozenset[str] = frozenset()
    undone: tuple[str, ...] = ()


def _order(name: str, *, sku: str = "lamp", card: str = "card-ok", city: str = "Berlin") -> OrderPlaced:
    return OrderPlaced(order_id=name, sku=sku, quantity=2, amount=4_990, card=card, city=city)


def _completed(name: str, story: str, *, card: str = "card-ok", city: str = "Berlin") -> Scenario:
    order = _order(name, card=card, city=city)
    return Scenario(name=name, story=story, order=order, ending=Ending.COMPLETED)


AWAY = _completed("coordinator-away", "no coordinator until the deadline has passed: it finds the order finished")

SCENARIOS = (
    _completed("all-well", "reserved, paid, shipped"),
    Scenario(
        name="out-of-stock",
        story="there are no unicorns",
        order=_order("out-of-stock", sku="unicorn"),
        ending=Ending.COMPENSATED,
        causes=frozenset({"stock.out.v1"}),
    ),
    Scenario(
        name="card-declined",
        story="the bank says no at once",
        order=_order("card-declined", card="card-declined"),
        ending=Ending.COMPENSATED,
        causes=frozenset({"payment.declined.v1"}),
        undone=(RESERVE,),
    ),
    Scenario(
        name="declined-late",
        story="the bank says no when the money is to be taken",
        order=_order("declined-late", card="card-declined-late"),
        ending=Ending.COMPENSATED,
        causes=frozenset({"payment.declined.v1"}),
        undone=(AUTHORIZE, RESERVE),
    ),
    _completed("gateway-flaky", "the gateway answers the third call", card="card-flaky"),
    _completed(
        "answer-lost", "charged, but the answer is lost: the second call must not charge", card="card-lost-answer"
    ),
    Scenario(
        name="gateway-down",
        story="the gateway is down until all attempts are used up, and repaired later",
        order=_order("gateway-down", card="card-down"),
        ending=Ending.COMPENSATED,
        causes=frozenset({"failed"}),
        undone=(RESERVE,),
    ),
    _completed("ferry-full", "paid, but the ferry is full three times: only forward", city="Heligoland"),
    _completed(
        "gateway-hangs",
        "the deadline passes while the capture hangs; it succeeds, so the order goes forward",
        card="card-hangs",
    ),
    Scenario(
        name="hangs-declined",
        story="the deadline passes while the capture hangs; it is declined, so all is undone",
        order=_order("hangs-declined", card="card-hangs-declined"),
        ending=Ending.COMPENSATED,
        causes=frozenset({"deadline", "payment.declined.v1"}),
        undone=(AUTHORIZE, RESERVE),
    ),
    _completed("placed-twice", "the same order placed twice is one order; another one under its key is refused"),
)
