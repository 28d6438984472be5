from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from examples.payment.databases import Row
from examples.payment.events import Authorized, Captured, Declined, OrderPlaced, StockReserved
from examples.payment.gateway import Gateway, GatewayDown
from examples.payment.gateway_doors import LocalGateway
from examples.payment.heartbeat import BEAT_SECONDS, beat, is_alive
from examples.payment.ordering import order_of
from examples.payment.orders_http import orders_app
from examples.payment.payment import (
    NotVoided,
    authorize,
    capture,
    find_authorization,
    find_charge,
    use_gateway,
    void_authorization,
)
from examples.payment.services import SERVICES
from examples.payment.shipping import NoPlace, ship
from examples.payment.watch import Screen, Trail
from saga import NOT_FOUND, Run
from saga.app import App, Coordinator

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    use_gateway(LocalGateway(gateway))
    yield gateway
    gateway.close()


def reserved(card: str = "card-ok") -> StockReserved:
    return StockReserved(order_id="order-1", amount=500, card=card, city="Berlin")


def run(step: str, *, attempt: int = 1) -> Run:
    return Run(saga_id="saga-1", step=step, idempotency_key=step, attempt=attempt)


# --- handlers are plain functions -----------------------------------------------------------------------------


async def test_authorizes_captures_and_never_voids_what_was_captured(gateway: Gateway) -> None:
    authorized = await authorize(reserved(), run("authorize"))
    assert isinstance(authorized, Authorized)
    captured = await capture(authorized, run("capture"))
    assert isinstance(captured, Captured)
    assert captured.amount == 500
    with pytest.raises(NotVoided):
        await void_authorization(authorized, run("void"))
    assert [entry.what for entry in gateway.ledger()] == ["authorized", "captured"]


async def test_a_declined_card_is_a_refusal(gateway: Gateway) -> None:
    declined = await authorize(reserved("card-declined"), run("authorize"))
    assert declined == Declined(reason="declined by the bank")
    assert gateway.ledger() == []


async def test_a_probe_asks_and_never_acts(gateway: Gateway) -> None:
    assert await find_authorization(reserved(), run("authorize")) is NOT_FOUND
    assert gateway.ledger() == []
    authorized = await authorize(reserved(), run("authorize"))
    assert await find_authorization(reserved(), run("authorize")) == authorized


async def test_a_probe_finds_what_was_done(gateway: Gateway) -> None:
    authorized = await authorize(reserved("card-lost-answer"), run("authorize"))
    assert isinstance(authorized, Authorized)
    with pytest.raises(GatewayDown):
        await capture(authorized, run("capture"))
    captured = await find_charge(authorized, run("capture"))
    assert isinstance(captured, Captured)
    assert [entry.what for entry in gateway.ledger()] == ["authorized", "captured"]


async def test_the_ferry_is_full_three_times() -> None:
    captured = Captured(order_id="order-1", charge="charge-1", amount=500, city="Heligoland")
    for attempt in (1, 2, 3):
        with pytest.raises(NoPlace):
            await ship(captured, run("ship", attempt=attempt))


# --- the HTTP API of the orders service ------------------------------------------------------------------------


async def test_orders_are_taken_over_http(gateway: Gateway, tmp_path: Path) -> None:
    app = App(SERVICES, store=f"sqlite:///{tmp_path}/shop.db", transport="memory://", coordinator=Coordinator())
    order = OrderPlaced(order_id="o", sku="lamp", quantity=1, amount=100, card="card-ok", city="Berlin")
    api = httpx.ASGITransport(orders_app(app))
    async with app, httpx.AsyncClient(transport=api, base_url="http://orders") as client:
        placed = await client.post("/orders", content=order.model_dump_json())
        again = await client.post("/orders", content=order.model_dump_json())
        other = order.model_copy(update={"quantity": 2})
        conflict = await client.post("/orders", content=other.model_dump_json())
        malformed = await client.post("/orders", content=b"{}")
        end = await client.get(f"/sagas/{placed.json()['saga_id']}")
    assert (placed.status_code, again.json()) == (202, placed.json())
    assert (conflict.status_code, malformed.status_code) == (409, 400)
    assert end.json() == {"ending": "completed", "reason": ""}
    assert len(gateway.ledger()) == 2


def test_the_same_seed_makes_the_same_orders() -> None:
    assert order_of(7, 3) == order_of(7, 3)
    assert order_of(7, 3) != order_of(8, 3)
    assert len({order_of(7, number).order_id for number in range(50)}) == 50


# --- what is shown -----------------------------------------------------------------------------------------------


def row(status: str, *, undo: str = "none", undone_at: int | None = None, error: str = "") -> dict[str, object]:
    return {
        "saga_id": "saga-1",
        "step": "payment.authorize",
        "status": status,
        "undo": undo,
        "error": error,
        "created_at": 1,
        "done_at": None,
        "undone_at": undone_at,
    }


def test_a_trail_tells_only_what_is_new() -> None:
    trail = Trail()
    steps = [
        row("intent"),
        row("intent"),
        row("intent", error="down"),
        row("done"),
        row("done", undo="intent"),
        row("done", undo="done", undone_at=9),
        row("failed", error="down"),
        row("refused"),
    ]
    told = [news.what for step in steps for news in trail.fold([step])]
    assert told == ["calling", "no answer: down", "done", "undoing", "undone", "failed: down", "refused"]


@pytest.mark.parametrize("live", [True, False])
async def test_the_screen_shows_orders(capsys: pytest.CaptureFixture[str], *, live: bool) -> None:
    async def query(_: str) -> list[Row]:
        await anyio.lowlevel.checkpoint()
        return [row("done")]

    screen = Screen({"saga-1": "all-well"}, live=live)
    with anyio.move_on_after(0.3):
        await screen.follow(query)
    shown = capsys.readouterr().out
    assert "all-well" in shown
    assert "done" in shown


# --- the heartbeat -------------------------------------------------------------------------------------------------


async def test_a_process_is_alive_while_it_touches_its_file(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert not is_alive(str(file))
    assert not is_alive("")
    with anyio.move_on_after(0.2):
        await beat(str(file))
    assert is_alive(str(file))
    old = time.time() - 3 * BEAT_SECONDS - 1
    os.utime(file, (old, old))
    assert not is_alive(str(file))
    await beat("")
