"""Hold the code of a small saga that the tests write, change and import."""

from __future__ import annotations

SERVICES = """
from __future__ import annotations
from datetime import timedelta
from saga import Event, NOTHING, Refusal, Run, Saga, Service

booking = Saga("booking", version=1)
desk, rooms = Service("desk"), Service("rooms")

class Asked(Event, name="room.asked", version=1):
    guest: str

class Booked(Event, name="room.booked", version=1):
    guest: str

class Full(Refusal, name="rooms.full", version=1):
    pass

ask = desk.starts(booking, Asked)

@rooms.step(booking, timeout=timedelta(seconds=5), compensation=NOTHING)
async def book(asked: Asked, run: Run) -> Booked | Full: ...

services = [desk, rooms]
number = 7
"""

MAILER = """
from __future__ import annotations
from datetime import timedelta
from saga import NOTHING, Event, Run, Saga, Service

booking = Saga("booking", version=1)
mailer = Service("mailer")

class Booked(Event, name="room.booked", version=1):
    guest: str

@mailer.retriable(booking, compensation=NOTHING)
async def mail(booked: Booked, run: Run) -> None: ...
""".replace("import Event,", "import NOTHING, Event,")

FLOW = "desk.start -> rooms.book"
