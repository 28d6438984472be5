"""Hold what a sixth review found of hiding: what is marked stays hidden where not even a failure can be written."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import logging
from typing import Annotated, Any
from unittest.mock import Mock

import pytest

from saga import PII, Event
from saga._runtime import sorting
from saga._runtime.batch import BatchRunner
from saga._runtime.items import StepItem

pytestmark = pytest.mark.anyio

CANARY = "canary-5be2"


class Joined(Event, name="six.joined", version=1):
    name: Annotated[str, PII] = CANARY


async def test_what_is_buried_says_no_value_of_a_marked_field(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def dead(*given: Any) -> Any:
        said.append(given[4])

    async def fails(_: object) -> None:
        raise RuntimeError(f"Key (name)=({CANARY}) already exists")

    monkeypatch.setattr(sorting, "_dead", dead)
    runner = BatchRunner(Mock(), Mock())
    monkeypatch.setattr(runner, "_give_up_for_good", fails)
    item = Mock(spec=StepItem, event=Joined(), run_id=("s1", "members.join", ""), delivery=None, row=None)
    item.step, item.envelope = Mock(), None
    with caplog.at_level(logging.ERROR):
        try:
            await fails(item)
        except RuntimeError as error:
            await runner._after_fault([item], error)
    assert said == ["RuntimeError inside saga: Key (name)=(<PII>) already exists"]
    assert "becomes a dead letter" in caplog.text
    records = [logging.Formatter().format(record) for record in caplog.records]
    assert not [each for each in records if CANARY in each.replace("({CANARY})", "")]
