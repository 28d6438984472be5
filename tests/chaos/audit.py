"""Compare every row that is left with every other: pure, one sentence for each thing that is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from examples.payment import ledger
from examples.payment.databases import Row
from saga._core.ids import saga_id_of
from saga._core.words import Ending
from tests.chaos.basket import Order
from tests.chaos.facts import START, Facts, Start

FORWARD = frozenset(
    {
        START,
        "orders.write_order",
        "inventory.reserve_stock",
        "payment.authorize",
        "payment.capture",
        "inventory.sell_stock",
        "shipping.ship",
    }
)
"""The runs of an order that has completed, each exactly once."""

ORDER_STATES = {Ending.COMPLETED: "completed", Ending.COMPENSATED: "cancelled", Ending.STUCK: "stuck"}


@dataclass(slots=True, kw_only=True)
class Receipts:
    """Hold what the placing side was told: the saga of each order, and what went against the promises."""

    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    sagas: dict[str, str] = field(default_factory=dict[str, str])
    complaints: list[str] = field(default_factory=list[str])
    unknown: int = 0
    repeated: int = 0
    conflicts: int = 0
    dropped: int = 0


def audit(facts: Facts, receipts: Receipts) -> list[str]:
    """Return everything that is wrong; empty when nothing was lost, doubled or stuck and all adds up."""
    return [
        *receipts.complaints,
        *_lost(facts, receipts),
        *_doubled(facts),
        *_left_over(facts),
        *_unfinished(facts),
        *_outcomes(facts, receipts),
        *_runs(facts),
        *_causal(facts),
        *_gateway(facts),
        *ledger.problems(facts.books),
    ]


def open_sagas(facts: Facts) -> int:
    """Return how many sagas have not ended as far as their starters know."""
    return sum(start.ending is None for start in facts.starts)


# --- lost, doubled, left over --------------------------------------------------------------------------------


def _lost(facts: Facts, receipts: Receipts) -> Iterator[str]:
    started = {start.saga_id for start in facts.starts}
    known = {row["saga_id"] for row in facts.instances}
    for order_id, saga_id in receipts.sagas.items():
        if saga_id != saga_id_of("checkout", "", order_id):
            yield f"order {order_id} was given saga {saga_id}, which is not the one of its key"
        if saga_id not in started:
            yield f"lost: order {order_id} was accepted as saga {saga_id}, which has no start row"
    for order_id in sorted(receipts.orders.keys() - receipts.sagas.keys()):
        yield f"order {order_id} was never accepted"
    for saga_id in sorted(started - known):
        yield f"lost: saga {saga_id} is not known to the coordinator"
    for saga_id in sorted(known - started):
        yield f"the coordinator knows saga {saga_id}, which nobody has started"
    for start in facts.starts:
        if start.order_id not in receipts.orders:
            yield f"saga {start.saga_id} is of order {start.order_id}, which nobody has placed"


def _doubled(facts: Facts) -> Iterator[str]:
    for order_id, times in Counter(start.order_id for start in facts.starts).items():
        if times > 1:
            yield f"doubled: order {order_id} was started {times} times"
    runs = Counter((row["saga_id"], row["step"], row["branch"]) for row in facts.runs)
    for (saga_id, step, branch), times in runs.items():
        if times > 1 or branch:
            yield f"doubled: {step} of saga {saga_id} ran {times} times, branch {branch!r}"


def _left_over(facts: Facts) -> Iterator[str]:
    for name, row in facts.outbox:
        yield f"{name}: outbox row {row['seq']} ({row['type']} of {row['aggregateid']}) was never published"
    for name, row in facts.waiting:
        yield (
            f"{name}: a delivery of saga {row['saga_id']} from {row['topic']} waits at {row['service']} "
            f"({row['reason']}, attempt {row['attempt']}: {row['error']})"
        )
    for name, row in facts.gates:
        if row["state"] == "closing":
            yield f"{name}: the gate of saga {row['saga_id']} at {row['service']} is still closing"


def _unfinished(facts: Facts) -> Iterator[str]:
    for row in facts.runs:
        if row["pending_at"] is not None:
            yield f"{row['step']} of saga {row['saga_id']} has outside work pending ({row['error']})"
        if row["status"] in ("intent", "waiting") and row["undo"] != "done":
            yield f"{row['step']} of saga {row['saga_id']} is {row['status']}, undo {row['undo']}"
    for row in facts.instances:
        if row["phase"] not in ("completed", "compensated"):
            yield f"stuck: saga {row['saga_id']} is {row['phase']} at the coordinator: {bytes(row['state']).decode()}"
        if row["due_at"] is not None and row["phase"] in ("completed", "compensated"):
            yield f"saga {row['saga_id']} has ended and still has a due time"


# --- one story ------------------------------------------------------------------------------------------------


def _outcomes(facts: Facts, receipts: Receipts) -> Iterator[str]:
    phases = {row["saga_id"]: row["phase"] for row in facts.instances}
    states = {row["order_id"]: row["state"] for row in facts.books.orders}
    for start in facts.starts:
        if start.ending is None:
            yield f"stuck: the start of order {start.order_id} (saga {start.saga_id}) has no outcome"
            continue
        phase, state = phases.get(start.saga_id, "nothing"), states.get(start.order_id, "nothing")
        if phase != start.ending.value or state != ORDER_STATES[start.ending]:
            yield (
                f"order {start.order_id} (saga {start.saga_id}): its start says {start.ending.value}, "
                f"the coordinator {phase}, the order row {state}"
            )
        order = receipts.orders.get(start.order_id)
        if order is not None and start.ending not in order.kind.endings:
            yield f"order {start.order_id} ended {start.ending.value}, which {order.kind.name} must not"
    for order_id in sorted(states.keys() - {start.order_id for start in facts.starts}):
        yield f"there is an order row {order_id} without a start"


def _runs(facts: Facts) -> Iterator[str]:
    by_saga: defaultdict[str, list[Row]] = defaultdict(list)
    for row in facts.runs:
        by_saga[row["saga_id"]].append(row)
    for start in facts.starts:
        yield from _runs_of(start, by_saga[start.saga_id])


def _runs_of(start: Start, rows: Sequence[Row]) -> Iterator[str]:
    done = {row["step"] for row in rows if row["status"] == "done"}
    if start.ending is Ending.COMPLETED:
        for step in sorted(FORWARD ^ done):
            yield f"order {start.order_id} completed, but {step} is {'missing' if step in FORWARD else 'too much'}"
        for row in rows:
            if row["undo"] != "none" or row["undone_at"] is not None:
                yield f"order {start.order_id} completed, but {row['step']} has an undo ({row['undo']})"
    if start.ending is Ending.COMPENSATED:
        for row in rows:
            if row["step"] != START and row["status"] == "done" and row["undo"] != "done":
                yield f"order {start.order_id} was compensated, but {row['step']} stands (undo {row['undo']})"


def _causal(facts: Facts) -> Iterator[str]:
    """Check done and undone along the chain, on the database's clock, both strictly."""
    chains: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for row in facts.runs:
        if row["step"] in ledger.CHAIN and row["status"] == "done":
            chains[row["saga_id"]][row["step"]] = row
    for saga_id, runs in chains.items():
        for cause, effect in pairwise(runs[step] for step in ledger.CHAIN if step in runs):
            if cause["done_at"] >= effect["done_at"]:
                yield f"saga {saga_id}: {effect['step']} was done before its cause {cause['step']}"
            first, then = effect["undone_at"], cause["undone_at"]
            if first is not None and then is not None and first >= then:
                yield f"saga {saga_id}: {cause['step']} was undone before {effect['step']}, which depends on it"


