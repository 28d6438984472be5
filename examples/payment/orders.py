"""Take orders, and tell each customer in the end what became of theirs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.payment.events import OrderPlaced, checkout
from saga import NOTHING, Ended, Ending, Run, Service

orders = Service("orders", migrations=Path(__file__).parent / "migrations" / "orders")

STATES = {Ending.COMPLETED: "completed", Ending.COMPENSATED: "cancelled", Ending.STUCK: "stuck"}

place = orders.starts(checkout, OrderPlaced)


@orders.retriable(checkout, timeout=timedelta(seconds=1), compensation=NOTHING)
async def write_order(order: OrderPlaced, run: Run) -> None:
    """Make the order visible while its saga runs; there is nothing to undo, as `settle` has the last word."""
    await run.db.execute(
        "insert into orders (order_id, amount, state, reason) values ($1, $2, 'open', '')",
        order.order_id,
        order.amount,
    )


@orders.on_end(checkout)
async def settle(end: Ended, run: Run) -> None:
    """Write how the saga ended; a saga can be over before `write_order` had its turn."""
    order = end.start
    assert isinstance(order, OrderPlaced)
    await run.db.execute(
        "insert into orders (order_id, amount, state, reason) values ($1, $2, $3, $4) "
        "on conflict (order_id) do update set state = excluded.state, reason = excluded.reason",
        order.order_id,
        order.amount,
        STATES[end.ending],
        reason_of(end),
    )


def reason_of(end: Ended) -> str:
    """Say in one line why a saga did not complete; empty when it did."""
    if end.ending is Ending.COMPLETED:
        return ""
    why = end.refusal_type or (end.cause.value if end.cause else "")
    return f"{why}: {end.detail}" if end.detail else why
