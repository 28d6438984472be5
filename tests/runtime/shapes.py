"""Declare a world with every shape: fan-out and gather, a join, an event from outside, a delay, a child saga."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from saga import NOTHING, Ended, Event, Receive, Refusal, Retry, Run, Saga, Service, Start

QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)


class Ordered(Event, name="order.made", version=1):
    """Be an order of several parcels; the fields tell the handlers how to behave."""

    parcels: int = 2
    refuse: str = ""
    hotel: str = "ok"


class Packed(Event, name="parcel.packed", version=1):
    """Be one of the parcels."""

    number: int


class Weighed(Event, name="parcel.weighed", version=1):
    """Be one parcel with its weight."""

    number: int
    grams: int


class Loaded(Event, name="truck.loaded", version=1):
    """Be all parcels."""

    grams: int
    numbers: list[int]


class Checked(Event, name="order.checked", version=1):
    """Be the other way beside the parcels."""


class Booked(Event, name="trip.booked", version=1):
    """Be what the child saga came to."""

    hotel: str


class Approved(Event, name="order.approved", version=1):
    """Come from a person."""

    by: str


class Left(Event, name="truck.left", version=1):
    """Be the end."""

    by: str
    grams: int
    hotel: str


class TripWanted(Event, name="trip.wanted", version=1):
    """Start the child."""

    hotel: str


class HotelBooked(Event, name="hotel.booked", version=1):
    """Be booked."""


class TooHeavy(Refusal, name="parcel.too-heavy", version=1):
    """Refuse a parcel."""

    number: int


class HotelFull(Refusal, name="hotel.full", version=1):
    """Refuse a room."""


@dataclass
class ShapeWorld:
    """Hold the declarations and what the handlers have seen."""

    timeout: timedelta = timedelta(minutes=10)
    within: timedelta = timedelta(minutes=5)
    pause: timedelta = timedelta(seconds=90)
    seen: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    endings: list[Ended] = field(default_factory=list[Ended])
    services: list[Service] = field(init=False)
    place: Start[Ordered] = field(init=False)
    approve: Receive[Approved] = field(init=False)

    def __post_init__(self) -> None:  # noqa: C901, PLR0915 - one function for each step
        """Declare the parent `delivery` and the child `trip`."""
        delivery = Saga("delivery", version=1, timeout=self.timeout)
        trip = Saga("trip", version=1, timeout=timedelta(minutes=1))
        shop, depot, office, travel = map(Service, ("shop", "depot", "office", "travel"))
        self.services = [shop, depot, office, travel]
        self.place = shop.starts(delivery, Ordered)
        want = office.starts(trip, TripWanted)
        self.approve = office.receives(delivery, Approved)

        async def did(what: str, run: Run) -> None:
            name = f"{what}/{run.branch}" if run.branch else what
            self.seen.append((what, run.branch))
            await run.db.execute("insert into effect (run, name) values ($1, $2)", run.saga_id, name)

        async def undid(what: str, run: Run) -> None:
            name = f"{what}/{run.branch}" if run.branch else what
            self.seen.append((f"un{what}", run.branch))
            found = await run.db.execute("delete from effect where run = $1 and name = $2", run.saga_id, name)
            assert found == 1

        @depot.step(delivery)
        async def pack(order: Ordered, run: Run) -> list[Packed]:
            await did("pack", run)
            return [Packed(number=number) for number in range(1, order.parcels + 1)]

        @pack.compensation
        async def unpack(packed: list[Packed], order: Ordered, run: Run) -> None:
            assert len(packed) == order.parcels
            await undid("pack", run)

        @office.step(delivery, retry=QUICK)
        async def weigh(packed: Packed, run: Run) -> Weighed | TooHeavy:
            if run.attempt < 2 and packed.number == 2:
                msg = "the scales are stuck once"
                raise RuntimeError(msg)
            if run.branch == self.heavy:
                return TooHeavy(number=packed.number)
            await did("weigh", run)
            return Weighed(number=packed.number, grams=100 * packed.number)

        @weigh.compensation
        async def unweigh(weighed: Weighed, run: Run) -> None:
            assert weighed.grams == 100 * weighed.number
            await undid("weigh", run)

        @depot.join(delivery)
        async def load(parcels: list[Weighed], run: Run) -> Loaded:
            await did("load", run)
            return Loaded(grams=sum(p.grams for p in parcels), numbers=[p.number for p in parcels])

        @load.compensation
        async def unload(parcels: list[Weighed], loaded: Loaded, run: Run) -> None:
            assert sum(p.grams for p in parcels) == loaded.grams
            await undid("load", run)

        @shop.step(delivery, delay=self.pause, compensation=NOTHING)
        async def check(order: Ordered, run: Run) -> Checked:
            self.seen.append(("check", order.refuse))
            return Checked()

        @office.child(delivery, want)
        async def book(order: Ordered, run: Run) -> TripWanted:
            return TripWanted(hotel=order.hotel)

        @book.completed
        async def booked(end: Ended, run: Run) -> Booked:
            assert isinstance(end.start, TripWanted)
            return Booked(hotel=end.start.hotel)

        @travel.step(trip)
        async def hotel(wanted: TripWanted, run: Run) -> HotelBooked | HotelFull:
            if wanted.hotel == "full":
                return HotelFull()
            await did("hotel", run)
            return HotelBooked()

        @hotel.compensation
        async def unhotel(wanted: TripWanted, run: Run) -> None:
            await undid("hotel", run)

        @office.join(delivery, within=self.within)
        async def leave(
            loaded: Loaded, checked: Checked, trip: Booked, approved: Approved, run: Run
        ) -> Left | TooHeavy:
            if loaded.grams > 10_000:
                return TooHeavy(number=0)
            await did("leave", run)
            return Left(by=approved.by, grams=loaded.grams, hotel=trip.hotel)

        @leave.compensation
        async def unleave(left: Left, run: Run) -> None:
            await undid("leave", run)

        @shop.on_end(delivery)
        async def settle(end: Ended, run: Run) -> None:
            self.endings.append(end)

    heavy: str = ""