# --- the gateway's own books -----------------------------------------------------------------------------------


def _gateway(facts: Facts) -> Iterator[str]:
    endings: Mapping[str, Ending | None] = {start.order_id: start.ending for start in facts.starts}
    told: defaultdict[str, list[str]] = defaultdict(list)
    for entry in facts.books.entries:
        told[entry.order_id].append(entry.what)
    for order_id, whats in told.items():
        for what, times in Counter(whats).items():
            if times > 1:
                yield f"doubled: the gateway has {what} order {order_id} {times} times"
        if "voided" in whats and "captured" in whats:
            yield f"order {order_id} was charged and voided at the gateway: {', '.join(whats)}"
        if whats[0] != "authorized":
            yield f"order {order_id} was {whats[0]} at the gateway before anything else"
        last = {Ending.COMPLETED: "captured", Ending.COMPENSATED: "voided"}.get(endings.get(order_id) or Ending.STUCK)
        if whats[-1] != last:
            yield f"order {order_id}: the gateway's last word is {whats[-1]}, but it ended {endings.get(order_id)}"
    charged = {order_id for order_id, whats in told.items() if "captured" in whats}
    for order_id, ending in endings.items():
        if ending is Ending.COMPLETED and order_id not in charged:
            yield f"order {order_id} completed and was never charged"
