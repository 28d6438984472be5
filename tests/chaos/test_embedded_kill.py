"""The embedded world (SQLite, memory transport, one process) survives `kill -9` at any moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.embedded import run_embedded
from tests.chaos.summary import endings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = int(os.environ.get("SAGA_CHAOS_EMBEDDED_KILLS", "5"))


@pytest.mark.timeout(120 + 10 * KILLS)
async def test_nothing_is_lost_or_doubled_when_the_only_process_is_killed(tmp_path: Path) -> None:
    report = await run_embedded(tmp_path, sagas=20 * KILLS, kills=KILLS, seed=5, end_seconds=100.0)
    shown = endings(report.facts) if report.facts else []
    assert not report.problems, "\n".join([*report.problems, *shown, f"log: {tmp_path / 'shop.log'}"])
    assert report.kills == KILLS
    assert report.kills_while_placing > 0
