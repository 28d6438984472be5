"""Without a coordinator sagas go forward; afterwards none that has finished is undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saga import Ending
from tests.chaos.outage import run_outage
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

SECONDS = float(os.environ.get("SAGA_OUTAGE_SECONDS", "20"))


@pytest.mark.timeout(240 + 2 * SECONDS)
async def test_no_finished_saga_is_undone_after_the_coordinators_were_away(
    own_kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    report = await run_outage(own_kafka, postgres, logs, sagas=80, seconds=SECONDS, seed=3, end_seconds=120.0)
    assert not report.problems, "\n".join([*report.problems[:40], f"the logs of all processes are in {logs}"])
    assert report.facts is not None
    completed = sum(start.ending is Ending.COMPLETED for start in report.facts.starts)
    assert report.shipped_without == completed > 0
    assert completed < len(report.facts.starts)
