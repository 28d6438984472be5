"""Fill a coordinator's database with sagas in every state, and time what the console asks of it.

`python -m tests.benchmarks.console_data sqlite:///big.db` or `postgresql://…`; option: `--sagas 100000`.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio

from outbox.codec import Codec, as_it_is, from_micros, to_micros
from outbox.urls import open_coordination_store
from saga._core.bodies import RefusalData, RunFact
from saga._core.instance import Instance, Phase, UndoStep
from saga._core.plan import Plan
from saga._core.planning import plan_from_json
from saga._core.rows import CoordinatorChanges, Cursor, InstanceRow, PlanRow
from saga._core.sagas import SagaFilter
from saga._core.stored_instance import instance_row
from saga._core.words import Cause, Ending, RunKey, RunStatus
from saga.console.reading import Reader

PLAN = Path(__file__).parents[2] / "examples/payment/plans/checkout.v1.plan.json"
COLUMNS = (
    *("saga_id", "saga", "version", "plan", "tenant", "phase", "partition", "due_at", "started_at", "ended_at"),
    *("state", "step", "error", "revision"),
)
ROUNDS = 7
# Out of a hundred.
STUCK, RUNNING, CLOSING, COMPENSATED = 1, 10, 1, 12


def sagas(
    count: int, now: datetime, plan: Plan, seed: int = 1, span: timedelta = timedelta(hours=3)
) -> Iterator[Instance]:
    """Yield sagas that have begun within `span` before `now`, oldest first, the open ones among the newest."""
    drawn = random.Random(seed)
    for number in range(count):
        at = now - span * ((count - number) / count)
        fate = drawn.randrange(100)
        saga_id = str(UUID(int=drawn.getrandbits(128), version=5))
        done = _begun(saga_id, plan, at, drawn)
        if fate < STUCK:
            yield _stuck(done, plan, drawn)
        elif fate < STUCK + CLOSING and number > count // 2:
            yield replace(_undoing(done, plan, drawn), phase=Phase.CLOSING, due_at=now + timedelta(seconds=30))
        elif fate < STUCK + CLOSING + RUNNING and number > count // 2:
            yield replace(done, runs=dict(list(done.runs.items())[:2]), due_at=at + timedelta(minutes=5))
        elif fate < STUCK + CLOSING + RUNNING + COMPENSATED:
            undone = _undoing(done, plan, drawn)
            ended = at + timedelta(seconds=drawn.uniform(0.1, 20))
            undos = dict.fromkeys(undone.undos, UndoStep.DONE)
            yield replace(undone, phase=Phase.COMPENSATED, undos=undos, ended_at=ended, told=Ending.COMPENSATED)
        else:
            ended = at + timedelta(seconds=drawn.uniform(0.02, 2))
            yield replace(done, phase=Phase.COMPLETED, ended_at=ended, told=Ending.COMPLETED)


def _begun(saga_id: str, plan: Plan, at: datetime, drawn: random.Random) -> Instance:
    names = [plan.start, *(step.name for step in plan.steps if step.name != plan.start)]
    runs: dict[RunKey, RunFact] = {}
    before: tuple[RunKey, ...] = ()
    for place, name in enumerate(names):
        fact = RunFact(
            step=name,
            status=RunStatus.DONE,
            causes=before,
            emits=(f"{name}.done.v1",),
            at=at + timedelta(milliseconds=20 * place),
            attempts=1 if drawn.random() < 0.95 else 3,
        )
        runs[fact.key] = fact
        before = (fact.key,)
    lifetime = timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
    trace = f"00-{drawn.getrandbits(128):032x}-{drawn.getrandbits(64):016x}-01"
    return Instance(saga_id=saga_id, expires_at=at + lifetime, runs=runs, traceparent=trace)


def _undoing(done: Instance, plan: Plan, drawn: random.Random) -> Instance:
    keys = list(done.runs)
    culprit = keys[drawn.randrange(1, len(keys))]
    runs = {key: done.runs[key] for key in keys[: keys.index(culprit)]}
    undos = dict.fromkeys(list(runs)[1:], UndoStep.ASKED)
    refusal = RefusalData(type="stock.out.v1", data=b'{"sku":"A-%d"}' % drawn.randrange(1000))
    if drawn.random() < 0.7:
        fact = replace(done.runs[culprit], status=RunStatus.REFUSED, emits=(), refusal=refusal)
        runs[culprit] = fact
        return replace(done, runs=runs, undos=undos, cause=Cause.REFUSED, detail=culprit.step, refusal=refusal)
    error = f"TimeoutError: gateway {drawn.randrange(50)} did not answer within 5 s"
    runs[culprit] = replace(done.runs[culprit], status=RunStatus.FAILED, emits=(), error=error, attempts=5)
    return replace(done, runs=runs, undos=undos, cause=Cause.FAILED, detail=f"{culprit.step}: {error}")


def _stuck(done: Instance, plan: Plan, drawn: random.Random) -> Instance:
    undoing = _undoing(done, plan, drawn)
    key = next(iter(undoing.undos), next(iter(undoing.runs)))
    detail = f"{key.step}: ConnectionError: warehouse {drawn.randrange(20)} is away"
    undos = {**undoing.undos, key: UndoStep.FAILED}
    return replace(undoing, phase=Phase.CLOSING, undos=undos, stuck=Cause.UNDO_FAILED, stuck_detail=detail)


def rows(count: int, now: datetime, plan: Plan) -> Iterator[InstanceRow]:
    """Yield the rows of sagas of two names and three tenants."""
    lifetime = timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
    for number, instance in enumerate(sagas(count, now, plan)):
        yield instance_row(
            instance,
            saga=plan.saga if number % 1000 else "refund",
            version=plan.version,
            plan=plan.hash,
            tenant=("", "", "", "acme", "globex")[number % 5],
            partition=number % 8,
            revision=3,
            started_at=instance.expires_at - lifetime,
        )


async def fill(url: str, count: int, now: datetime | None = None) -> None:
    """Make the coordinator's tables at `url` and fill them; refuses tables that have rows."""
    plan = plan_from_json(PLAN.read_bytes())
    now = now or datetime.now(UTC)
    async with open_coordination_store(url) as store:
        await store.migrate()
        body = PLAN.read_bytes()
        await store.put_plans(
            [PlanRow(saga=plan.saga, version=plan.version, revision=plan.revision, hash=plan.hash, body=body)]
        )
        cursors = tuple((None, Cursor(partition=n, position=count, observed_until=now)) for n in range(8))
        await store.write(CoordinatorChanges(cursors=cursors))
    found = rows(count, now, plan)
    if url.startswith("sqlite"):
        _fill_sqlite(url.removeprefix("sqlite:///"), found)
    else:
        await _fill_postgres(url, found)


