"""Read everything an audit needs from the services' and the coordinator's databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from examples.payment.databases import Query, Row
from examples.payment.gateway import Entry
from examples.payment.ledger import Books, read_books
from saga._core.records import decode_outcome
from saga._core.words import Cause, Ending

SERVICES = ("orders", "inventory", "payment", "shipping")
COORDINATOR = "coordinator"
START = "orders.start"

RUNS = (
    "select saga_id, step, branch, status, undo, result, outcome, pending_at, error, done_at, undone_at from saga_run"
)
INSTANCES = "select saga_id, phase, due_at, state from saga_instance"
WAITING = "select service, saga_id, reason, attempt, error, raw_topic as topic from saga_delivery"
OUTBOX = "select seq, aggregatetype, aggregateid, type from saga_outbox"
GATES = "select saga_id, service, state from saga_gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Be one start row: whose order it was and how the starter was told it ended (None: not yet)."""

    saga_id: str
    order_id: str
    ending: Ending | None
    cause: Cause | None
    refusal: str

    @property
    def reason(self) -> str:
        """Return in one word why it did not complete, empty when it did."""
        return self.refusal or (self.cause.value if self.cause else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Hold all rows that have to agree. `outbox`, `waiting` and `gates` are pairs of database and row."""

    starts: Sequence[Start]
    runs: Sequence[Row]
    instances: Sequence[Row]
    outbox: Sequence[tuple[str, Row]]
    waiting: Sequence[tuple[str, Row]]
    gates: Sequence[tuple[str, Row]]
    books: Books


async def read_facts(
    databases: Mapping[str, Query], entries: Sequence[Entry], open_authorizations: Sequence[str]
) -> Facts:
    """Read all tables; `databases` has a reader for each service and one for the coordinator."""
    readers = {query: name for name, query in reversed([*databases.items()])}
    runs: list[Row] = []
    outbox: list[tuple[str, Row]] = []
    waiting: list[tuple[str, Row]] = []
    gates: list[tuple[str, Row]] = []
    for query, name in readers.items():
        outbox += [(name, row) for row in await query(OUTBOX)]
        waiting += [(name, row) for row in await query(WAITING)]
        if query is not databases[COORDINATOR]:
            runs += await query(RUNS)
            gates += [(name, row) for row in await query(GATES)]
    books = await read_books({name: databases[name] for name in SERVICES}, entries, open_authorizations)
    return Facts(
        starts=[_start(row) for row in runs if row["step"] == START],
        runs=runs,
        instances=await databases[COORDINATOR](INSTANCES),
        outbox=outbox,
        waiting=waiting,
        gates=gates,
        books=books,
    )


def _start(row: Row) -> Start:
    order = orjson.loads(bytes(row["result"]))
    outcome = decode_outcome(bytes(row["outcome"])) if row["outcome"] is not None else None
    return Start(
        saga_id=row["saga_id"],
        order_id=order["order_id"],
        ending=outcome.ending if outcome else None,
        cause=outcome.cause if outcome else None,
        refusal=outcome.refusal.type if outcome and outcome.refusal else "",
    )
