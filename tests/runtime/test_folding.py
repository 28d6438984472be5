"""Hold what is made of a batch against what is made of its records one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from saga._core.bodies import CancelRequested, Closed, Report, RunReported
from saga._core.envelope import Envelope
from saga._core.instance import Instance, Phase
from saga._core.plan import Topology, topology_of
from saga._core.rows import InstanceRow
from saga._core.stored_instance import instance_of
from saga._core.words import Kind, Priority, RunStatus
from saga._runtime.folding import Folded, Folder, Told
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import NullTracer
from tests.core.protocol_examples import (
    CAPTURED,
    EXPIRES,
    NOW,
    PIVOTAL,
    PLAIN,
    RESERVED,
    SENT,
    SENT_PLAIN,
    START,
    a_fact,
    ran,
)

REFUSED = a_fact("ship.send", RunStatus.REFUSED, cause="stock.reserve")
FAILED = a_fact("stock.reserve", RunStatus.FAILED)


def told_of(topology: Topology, report: Report) -> Told:
    """Return a report as it was read."""
    envelope = Envelope(
        id="x",
        source="/saga/x",
        type="saga.run",
        kind=Kind.RUN,
        time=NOW,
        payload=b"{}",
        saga_id="saga-1",
        plan=topology.plan.hash,
        expires_at=EXPIRES,
    )
    return (envelope, report, 0)


def folded(topology: Topology, batches: list[list[Report]]) -> tuple[Instance, list[str]]:
    """Return what is stored of a saga after some batches, and the IDs of what was sent."""
    book = PlanBook()
    book.learn(topology.plan)
    folder, sent = Folder(book, NullTracer()), list[str]()
    row: InstanceRow | None = None
    for batch in batches:
        found = folder.fold("saga-1", row, [told_of(topology, each) for each in batch], NOW, due=False)
        if found is not None:
            assert instance_of(found.row) == found.instance, "what is remembered is what is stored"
            row = replace(found.row, revision=found.row.revision + 1)
            sent += [each.id for each in found.outbox]
    assert row is not None
    return instance_of(row), sent


@pytest.mark.parametrize(
    ("topology", "reports"),
    [
        (PLAIN, [ran(START), ran(RESERVED), ran(SENT_PLAIN), ran(RESERVED)]),
        (PIVOTAL, [ran(START), ran(RESERVED), ran(CAPTURED), ran(SENT)]),
        (PLAIN, [ran(START), ran(RESERVED), ran(REFUSED)]),
        (PLAIN, [ran(START), ran(FAILED), ran(RESERVED), ran(SENT_PLAIN)]),
        (PLAIN, [ran(START), ran(RESERVED), CancelRequested(reason="never mind"), ran(SENT_PLAIN)]),
    ],
)
def test_a_batch_comes_to_the_same_as_its_records_one_by_one(topology: Topology, reports: list[Report]) -> None:
    for order in permutations(reports):
        assert folded(topology, [list(order)]) == folded(topology, [[each] for each in order]), order


WITH_ATTEMPTS = topology_of(replace(PLAIN.plan, attempts=50))
UNKNOWN = a_fact("stock.unheard_of", RunStatus.DONE)


@pytest.mark.parametrize(
    ("topology", "reports", "short"),
    [
        (PLAIN, [ran(START), ran(RESERVED), ran(SENT_PLAIN)], 3),
        (PIVOTAL, [ran(START), ran(RESERVED), ran(CAPTURED), ran(SENT)], 3),
        (PLAIN, [ran(START), ran(RESERVED), ran(RESERVED)], 2),
        (PLAIN, [ran(START), ran(UNKNOWN), ran(RESERVED)], 2),
        (PLAIN, [ran(START), ran(REFUSED), ran(RESERVED)], 1),
        (PLAIN, [ran(START), ran(FAILED), ran(RESERVED)], 1),
        (PLAIN, [ran(START), CancelRequested(reason="never mind"), ran(RESERVED)], 1),
        (WITH_ATTEMPTS, [ran(START), ran(RESERVED), ran(SENT_PLAIN)], 0),
    ],
)
def test_the_short_way_comes_to_the_same_as_the_long_one(topology: Topology, reports: list[Report], short: int) -> None:
    book = PlanBook()
    book.learn(topology.plan)
    taken = 0
    for number, order in enumerate(permutations(reports)):
        for size in (1, 2, len(order)):
            added, whole = Folder(book, NullTracer()), Folder(book, NullTracer())
            known: Folded | None = None
            for begin in range(0, len(order), size):
                told = [told_of(topology, each) for each in order[begin : begin + size]]
                told = [(replace(envelope, step=step_of(report)), report, at) for envelope, report, at in told]
                found = added.add("saga-1", known, told, NOW)
                stored = known.row if known is not None else None
                folded = whole.fold("saga-1", stored, told, NOW, due=False)
                if found is not None:
                    assert folded is not None
                    assert (found.row, found.instance, found.outbox) == (folded.row, folded.instance, folded.outbox)
                    assert added.histories == whole.histories
                    taken += number == 0 and size == 1
                known, added.histories = folded or known, dict(whole.histories)
    assert taken == short, "the short way is gone when it should be"


def step_of(report: Report) -> str:
    """Return the step that a record's headers name."""
    return report.fact.step if isinstance(report, RunReported) else ""


TRACE = "00-{}-b7ad6b7169203331-01"


def headed(report: Report, **headers: Any) -> Told:
    """Return a report whose headers say something of their own."""
    envelope, _, partition = told_of(PLAIN, report)
    return (replace(envelope, **({"step": step_of(report)} | headers)), report, partition)


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ([], [headed(ran(RESERVED))]),
        ([], [headed(ran(START), expires_at=NOW)]),
        ([], [headed(ran(START), kind=Kind.CANCEL)]),
        ([], [headed(ran(START), plan="unknown")]),
        ([], [headed(ran(START)), headed(ran(RESERVED), lane=Priority.URGENT)]),
        ([], [headed(ran(START)), headed(ran(RESERVED), plan="another")]),
        (
            [],
            [
                headed(ran(START), traceparent=TRACE.format("a" * 32)),
                headed(ran(RESERVED), traceparent=TRACE.format("b" * 32)),
            ],
        ),
        ([Closed(service="stock", runs=())], [headed(ran(START))]),
        ([CancelRequested(reason="never mind")], [headed(ran(START))]),
        ([ran(START)], [headed(ran(RESERVED), traceparent=TRACE.format("a" * 32))]),
        ([ran(START)], [headed(ran(RESERVED), lane=Priority.URGENT)]),
    ],
)
def test_only_the_long_way_knows_what_else_a_record_may_mean(before: list[Report], told: list[Told]) -> None:
    book = PlanBook()
    book.learn(PLAIN.plan)
    folder = Folder(book, NullTracer())
    known = folder.fold("saga-1", None, [headed(each) for each in before], NOW, due=False) if before else None
    assert folder.add("saga-1", known, told, NOW) is None


def test_a_run_that_nobody_has_asked_for_does_not_hide_that_the_saga_is_complete() -> None:
    stray = a_fact("stock.reserve", RunStatus.DONE, emits="reserved.v1", branch="1of2")
    whole = [ran(START), ran(RESERVED), ran(SENT_PLAIN), ran(stray)]
    book = PlanBook()
    book.learn(PLAIN.plan)
    found = Folder(book, NullTracer()).add("saga-1", None, [headed(each) for each in whole], NOW)
    assert found is not None
    assert found.instance.phase is Phase.COMPLETED
