"""Calls to a gateway that lives on happen once, or are undone, however often the caller is killed around them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.external import External, lines_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = int(os.environ.get("SAGA_CHAOS_EXTERNAL_KILLS", "50"))


@pytest.mark.timeout(240 + 5 * KILLS)
async def test_the_gateways_books_are_right_whatever_was_killed(tmp_path: Path) -> None:
    report = await External(tmp_path, kills=KILLS, seed=3, end_seconds=200.0).run()
    told = "\n".join([*lines_of(report), f"log: {tmp_path / 'shop.log'}"])
    assert not report.problems, told
    assert report.kills == KILLS
    assert report.cut.total() > KILLS / 2, told
    assert report.said["calls taken over"] > 0, told
