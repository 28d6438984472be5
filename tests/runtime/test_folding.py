"""Hold what is made of a batch against what is made of its records one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from saga._core.bodies import CancelRequested, Report
from saga._core.envelope import Envelope
from saga._core.instance import Instance, instance_of
from saga._core.plan import Topology
from saga._core.rows import InstanceRow
from saga._core.words import Kind, RunStatus
from saga._runtime.folding import Folder, Told
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
