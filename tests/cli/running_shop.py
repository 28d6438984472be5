"""Be a small saga that runs, for `saga doctor` to look at while it does."""

from __future__ import annotations

from saga import NOTHING, Event, Run, Saga, Service

booking = Saga("booking", version=1)
desk, rooms = Service("desk"), Service("rooms")


class Asked(Event, name="room.asked", version=1):
    guest: str


class Booked(Event, name="room.booked", version=1):
    guest: str


ask = desk.starts(booking, Asked)


@rooms.step(booking, compensation=NOTHING)
async def book(asked: Asked, run: Run) -> Booked:
    return Booked(guest=asked.guest)


services = [desk, rooms]
