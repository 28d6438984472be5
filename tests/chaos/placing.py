"""Place orders over HTTP while the other side dies: a start without an answer is repeated under its key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import anyio
import httpx

from examples.payment.events import OrderPlaced
from tests.chaos.audit import Receipts
from tests.chaos.basket import Order

ACCEPTED, CONFLICT = 202, 409
ANSWER_SECONDS = 5.0
LATER_SECONDS = (0.0, 8.0)
AT_ONCE = 16


class Placer:
    """Be the customers: every order is placed until its outcome is known, whatever happens to the service."""

    def __init__(self, client: httpx.AsyncClient, receipts: Receipts, rng: Random) -> None:
        """Use `client`, whose `base_url` is the orders service's."""
        self._client = client
        self._receipts = receipts
        self._rng = rng
        self._at_once = anyio.CapacityLimiter(AT_ONCE)

    async def place_all(self, orders: Sequence[Order], seconds: float) -> None:
        """Place the orders evenly over the time; returns when each is placed, also the second time."""
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for number, order in enumerate(orders):
                await anyio.sleep(max(0.0, began + seconds * number / len(orders) - time.monotonic()))
                tasks.start_soon(self.place, order)

    async def place(self, order: Order) -> None:
        """Place one order, and later again or another one under its key if that is its fate."""
        receipts = self._receipts
        receipts.orders[order.key] = order
        saga_id = await self._until_known(order.placed)
        if saga_id is None:
            receipts.complaints.append(f"order {order.key} was refused as a conflict at its first start")
            return
        receipts.sagas[order.key] = saga_id
        if order.again:
            await anyio.sleep(self._rng.uniform(*LATER_SECONDS))
            second = await self._until_known(order.placed)
            receipts.repeated += 1
            if second != saga_id:
                receipts.complaints.append(f"order {order.key} was saga {saga_id} first and {second} when repeated")
        if order.conflict:
            other = order.placed.model_copy(update={"amount": order.placed.amount + 1})
            receipts.conflicts += 1
            if await self._until_known(other) is not None:
                receipts.complaints.append(f"another order was accepted under the key {order.key}")

    async def _until_known(self, placed: OrderPlaced) -> str | None:
        """Return the saga's ID, None for a conflict; repeats the start while nobody can say what became of it."""
        pause, body = 0.1, placed.model_dump_json()
        while True:
            try:
                async with self._at_once:
                    answer = await self._client.post("/orders", content=body, timeout=ANSWER_SECONDS)
            except httpx.TransportError:
                self._receipts.unknown += 1
            else:
                if answer.status_code == ACCEPTED:
                    return str(answer.json()["saga_id"])
                if answer.status_code == CONFLICT:
                    return None
                if answer.is_client_error:
                    self._receipts.complaints.append(f"order {placed.order_id}: {answer.status_code} {answer.text}")
                    return None
                self._receipts.unknown += 1
            await anyio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(3.0, pause * 2)
