"""Order things: the same orders for the same seed, over the HTTP API of the orders service."""

from __future__ import annotations

import random
import time
from collections import Counter

import anyio
import httpx

from examples.payment.events import OrderPlaced
from examples.payment.settings import Settings

CARDS = {"card-ok": 80, "card-declined": 5, "card-declined-late": 5, "card-flaky": 5, "card-lost-answer": 5}
SKUS = {"lamp": 60, "chair": 35, "unicorn": 5}
CITIES = {"Berlin": 95, "Heligoland": 5}
AT_ONCE = 20


def order_of(seed: int, number: int) -> OrderPlaced:
    """Return an order, the same for the same seed and number."""
    draw = random.Random(f"{seed}/{number}")
    quantity = draw.randint(1, 3)
    return OrderPlaced(
        order_id=f"order-{seed}-{number}",
        sku=_drawn(draw, SKUS),
        quantity=quantity,
        amount=quantity * draw.randint(100, 9_999),
        card=_drawn(draw, CARDS),
        city=_drawn(draw, CITIES),
    )


def _drawn(draw: random.Random, weights: dict[str, int]) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]


async def place_orders(settings: Settings, *, count: int, seed: int, wait_seconds: float) -> bool:
    """Place orders and wait for their ends; return whether all of them ended.

    A call that gets no answer is made again: the key makes that safe.
    """
    ends: Counter[str] = Counter()
    at_once = anyio.CapacityLimiter(AT_ONCE)
    until = time.monotonic() + wait_seconds
    started = time.monotonic()

    async def one(number: int) -> None:
        async with at_once:
            ends[await _order(client, order_of(seed, number), until)] += 1

    client = httpx.AsyncClient(base_url=settings.orders_url, timeout=30.0)
    async with client, anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    print(f"{count} orders: {dict(ends)} after {time.monotonic() - started:.1f} s", flush=True)
    return ends["completed"] + ends["compensated"] == count


async def _order(client: httpx.AsyncClient, order: OrderPlaced, until: float) -> str:
    while time.monotonic() < until:
        try:
            placed = await client.post("/orders", content=order.model_dump_json())
            if placed.is_success:
                saga = f"/sagas/{placed.json()['saga_id']}"
                return await _end(client, saga, until)
        except httpx.HTTPError:
            pass  # asked again: the key makes that safe
        await anyio.sleep(0.5)
    return "not placed"


async def _end(client: httpx.AsyncClient, saga: str, until: float) -> str:
    ending = "open"
    while ending == "open" and time.monotonic() < until:
        ending = (await client.get(saga)).raise_for_status().json()["ending"]
    return ending
