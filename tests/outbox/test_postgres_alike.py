"""Rows that are alike are written by fewer columns, and are the same in the table as any others."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresStore
from outbox.postgres.alike import inserted_outbox, inserted_runs, stored_instances, updated_runs
from saga._core.rows import Changes, CoordinatorChanges, InstanceRow, OutboxRow, RunRow
from saga._core.words import Priority, RunKey, RunStatus, UndoStatus
from tests.contracts.store_rows import NOW, SERVICE, claim, outgoing, saga_id

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

LATER = NOW + timedelta(hours=1)
RUN: dict[str, Any] = {
    "step": f"{SERVICE}.other",
    "branch": "1of2",
    "plan": "another",
    "tenant": "acme",
    "status": RunStatus.FAILED,
    "undo": UndoStatus.WANTED,
    "causes": (),
    "input_type": "",
    "input": None,
    "result_type": "other",
    "result": None,
    "fan_out": 2,
    "generation": 1,
    "first_called_at": NOW,
    "called_at": NOW,
    "attempt": 2,
    "owner": "host",
    "pending_at": LATER,
    "error": "e",
    "outcome": b"{}",
    "traceparent": "",
    "lane": Priority.URGENT,
    "expires_at": LATER,
    "created_at": LATER,
    "done_at": None,
    "undone_at": LATER,
}
INSTANCE: dict[str, Any] = {
    "saga": "other",
    "version": 2,
    "plan": "another",
    "tenant": "acme",
    "phase": "stuck",
    "partition": 1,
    "due_at": None,
    "started_at": None,
    "ended_at": LATER,
    "state": b"2",
    "step": "a.b",
    "error": "e",
}
OUTBOX: dict[str, Any] = {
    "aggregatetype": "other.events",
    "aggregateid": "k",
    "type": "other",
    "payload": None,
    "headers": (),
    "record": b"{}",
    "record_headers": (("ce_id", b"3"),),
    "service": "other",
    "shard": 7,
}


def done(**changes: Any) -> RunRow:
    kept: dict[str, Any] = {
        "saga_id": saga_id(),
        "step": f"{SERVICE}.reserve",
        "plan": "hash",
        "status": RunStatus.DONE,
        "causes": (RunKey(step="orders.start"),),
        "input_type": "order.placed",
        "input": b"{}",
        "result_type": "stock.reserved",
        "result": b"[]",
        "attempt": 1,
        "traceparent": "00-a-b-01",
        "expires_at": NOW + timedelta(days=7),
        "created_at": NOW,
        "done_at": NOW,
    }
    return RunRow(**{**kept, **changes})


def instance(**changes: Any) -> InstanceRow:
    kept: dict[str, Any] = {
        "saga_id": saga_id(),
        "saga": "trip",
        "version": 1,
        "plan": "hash",
        "phase": "running",
        "partition": 0,
        "due_at": LATER,
        "started_at": NOW,
        "ended_at": None,
        "state": b"1",
    }
    return InstanceRow(**{**kept, **changes})


def keys(runs: list[RunRow]) -> list[tuple[str, str, str]]:
    return [(run.saga_id, run.step, run.branch) for run in runs]


def test_every_column_is_tried() -> None:
    assert {each.name for each in fields(RunRow)} == RUN.keys() | {"saga_id", "revision"}
    assert {each.name for each in fields(InstanceRow)} == INSTANCE.keys() | {"saga_id", "revision"}
    assert {each.name for each in fields(OutboxRow)} == OUTBOX.keys() | {"id", "seq"}


def test_what_is_alike_goes_by_fewer_columns() -> None:
    runs = [done(), done(branch="1of2", result=None)]
    assert inserted_runs(runs).name == "insert_done_runs"
    told = [replace(run, revision=1) for run in runs]
    ended = [replace(run, outcome=b"{}") for run in told]
    assert updated_runs(ended, dict(zip(keys(told), told, strict=True))).name == "update_outcomes"
    assert updated_runs(ended, {}).name == "update_runs"
    assert inserted_outbox([outgoing("a"), outgoing("b")]).name == "insert_alike_outbox"
    rows = [instance(), instance(phase="stuck"), instance(revision=1)]
    assert [part.name for part in stored_instances(rows)] == ["insert_alike_instances", "update_alike_instances"]


async def test_runs_are_the_same_in_the_table_however_they_differ(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        for name, value in RUN.items():
            for runs in ([done(), done(**{name: value})], [done(**{name: value}), done(**{name: value})]):
                sagas = [run.saga_id for run in runs]
                async with store.unit(claim(*sagas)) as unit:
                    await unit.write(Changes(insert_runs=tuple(runs)))
                stored = {run.saga_id: run for run in await store.load_runs(keys(runs))}
                assert stored == {run.saga_id: replace(run, revision=1) for run in runs}, name


async def test_an_update_stores_whatever_has_changed(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        for name, value in {**RUN, "outcome": None}.items():
            if name in ("step", "branch"):
                continue
            runs = [done(outcome=b"1"), done(outcome=b"1")]
            sagas = [run.saga_id for run in runs]
            async with store.unit(claim(*sagas)) as unit:
                await unit.write(Changes(insert_runs=tuple(runs)))
            async with store.unit(claim(*sagas)) as unit:
                seen = await unit.read(sagas, keys(runs))
                told = [replace(seen.runs[key], outcome=b"2") for key in keys(runs)]
                told[1] = replace(told[1], **{name: value})
                await unit.write(Changes(update_runs=tuple(told)))
            stored = {run.saga_id: run for run in await store.load_runs(keys(runs))}
            assert stored == {run.saga_id: replace(run, revision=2) for run in told}, name


async def test_messages_are_the_same_in_the_table_however_they_differ(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        for name, value in OUTBOX.items():
            other = {name: value}
            for rows in (
                [outgoing(), replace(outgoing(), **other)],
                [replace(outgoing(), **other), replace(outgoing(), **other)],
            ):
                async with store.unit(claim("s")) as unit:
                    seqs = await unit.write(Changes(outbox=tuple(rows)))
                assert list(await store.committed(seqs)) == [
                    replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)
                ], name


async def test_instances_are_the_same_in_the_table_however_they_differ(database: str) -> None:
    async with PostgresCoordinationStore(database) as store:
        await store.migrate()
        for name, value in INSTANCE.items():
            other = {name: value}
            for rows in ([instance(), instance(**other)], [instance(**other), instance(**other)]):
                sagas = [row.saga_id for row in rows]
                await store.write(CoordinatorChanges(instances=tuple(rows)))
                assert await store.load(sagas) == {row.saga_id: replace(row, revision=1) for row in rows}, name
                # The other way round, with a row that is new beside.
                again = [instance(**other), *(replace(instance(), saga_id=saga, revision=1) for saga in sagas)]
                again[1] = replace(again[1], **other)
                await store.write(CoordinatorChanges(instances=tuple(again)))
                assert await store.load([row.saga_id for row in again]) == {
                    row.saga_id: replace(row, revision=row.revision + 1) for row in again
                }, name
