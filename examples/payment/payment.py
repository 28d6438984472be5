"""Take the money. The gateway is outside: these handlers run without a transaction, and their calls may get lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.payment.events import Authorized, Captured, Declined, StockReserved, checkout
from examples.payment.gateway import Answer
from examples.payment.gateway_doors import GatewayClient
from saga import NOT_FOUND, Dependency, NotFound, Retry, Run, Service

payment = Service("payment", migrations=Path(__file__).parent / "migrations" / "payment")
# A call that was given up may still hang at the gateway for some seconds; keys are known there for a day.
gateway = Dependency("gateway", concurrency=20, max_in_flight=timedelta(seconds=7), key_ttl=timedelta(hours=24))

CALLS = Retry(attempts=3, base_seconds=0.2, cap_seconds=1.0)
# Money left set aside on a card is somebody's trouble: give up only after minutes, and then a person sees it.
UNDO_CALLS = Retry(attempts=50, base_seconds=0.2, cap_seconds=10.0)


class NotVoided(Exception):
    """The gateway refused to give an amount free: a person has to look."""


_clients: list[GatewayClient] = []


def use_gateway(client: GatewayClient) -> None:
    """Choose the door to the gateway; whoever starts this service calls it first."""
    _clients[:] = [client]


def _gateway() -> GatewayClient:
    if not _clients:
        msg = "the payment service has no gateway: call use_gateway(client) before the app starts"
        raise RuntimeError(msg)
    return _clients[0]


@payment.step(checkout, calls=gateway, timeout=timedelta(seconds=1), retry=CALLS)
async def authorize(reserved: StockReserved, run: Run) -> Authorized | Declined:
    """Set the amount aside on the card. Every attempt carries the same key, so that the gateway does it once."""
    answer = await _gateway().authorize(
        run.idempotency_key, order_id=reserved.order_id, card=reserved.card, amount=reserved.amount
    )
    return _authorized(reserved, answer)


@authorize.confirm
async def find_authorization(reserved: StockReserved, run: Run) -> Authorized | Declined | NotFound:
    """Ask what came of a call that nobody heard of again."""
    answer = await _gateway().find(run.idempotency_key)
    return NOT_FOUND if answer is None else _authorized(reserved, answer)


def _authorized(reserved: StockReserved, answer: Answer) -> Authorized | Declined:
    if not answer.ok:
        return Declined(reason=answer.reason)
    return Authorized(
        order_id=reserved.order_id,
        authorization=answer.reference,
        amount=reserved.amount,
        city=reserved.city,
    )


@authorize.compensation(calls=gateway, timeout=timedelta(seconds=2), retry=UNDO_CALLS)
async def void_authorization(authorized: Authorized, run: Run) -> None:
    answer = await _gateway().void(run.idempotency_key, authorization=authorized.authorization)
    if not answer.ok:
        raise NotVoided(answer.reason)


@payment.pivot(checkout, calls=gateway, timeout=timedelta(seconds=2), retry=CALLS)
async def capture(authorized: Authorized, run: Run) -> Captured | Declined:
    """Take the amount that was set aside. Once the gateway says yes, the order only goes forward."""
    answer = await _gateway().capture(run.idempotency_key, authorization=authorized.authorization)
    return _captured(authorized, answer)


@capture.confirm
async def find_charge(authorized: Authorized, run: Run) -> Captured | Declined | NotFound:
    """Ask whether the money was taken."""
    answer = await _gateway().find(run.idempotency_key)
    return NOT_FOUND if answer is None else _captured(authorized, answer)


def _captured(authorized: Authorized, answer: Answer) -> Captured | Declined:
    if not answer.ok:
        return Declined(reason=answer.reason)
    return Captured(
        order_id=authorized.order_id,
        charge=answer.reference,
        amount=authorized.amount,
        city=authorized.city,
    )


@capture.recorded
async def write_payment(captured: Captured, run: Run) -> None:
    """Write the payment down in the transaction that stores the gateway's answer."""
    await run.db.execute(
        "insert into payment (charge, order_id, amount) values ($1, $2, $3)",
        captured.charge,
        captured.order_id,
        captured.amount,
    )
