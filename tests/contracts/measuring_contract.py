"""Say what every store counts for its metrics."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from saga._core.instance import Instance, Phase
from saga._core.measuring import Count, StoreReading
from saga._core.rows import Changes, CoordinatorChanges, InstanceRow
from saga._core.stored_instance import instance_row
from saga._core.words import Cause, Reason, RunStatus
from tests.contracts.keeping_contract import CoordinatorBench, KeepingBench
from tests.contracts.store_rows import OTHER, SERVICE, outgoing, put, run, saga_id, waiting

HOUR = timedelta(hours=1)


def whole(counts: tuple[Count, ...]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return rows and age in whole minutes by name and kind."""
    return {(each.name, each.kind): (each.rows, int(each.age_seconds // 60)) for each in counts}


class MeasuringContract:
    """What every participant's store counts."""

    async def test_nothing_is_counted_of_an_empty_database(self, bench: KeepingBench) -> None:
        assert await bench.store.measure() == StoreReading()

    async def test_rows_are_counted_by_service_and_reason_with_their_age(self, bench: KeepingBench) -> None:
        now = await bench.now()
        letters = [waiting(saga_id(), now - age * HOUR, Reason.DEAD) for age in (1, 3)]
        open_calls = [run(saga_id(), status=RunStatus.INTENT, pending_at=now), run(saga_id())]
        reasons = (Reason.RETRY, Reason.RETRY, Reason.DELAYED, Reason.LOCKED, Reason.PARKED, Reason.HELD)
        waits = [waiting(saga_id(), now, reason) for reason in reasons]
        changes = Changes(
            insert_runs=tuple(open_calls),
            insert_deliveries=(*letters, *waits, waiting(saga_id(), now, Reason.RETRY, OTHER)),
            outbox=(outgoing(), outgoing(), replace(outgoing(), service=OTHER)),
        )
        await put(bench.store, changes)
        reading = await bench.store.measure()
        assert whole(reading.outbox) == {(SERVICE, ""): (2, 0), (OTHER, ""): (1, 0)}
        assert whole(reading.dead) == {(SERVICE, ""): (2, 180)}
        assert whole(reading.calls) == {(SERVICE, ""): (1, 0)}
        assert whole(reading.waiting) == {
            (SERVICE, "retry"): (2, 0),
            (SERVICE, "delayed"): (1, 0),
            (SERVICE, "locked"): (1, 0),
            (SERVICE, "parked"): (1, 0),
            (SERVICE, "held"): (1, 0),
            (OTHER, "retry"): (1, 0),
        }


class CoordinatorMeasuringContract:
    """What every coordinator's store counts."""

    async def test_open_sagas_are_counted_by_phase_and_those_that_ended_are_not(self, bench: CoordinatorBench) -> None:
        now = await bench.store.now()

        def row(saga: str, phase: Phase, stuck: Cause | None = None) -> InstanceRow:
            instance = Instance(saga_id=saga_id(), expires_at=now + HOUR, phase=phase, stuck=stuck)
            return instance_row(
                instance, saga=saga, version=1, plan="h", tenant="", partition=0, revision=0, started_at=now
            )

        rows = (
            row("trip", Phase.RUNNING),
            row("trip", Phase.RUNNING),
            row("trip", Phase.CLOSING),
            row("trip", Phase.CLOSING, Cause.UNDO_FAILED),
            row("trip", Phase.COMPLETED),
            row("order", Phase.READY),
        )
        await bench.store.write(CoordinatorChanges(instances=rows))
        reading = await bench.store.measure()
        assert whole(reading.active) == {
            ("trip", "running"): (2, 0),
            ("trip", "closing"): (1, 0),
            ("trip", "stuck"): (1, 0),
            ("order", "ready"): (1, 0),
        }
