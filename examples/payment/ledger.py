"""Add everything up: money, goods, the gateway's books, and the order in which things were undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from examples.payment.databases import Query, Row
from examples.payment.gateway import Entry

CHAIN = ("inventory.reserve_stock", "payment.authorize", "payment.capture")
"""The steps that cause one another; they are undone from right to left."""

RUNS = "select saga_id, step, status, undo, done_at, undone_at from saga_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Hold all rows that have to agree once every saga has ended."""

    orders: Sequence[Row]
    payments: Sequence[Row]
    stock: Sequence[Row]
    reservations: Sequence[Row]
    parcels: Sequence[Row]
    runs: Sequence[Row]
    entries: Sequence[Entry]
    open_authorizations: Sequence[str]

    def in_state(self, state: str) -> dict[str, int]:
        """Return the amounts of the orders in a state, by order."""
        return {row["order_id"]: row["amount"] for row in self.orders if row["state"] == state}

    def captured(self) -> list[Entry]:
        """Return what the gateway has charged."""
        return [entry for entry in self.entries if entry.what == "captured"]


async def read_books(
    databases: Mapping[str, Query], entries: Sequence[Entry], open_authorizations: Sequence[str]
) -> Books:
    """Read the books of all services; `databases` has one reader for each service, perhaps the same."""
    runs: list[Row] = []
    for query in dict.fromkeys(databases.values()):
        runs.extend(await query(RUNS))
    return Books(
        orders=await databases["orders"]("select order_id, amount, state, reason from orders"),
        payments=await databases["payment"]("select charge, order_id, amount from payment"),
        stock=await databases["inventory"]("select sku, initial, free from stock"),
        reservations=await databases["inventory"]("select order_id, sku, quantity, state from reservation"),
        parcels=await databases["shipping"]("select parcel, order_id from parcel"),
        runs=runs,
        entries=entries,
        open_authorizations=open_authorizations,
    )


def problems(books: Books) -> list[str]:
    """Return one sentence for everything that does not add up; empty when all is well."""
    return [*_orders(books), *_money(books), *_gateway(books), *_goods(books), *_undone(books)]


def undone_steps(runs: Sequence[Row], saga_id: str) -> list[str]:
    """Return the steps of a saga that were undone, in the order it happened."""
    mine = [row for row in runs if row["saga_id"] == saga_id and row["step"] in CHAIN]
    undone = [row for row in mine if row["status"] == "done" and row["undone_at"] is not None]
    return [row["step"] for row in sorted(undone, key=lambda row: row["undone_at"])]


def _orders(books: Books) -> Iterator[str]:
    for row in books.orders:
        if row["state"] not in ("completed", "cancelled"):
            yield f"order {row['order_id']} is {row['state']}"


def _money(books: Books) -> Iterator[str]:
    completed = books.in_state("completed")
    wanted, booked = sum(completed.values()), sum(row["amount"] for row in books.payments)
    charged = sum(entry.amount for entry in books.captured())
    if not wanted == booked == charged:
        yield f"completed orders are worth {wanted}, payments say {booked}, the gateway has charged {charged}"
    for order_id, times in Counter(entry.order_id for entry in books.captured()).items():
        if times > 1:
            yield f"order {order_id} was charged {times} times"
        if order_id not in completed:
            yield f"order {order_id} was charged but is not completed"
    paid = {row["order_id"] for row in books.payments}
    for order_id in sorted(completed.keys() ^ paid):
        yield f"order {order_id} is completed without a payment, or paid without being completed"


def _gateway(books: Books) -> Iterator[str]:
    for authorization in books.open_authorizations:
        yield f"{authorization} is still open at the gateway"
    for key, times in Counter(entry.key for entry in books.entries).items():
        if times > 1:
            yield f"the gateway has done {times} things for the key {key}"


def _goods(books: Books) -> Iterator[str]:
    sold: Counter[str] = Counter()
    for row in books.reservations:
        if row["state"] == "sold":
            sold[row["sku"]] += row["quantity"]
        elif row["state"] == "held":
            yield f"order {row['order_id']} still holds {row['quantity']} {row['sku']}"
    for row in books.stock:
        if row["free"] + sold[row["sku"]] != row["initial"]:
            yield (
                f"{row['sku']}: {row['free']} are free and {sold[row['sku']]} sold, "
                f"but there were {row['initial']} at first"
            )
    completed = books.in_state("completed").keys()
    for what, rows in (
        ("sold", [row for row in books.reservations if row["state"] == "sold"]),
        ("shipped", books.parcels),
    ):
        for order_id in sorted(completed ^ {row["order_id"] for row in rows}):
            yield f"order {order_id} is completed and not {what}, or {what} and not completed"


def _undone(books: Books) -> Iterator[str]:
    sagas: dict[str, dict[str, Row]] = {}
    for row in books.runs:
        if row["step"] in CHAIN and row["status"] == "done":
            sagas.setdefault(row["saga_id"], {})[row["step"]] = row
    for saga_id, runs in sagas.items():
        for cause, effect in pairwise(runs[step] for step in CHAIN if step in runs):
            if cause["done_at"] > effect["done_at"]:
                yield f"saga {saga_id}: {effect['step']} was done before {cause['step']}, its cause"
            if cause["undone_at"] is None:
                continue
            if effect["undone_at"] is None:
                yield f"saga {saga_id}: {cause['step']} is undone, {effect['step']} after it is not"
            elif effect["undone_at"] > cause["undone_at"]:
                yield f"saga {saga_id}: {cause['step']} was undone before {effect['step']}"
