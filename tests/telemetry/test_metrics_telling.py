"""What a coordinator's batch says of each saga, by what was stored before and what is now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from saga._core.bodies import RefusalData
from saga._core.instance import ENDED, Instance, Phase
from saga._core.measuring import Reading
from saga._core.metrics import COMPLETED, DURATION, STARTED, Labels, Metric
from saga._core.stored_instance import instance_row
from saga._core.words import Cause
from saga._runtime.folding import Folded
from saga._runtime.metering import NullMeter
from saga._runtime.telling import tell_sagas

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STUCK = "stuck"


class Counting:
    is_on = True

    def __init__(self) -> None:
        self.told: dict[tuple[str, ...], float] = {}

    def add(self, metric: Metric, labels: Labels, count: int) -> None:
        self.told[metric.name, *labels] = count

    def record(self, metric: Metric, labels: Labels, values: Sequence[float]) -> None:
        self.told[metric.name, *labels] = sum(values)

    def hold(self, owner: object, readings: Sequence[Reading]) -> None:
        raise AssertionError(owner, readings)


def folded(was: str, phase: Phase, *, stuck: Cause | None = None) -> Folded:
    instance = Instance(
        saga_id="s1",
        expires_at=NOW,
        phase=phase,
        stuck=stuck,
        cause=Cause.REFUSED,
        refusal=RefusalData(type="stock.out.v1", data=b'{"sku":"canary"}'),
        ended_at=NOW if phase in ENDED else None,
    )
    began = NOW - timedelta(seconds=90)
    row = instance_row(instance, saga="trip", version=2, plan="h", tenant="", partition=0, revision=0, started_at=began)
    return Folded(bare=row, instance=instance, outbox=(), was=was)


BEGAN: dict[tuple[str, ...], float] = {(STARTED.name, "trip"): 1.0}


def ended(outcome: str) -> dict[tuple[str, ...], float]:
    return {(COMPLETED.name, "trip", outcome): 1.0, (DURATION.name, "trip", outcome): 90.0}


STUCK_NOW = folded("closing", Phase.CLOSING, stuck=Cause.UNDO_FAILED)
NONE: dict[tuple[str, ...], float] = {}
SILENCE: list[str] = []
CASES: list[tuple[Folded, dict[tuple[str, ...], float], list[str]]] = [
    (folded("", Phase.RUNNING), BEGAN, ["started"]),
    (folded("running", Phase.RUNNING), NONE, SILENCE),
    (folded("", Phase.COMPLETED), BEGAN | ended("completed"), ["started", "completed: refused stock.out.v1"]),
    (folded("running", Phase.ASKING), NONE, ["closing: refused stock.out.v1"]),
    (folded("asking", Phase.CLOSING), NONE, SILENCE),
    (folded("asking", Phase.COMMITTED), NONE, ["committed: refused stock.out.v1"]),
    (folded("closing", Phase.COMPENSATED), ended("compensated"), ["compensated: refused stock.out.v1"]),
    (folded("compensated", Phase.COMPENSATED), NONE, SILENCE),
    (STUCK_NOW, {(COMPLETED.name, "trip", STUCK): 1.0}, ["stuck: undo_failed stock.out.v1"]),
    (folded(STUCK, Phase.CLOSING, stuck=Cause.UNDO_FAILED), NONE, SILENCE),
    (folded(STUCK, Phase.CLOSING), NONE, ["moving again"]),
    (folded(STUCK, Phase.COMPENSATED), ended("compensated"), ["compensated: refused stock.out.v1"]),
    (folded("running", Phase.READY), NONE, SILENCE),
]


@pytest.mark.parametrize(("each", "counts", "lines"), CASES)
def test_each_transition_is_told_once(
    each: Folded, counts: dict[tuple[str, ...], float], lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    meter = Counting()
    with caplog.at_level(logging.DEBUG, "saga.transitions"):
        tell_sagas(meter, [each])
    assert meter.told == counts
    assert [record.getMessage().removeprefix("saga s1 (trip v2): ") for record in caplog.records] == lines
    assert "canary" not in caplog.text


def test_a_batch_is_counted_together_and_nothing_while_nobody_asks(caplog: pytest.LogCaptureFixture) -> None:
    meter = Counting()
    with caplog.at_level(logging.WARNING, "saga.transitions"):
        tell_sagas(meter, [folded("", Phase.RUNNING), folded("", Phase.RUNNING)])
        tell_sagas(NullMeter(), [folded("", Phase.RUNNING)])
    assert meter.told == {(STARTED.name, "trip"): 2.0}
    assert caplog.records == []