def _fill_sqlite(path: str, found: Iterator[InstanceRow]) -> None:
    codec = Codec(to_micros, from_micros)
    with closing(sqlite3.connect(path)) as connection, connection:
        sql = f"insert into saga_instance ({', '.join(COLUMNS)}) values ({', '.join('?' * len(COLUMNS))})"
        connection.executemany(sql, ((*codec.instance(row), row.revision) for row in found))


async def _fill_postgres(url: str, found: Iterator[InstanceRow]) -> None:
    import asyncpg

    codec = Codec(as_it_is, as_it_is)
    connection = await asyncpg.connect(url)
    try:
        records = ((*codec.instance(row), row.revision) for row in found)
        await connection.copy_records_to_table("saga_instance", records=records, columns=COLUMNS)
        await connection.execute("vacuum analyze saga_instance")
    finally:
        await connection.close()


# --- measuring -----------------------------------------------------------------------------------------------


async def measure(url: str) -> dict[str, float]:
    """Return the milliseconds that each question took at best of several rounds, and at worst."""
    async with Reader(url) as reader:
        page = await reader.sagas(SagaFilter(), limit=100)
        some = page.lines[50]
        hour = datetime.now(UTC) - timedelta(hours=1)

        def filtered(**fields: Any) -> Callable[[], Awaitable[object]]:
            return lambda: reader.sagas(SagaFilter(**fields), limit=100)

        def counted(**fields: Any) -> Callable[[], Awaitable[object]]:
            return lambda: reader.count(SagaFilter(**fields))

        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "list": filtered(),
            "list, next page": lambda: reader.sagas(SagaFilter(), after=page.after, limit=100),
            "list stuck": filtered(phases=("stuck",)),
            "list open": filtered(phases=("running", "asking", "closing", "committed", "ready", "stuck")),
            "list compensated": filtered(phases=("compensated",)),
            "list completed": filtered(phases=("completed",)),
            "list a rare saga": filtered(saga="refund"),
            "list a tenant": filtered(tenant="acme"),
            "list a name that is not there": filtered(saga="nothing"),
            "list started within an hour": filtered(started_from=hour),
            "list ended within an hour": filtered(ended_from=hour),
            "search an ID": filtered(text=some.saga_id),
            "search how an ID begins": filtered(text=some.saga_id[:6]),
            "search a key": filtered(key="order-1"),
            "search a step": filtered(step="payment.capture"),
            "search an error": filtered(error="gateway 17"),
            "search a text": filtered(text="warehouse 7"),
            "search a text that is nowhere": filtered(text="no such text"),
            "count all": counted(),
            "count completed": counted(phases=("completed",)),
            "count a text": counted(text="gateway"),
            "chips": lambda: reader.phase_counts(SagaFilter()),
            "one saga": lambda: reader.saga(some.saga_id),
            "changes": reader.changes,
            "revision of one": lambda: reader.revision(some.saga_id),
            "plans": reader.plans,
        }
        began = time.perf_counter()
        await reader.overview()
        found = {"overview, first time": (time.perf_counter() - began) * 1000}
        asked["overview"] = reader.overview
        for name, ask in asked.items():
            taken: list[float] = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                await ask()
                taken.append((time.perf_counter() - began) * 1000)
            found[name] = sorted(taken)[ROUNDS // 2]
        return found


def main() -> None:
    """Fill unless there are sagas already, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--sagas", type=int, default=100_000)
    parser.add_argument("--filled", action="store_true", help="do not fill, measure only")
    given = parser.parse_args()
    if not given.filled:
        began = time.perf_counter()
        anyio.run(fill, given.url, given.sagas)
        print(f"filled with {given.sagas} sagas in {time.perf_counter() - began:.1f} s")  # noqa: T201
    for name, milliseconds in anyio.run(measure, given.url).items():
        print(f"{milliseconds:9.1f} ms  {name}")  # noqa: T201


if __name__ == "__main__":
    main()
