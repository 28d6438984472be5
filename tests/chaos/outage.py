"""Take both coordinators away for longer than a saga's timeout, and see what happens without and after them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio

from examples.payment.events import checkout
from saga import Ending
from tests.chaos.audit import Receipts, audit
from tests.chaos.basket import KINDS, fill
from tests.chaos.facts import Facts
from tests.chaos.placing import Placer
from tests.chaos.world import COORDINATORS, World, open_world
from tests.testbed.services import Kafka, Postgres

FORWARD_SECONDS = 12.0
"""What the slowest order that completes needs: the gateway hangs for six seconds, the ferry is full."""


@dataclass(slots=True, kw_only=True)
class OutageReport:
    """Hold what came of it."""

    receipts: Receipts = field(default_factory=Receipts)
    shipped_without: int = 0
    away_seconds: float = 0.0
    facts: Facts | None = None
    problems: list[str] = field(default_factory=list[str])


async def run_outage(
    kafka: Kafka, postgres: Postgres, logs: Path, *, sagas: int, seconds: float, seed: int, end_seconds: float
) -> OutageReport:
    """Place orders while no coordinator lives; nothing else is wrong, so every ending is known beforehand."""
    assert seconds > checkout.timeout.total_seconds() + FORWARD_SECONDS
    report = OutageReport()
    # How many orders ask for the last vase decides who gets it, not the coordinator.
    orders = fill(sagas, Random(seed), [kind for kind in KINDS if kind.name != "last-vase"])
    async with open_world(kafka, postgres, logs) as world:
        world.start()
        await world.wait_until_up()
        began = time.monotonic()
        for name in COORDINATORS:
            world.kill(name)
        placer = Placer(world.orders, report.receipts, Random(seed + 1))
        await placer.place_all(orders, seconds - FORWARD_SECONDS)
        await anyio.sleep(max(0.0, began + seconds - time.monotonic()))
        report.away_seconds = time.monotonic() - began
        report.problems += await _gone_forward(world, report)
        await world.repair_gateway()
        world.start(*COORDINATORS)
        if not await world.wait_until_ended(end_seconds):
            report.problems.append(f"not everything had ended {end_seconds:.0f} s after the coordinators came back")
        report.facts = await world.facts()
    report.problems += [*audit(report.facts, report.receipts), *_unexpected(report)]
    return report


async def _gone_forward(world: World, report: OutageReport) -> list[str]:
    """Return which orders the services should have finished by themselves and have not."""
    shipped = {row["order_id"] for row in await world.databases["shipping"]("select order_id from parcel")}
    report.shipped_without = len(shipped)
    expected = {key for key, order in report.receipts.orders.items() if order.kind.undisturbed is Ending.COMPLETED}
    problems = [f"order {key} was not shipped while the coordinators were away" for key in sorted(expected - shipped)]
    if open_now := len(report.receipts.sagas) - await world.open_sagas():
        problems.append(f"{open_now} sagas have ended without a coordinator")
    return problems


def _unexpected(report: OutageReport) -> Iterator[str]:
    assert report.facts is not None
    for start in report.facts.starts:
        order = report.receipts.orders.get(start.order_id)
        if order is not None and start.ending is not order.kind.undisturbed:
            ended = start.ending.value if start.ending else "open"
            yield f"order {start.order_id} ended {ended} ({start.reason}), not {order.kind.undisturbed.value}"
