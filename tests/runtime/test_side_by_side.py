"""Run a large batch in transactions side by side."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from saga._runtime.participant import Participant

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Runner:
    """Let a transaction end once nobody else comes."""

    busy_share: float
    item_seconds: float = 0.01
    batch_size: Any = field(default_factory=lambda: SimpleNamespace(size=128))
    begun: list[list[Any]] = field(default_factory=list[list[Any]])
    at_once: int = 0
    most: int = 0

    async def settle(self, items: Sequence[Any]) -> None:
        self.begun.append(list(items))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.at_once -= 1


def item(number: int) -> Any:
    return SimpleNamespace(number=number, delivery=SimpleNamespace(key=b"%d" % (number % 20)))


async def settled(runner: Runner, transactions: int) -> Runner:
    participant = Participant.__new__(Participant)
    participant._batches = cast("Any", runner)
    participant._context = cast("Any", SimpleNamespace(store=SimpleNamespace(transactions_at_once=transactions)))
    await participant._settle([item(number) for number in range(60)])
    return runner


async def test_a_process_that_waits_has_several_and_a_saga_is_in_one_of_them() -> None:
    runner = await settled(Runner(busy_share=0.1), 3)
    assert runner.most == 3
    assert sorted(each.number for group in runner.begun for each in group) == list(range(60))
    keys = [{each.delivery.key for each in group} for group in runner.begun]
    assert not (keys[0] & keys[1])
    assert not (keys[1] & keys[2])
    assert not (keys[0] & keys[2])
    assert all([each.number for each in group] == sorted(each.number for each in group) for group in runner.begun)


@pytest.mark.parametrize(("busy_share", "transactions"), [(0.9, 3), (0.1, 1)])
async def test_one_that_is_busy_or_has_one_writer_has_one(busy_share: float, transactions: int) -> None:
    runner = await settled(Runner(busy_share=busy_share), transactions)
    assert [len(group) for group in runner.begun] == [60]
