"""Lead to the gateway: the port the payment service calls, and the door for one process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import anyio

from examples.payment.gateway import Answer, Gateway, Wait


class GatewayClient(Protocol):
    """Be how the payment service talks to the gateway. Every method raises GatewayDown."""

    async def authorize(self, key: str, *, order_id: str, card: str, amount: int) -> Answer:
        """Set an amount aside on a card."""
        ...

    async def capture(self, key: str, *, authorization: str) -> Answer:
        """Take an amount that was set aside."""
        ...

    async def void(self, key: str, *, authorization: str) -> Answer:
        """Give an amount free that was set aside."""
        ...

    async def find(self, key: str) -> Answer | None:
        """Return the answer of an earlier call, None when nothing is known of it."""
        ...


def utc_now() -> datetime:
    return datetime.now(UTC)


async def wait_out(gateway: Gateway, found: Answer | Wait, now: Callable[[], datetime] = utc_now) -> Answer:
    """Return the answer, after as long as the call hangs."""
    if isinstance(found, Answer):
        return found
    await anyio.sleep(max(0.0, (found.until - now()).total_seconds()) + 0.001)
    return gateway.answer_to(found.key, now=now())


class LocalGateway:
    """Be the door to a gateway in the same process; `now` is the time it goes by."""

    def __init__(self, gateway: Gateway, *, now: Callable[[], datetime] = utc_now) -> None:
        self._gateway = gateway
        self._now = now

    async def authorize(self, key: str, *, order_id: str, card: str, amount: int) -> Answer:
        found = self._gateway.authorize(key, order_id=order_id, card=card, amount=amount, now=self._now())
        return await wait_out(self._gateway, found, self._now)

    async def capture(self, key: str, *, authorization: str) -> Answer:
        found = self._gateway.capture(key, authorization=authorization, now=self._now())
        return await wait_out(self._gateway, found, self._now)

    async def void(self, key: str, *, authorization: str) -> Answer:
        found = self._gateway.void(key, authorization=authorization, now=self._now())
        return await wait_out(self._gateway, found, self._now)

    async def find(self, key: str) -> Answer | None:
        return self._gateway.find(key, now=self._now())
