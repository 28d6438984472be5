"""Make the orders of a run: what is bought, what goes wrong with it, and what may come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from examples.payment.events import OrderPlaced
from saga import Ending

EITHER = frozenset({Ending.COMPLETED, Ending.COMPENSATED})
COMPENSATED = Ending.COMPENSATED
UNDONE = frozenset({COMPENSATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Be one sort of order; `endings` are those it may come to while processes die all around it.

    An order nobody objects to may still be undone: its deadline goes on while a service is dead.
    `undisturbed` is how it ends when nothing dies.
    """

    name: str
    share: int
    sku: str = "lamp"
    card: str = "card-ok"
    city: str = "Berlin"
    endings: frozenset[Ending] = EITHER
    undisturbed: Ending = Ending.COMPLETED


KINDS = (
    Kind(name="plain", share=52),
    Kind(name="answer-lost", share=4, card="card-lost-answer"),
    Kind(name="gateway-flaky", share=4, card="card-flaky"),
    Kind(name="ferry-full", share=6, city="Heligoland"),
    Kind(name="last-vase", share=2, sku="last-vase"),
    Kind(name="out-of-stock", share=10, sku="unicorn", endings=UNDONE, undisturbed=COMPENSATED),
    Kind(name="card-declined", share=8, card="card-declined", endings=UNDONE, undisturbed=COMPENSATED),
    Kind(name="declined-late", share=7, card="card-declined-late", endings=UNDONE, undisturbed=COMPENSATED),
    Kind(name="gateway-down", share=3, card="card-down", undisturbed=COMPENSATED),
    Kind(name="gateway-hangs", share=2, card="card-hangs"),
    Kind(name="hangs-declined", share=2, card="card-hangs-declined", endings=UNDONE, undisturbed=COMPENSATED),
)

TWICE = 0.15
"""The share of orders placed again later under the same key."""
CONFLICTING = 0.03
"""The share of orders under whose key somebody then places another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Be one order of a run. `again` says that it is placed twice, `conflict` that its key is misused later."""

    kind: Kind
    placed: OrderPlaced
    again: bool
    conflict: bool

    @property
    def key(self) -> str:
        """Return the business key of its start."""
        return self.placed.order_id


def fill(count: int, rng: Random, kinds: Sequence[Kind] = KINDS) -> tuple[Order, ...]:
    """Return `count` orders; every kind occurs at least once if there is room for it."""
    drawn = list(kinds[:count])
    drawn += rng.choices(kinds, weights=[kind.share for kind in kinds], k=count - len(drawn))
    rng.shuffle(drawn)
    return tuple(_order(number, kind, rng) for number, kind in enumerate(drawn))


def _order(number: int, kind: Kind, rng: Random) -> Order:
    placed = OrderPlaced(
        order_id=f"o{number:05d}-{kind.name}",
        sku=kind.sku,
        quantity=1 if kind.sku == "last-vase" else rng.randint(1, 3),
        amount=rng.randint(100, 20_000),
        card=kind.card,
        city=kind.city,
    )
    fate = rng.random()
    return Order(kind=kind, placed=placed, again=fate < TWICE, conflict=TWICE <= fate < TWICE + CONFLICTING)
