"""Declare a small shop: three services, one refusal, an outside call, tables of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from saga import Dependency, Ended, Event, Purpose, Refusal, Retry, Run, Saga, Service
from saga._core.start import Start

QUICK = Retry(attempts=3, base_seconds=0.2, cap_seconds=1.0)
SECONDS = timedelta(seconds=5)
MIGRATIONS = Path(__file__).parent / "migrations"


class OrderPlaced(Event, name="order.placed", version=1):
    order: str
    sku: str = "book"


class StockReserved(Event, name="stock.reserved", version=1):
    order: str


class OutOfStock(Refusal, name="stock.out", version=1):
    sku: str


class Captured(Event, name="payment.captured", version=1):
    order: str


class Declined(Refusal, name="payment.declined", version=1):
    reason: str


class Shipped(Event, name="order.shipped", version=1):
    order: str


@dataclass
class Bank:
    """Charge once for each key, and remember every charge."""

    answers: dict[str, bool] = field(default_factory=dict[str, bool])
    charges: list[str] = field(default_factory=list[str])

    def charge(self, key: str, order: str) -> bool:
        if key not in self.answers:
            self.answers[key] = True
            self.charges.append(order)
        return self.answers[key]

    def settle(self, key: str) -> bool:
        return self.answers.setdefault(key, False)


class Shop:
    """Hold the declarations; a bug is planted by replacing a function before the app is made."""

    orders: Service
    place: Start[OrderPlaced]

    def __init__(self) -> None:
        saga = Saga("checkout", version=1, timeout=timedelta(minutes=1))
        self.orders = Service("orders", migrations=MIGRATIONS / "orders")
        self.inventory = Service("inventory", migrations=MIGRATIONS / "inventory")
        self.payment, self.shipping = Service("payment"), Service("shipping", migrations=MIGRATIONS / "shipping")
        self.bank = Bank()
        self.place = self.orders.starts(saga, OrderPlaced)

        @self.inventory.step(saga, timeout=SECONDS, retry=QUICK)
        async def reserve_stock(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
            await self.before_reserve(order, run)
            row = await run.db.fetch_one(
                "update stock set free = free - 1 where sku = $1 and free > 0 returning sku", order.sku
            )
            return StockReserved(order=order.order) if row else OutOfStock(sku=order.sku)

        @reserve_stock.compensation
        async def release_stock(order: OrderPlaced, run: Run) -> None:
            await self.release(order, run)

        @self.payment.pivot(saga, timeout=SECONDS, retry=QUICK, calls=Dependency("bank"))
        async def capture(reserved: StockReserved, run: Run) -> Captured | Declined:
            key = self.key_of(run)
            done = self.bank.settle(key) if run.purpose is Purpose.RESOLVE else self.bank.charge(key, reserved.order)
            return Captured(order=reserved.order) if done else Declined(reason="void")

        @self.shipping.retriable(saga, timeout=SECONDS, retry=QUICK)
        async def ship(captured: Captured, run: Run) -> Shipped:
            await run.db.execute("insert into parcel (order_id) values ($1)", captured.order)
            return Shipped(order=captured.order)

        @self.orders.on_end(saga)
        async def settle(end: Ended, run: Run) -> None:
            await run.db.execute("insert into ended (saga_id, ending) values ($1, $2)", end.saga_id, end.ending.value)

        self.reserve_stock, self.release_stock, self.capture, self.ship = reserve_stock, release_stock, capture, ship
        self.settle = settle

    @property
    def services(self) -> tuple[Service, ...]:
        return (self.orders, self.inventory, self.payment, self.shipping)

    # --- where bugs are planted ---

    async def before_reserve(self, order: OrderPlaced, run: Run) -> None:
        pass

    async def release(self, order: OrderPlaced, run: Run) -> None:
        await run.db.execute("update stock set free = free + 1 where sku = $1", order.sku)

    def key_of(self, run: Run) -> str:
        return run.idempotency_key
