"""A small part of `python -m tests.chaos.outbox`: the size every change has to survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.outbox import run_outbox
from tests.chaos.outbox_audit import duplicates
from tests.chaos.outbox_summary import Options, lines_of
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

AGAIN_LEAST, AGAIN_SHARE = 50, 0.03


@pytest.mark.timeout(300)
async def test_no_event_is_lost_or_out_of_order_when_everything_is_killed(
    own_kafka: Kafka, own_postgres: Postgres, tmp_path: Path
) -> None:
    options = Options(
        kills=14,
        restarts=1 if own_postgres.controlled else 0,
        broker_kills=1 if own_kafka.controlled else 0,
        freezes=1,
        seed=7,
        gap_seconds=1.0,
        end_seconds=120.0,
    )
    report = await run_outbox(own_kafka, own_postgres, tmp_path, options)
    told = "\n".join([*lines_of(report), f"logs: {tmp_path}"])
    assert not report.problems, told
    assert report.found is not None
    assert len(report.found.orders) > 0, told
    assert report.undone.keys() == {"rolled back", "savepoint rolled back"}, told
    # The full run has more: a crash while thousands of rows are under way lets them all come again.
    assert duplicates(report.found) < AGAIN_LEAST + AGAIN_SHARE * len(report.found.sent), told
    assert report.done["kill of what was at work"] > 0, told
