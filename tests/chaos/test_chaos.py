"""A tenth of `python -m tests.chaos`: the size every change has to survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos import Options, run_chaos
from tests.chaos.summary import lines_of
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_or_stuck_when_everything_is_killed(
    own_kafka: Kafka, own_postgres: Postgres, tmp_path: Path
) -> None:
    restarts = 1 if own_postgres.controlled else 0
    options = Options(sagas=200, kills=6, restarts=restarts, seed=11, end_seconds=150.0, logs=tmp_path / "logs")
    report = await run_chaos(own_kafka, own_postgres, options)
    assert not report.problems, "\n".join(lines_of(report))
