"""Say what somebody may do to running sagas: the steps that an example is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hypothesis import strategies as st


class Kind(StrEnum):
    """Say which saga is meant: four steps in a row, or one with every shape."""

    SIMPLE = "simple"
    SHAPE = "shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Be an order and how its handlers behave."""

    kind: Kind = Kind.SIMPLE
    reserve: str = "ok"
    capture: str = "ok"
    ship: str = "ok"
    parcels: int = 0
    hotel: str = "ok"

    @property
    def is_lost(self) -> bool:
        """Return whether it can only be undone. Of three parcels, the second is too heavy."""
        if self.kind is Kind.SHAPE:
            return self.parcels == 3 or self.hotel == "full"
        return self.reserve in ("refuse", "refuse after write", "fail") or self.capture in ("refuse", "doubt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    order: Order
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    pick: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveKey:
    key: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    pick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Crash:
    """Die without a word, and come up again on the same database."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop, and come up again on the same database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Let the next calls of a handler fail or hang."""

    step: str
    times: int
    hangs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    pick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    pick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurry:
    """Retry whatever the saga waits for."""

    pick: int


Step = Place | Approve | ApproveKey | Cancel | Wait | Crash | Restart | Trouble | Hold | Release | Hurry

KEYS = ("k1", "k2")
picks = st.integers(0, 4)
people = st.sampled_from(["ada", "ada", "bob"])
simple_orders = st.builds(
    Order,
    reserve=st.sampled_from(["ok", "ok", "ok", "refuse", "refuse after write", "fail", "fail 2"]),
    capture=st.sampled_from(["ok", "ok", "ok", "refuse", "doubt", "fail 2"]),
    ship=st.sampled_from(["ok", "fail 7"]),
)
shape_orders = st.builds(
    Order, kind=st.just(Kind.SHAPE), parcels=st.integers(0, 3), hotel=st.sampled_from(["ok", "ok", "full"])
)
keys = st.sampled_from(["", "k1", "k1", "k2"])


def steps_of(orders: st.SearchStrategy[Order], longest_seconds: float) -> st.SearchStrategy[list[Step]]:
    """Return sequences of steps over such orders."""
    waits = [seconds for seconds in (0.0, 0.05, 1.0, 10.0, 40.0, 400.0) if seconds <= longest_seconds]
    places = st.builds(Place, order=orders, key=keys)
    one = st.one_of(
        places,
        places,
        st.builds(Approve, pick=picks, by=people),
        st.builds(ApproveKey, key=st.sampled_from(KEYS), by=people),
        st.builds(Cancel, pick=picks),
        st.builds(Wait, seconds=st.sampled_from(waits)),
        st.builds(Wait, seconds=st.sampled_from(waits)),
        st.just(Crash()),
        st.just(Restart()),
        st.builds(
            Trouble,
            step=st.sampled_from(["reserve", "capture", "ship", "release"]),
            times=st.integers(1, 4),
            hangs=st.booleans(),
        ),
        st.builds(Hold, pick=picks),
        st.builds(Release, pick=picks),
        st.builds(Hurry, pick=picks),
    )
    return st.tuples(places, st.lists(one, min_size=3, max_size=10)).map(lambda drawn: [drawn[0], *drawn[1]])
