"""Send the parcel. The money is ours by now, so there is no way back: try until it works."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.payment.events import Captured, Shipped, checkout
from saga import Retry, Run, Service

shipping = Service("shipping", migrations=Path(__file__).parent / "migrations" / "shipping")

# The ferry is fully booked: that many attempts find no place on it.
FULL_FERRIES = {"Heligoland": 3}


class NoPlace(Exception):
    """The carrier takes nothing right now."""


@shipping.retriable(checkout, timeout=timedelta(seconds=1), retry=Retry(base_seconds=0.2, cap_seconds=2.0))
async def ship(captured: Captured, run: Run) -> Shipped:
    if run.attempt <= FULL_FERRIES.get(captured.city, 0):
        msg = f"no place on the ferry to {captured.city}"
        raise NoPlace(msg)
    parcel = f"parcel-{captured.order_id}"
    await run.db.execute(
        "insert into parcel (parcel, order_id, city) values ($1, $2, $3)",
        parcel,
        captured.order_id,
        captured.city,
    )
    return Shipped(order_id=captured.order_id, parcel=parcel)
