"""Let everything go wrong at once in one process, and show that money and goods add up afterwards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from examples.payment import ledger
from examples.payment.embedded import Shop, open_shop
from examples.payment.events import checkout
from examples.payment.ledger import Books
from examples.payment.orders import place, reason_of
from examples.payment.payment import CALLS
from examples.payment.scenarios import AWAY, SCENARIOS, Scenario
from examples.payment.watch import Screen
from saga import Ended, Ending, KeyConflict
from saga.app import SagaHandle

OUTCOME_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Say how one scenario ended; `problems` are its broken expectations."""

    scenario: Scenario
    ended: Ended
    undone: Sequence[str]
    problems: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Hold all results and what does not add up."""

    results: Sequence[Result]
    books: Books
    problems: Sequence[str]
    seconds: float

    @property
    def well(self) -> bool:
        """Return whether everything went as it must."""
        return not self.problems and not any(result.problems for result in self.results)


async def demo(*, live: bool | None = None) -> Report:
    """Play all scenarios; `live` shows a table instead of lines, by default where there is a terminal."""
    started = time.monotonic()
    names: dict[str, str] = {}
    screen = Screen(names, live=live)
    ended: list[tuple[Scenario, Ended]] = []
    with tempfile.TemporaryDirectory(prefix="saga-demo-") as folder:
        async with open_shop(Path(folder)) as shop:
            async with anyio.create_task_group() as watching:
                watching.start_soon(screen.follow, shop.query)
                ended.extend(await play(shop, names))
                await anyio.sleep(0.2)
                watching.cancel_scope.cancel()
            books = await shop.books()
    results = [judge(scenario, end, books) for scenario, end in ended]
    return Report(
        results=results,
        books=books,
        problems=ledger.problems(books),
        seconds=time.monotonic() - started,
    )


async def play(shop: Shop, names: dict[str, str]) -> list[tuple[Scenario, Ended]]:
    """Play the scenarios: first the one without a coordinator, then all others at once."""
    ended: list[tuple[Scenario, Ended]] = []

    async def one(scenario: Scenario) -> None:
        handle = await start(scenario, names)
        ended.append((scenario, await handle.outcome(timeout_seconds=OUTCOME_SECONDS)))

    await shop.stop_coordinator()
    away = await start(AWAY, names)
    await anyio.sleep(checkout.timeout.total_seconds() + 0.3)
    parcels = await shop.query("select order_id from parcel")
    _expect([row["order_id"] for row in parcels] == [AWAY.name], "the order went forward without a coordinator")
    await shop.start_coordinator()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repair_gateway, shop)
        for scenario in SCENARIOS:
            tasks.start_soon(one, scenario)
        ended.append((AWAY, await away.outcome(timeout_seconds=OUTCOME_SECONDS)))
    return ended


async def start(scenario: Scenario, names: dict[str, str]) -> SagaHandle:
    order = scenario.order
    handle: SagaHandle = await place(order, key=order.order_id)
    names[handle.saga_id] = scenario.name
    if scenario.name == "placed-twice":
        await place_again(scenario, handle)
    return handle


async def place_again(scenario: Scenario, first: SagaHandle) -> None:
    """Place the same order again, and another one under its key."""
    order = scenario.order
    second: SagaHandle = await place(order, key=order.order_id)
    _expect(second.saga_id == first.saga_id, "the second start found the first one's saga")
    try:
        await place(order.model_copy(update={"quantity": 20}), key=order.order_id)
    except KeyConflict:
        refused = True
    else:
        refused = False
    _expect(refused, "another order under the same key was refused")


class Unexpected(Exception):
    """Something did not happen that had to."""


def _expect(happened: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not happened:
        raise Unexpected(what)


async def repair_gateway(shop: Shop) -> None:
    """Repair the gateway once the payment service has given up on it."""
    while shop.gateway.calls("gateway-down", "authorize") < CALLS.attempts:  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.1)
    await anyio.sleep(1.0)
    shop.gateway.repair("card-down")


def judge(scenario: Scenario, ended: Ended, books: Books) -> Result:
    """Compare an end with the expected one."""
    undone = ledger.undone_steps(books.runs, ended.saga_id)
    problems: list[str] = []
    if ended.ending is not scenario.ending:
        problems.append(f"{ended.ending.value} instead of {scenario.ending.value}")
    if scenario.causes and _causes(ended).isdisjoint(scenario.causes):
        problems.append(f"because of {sorted(_causes(ended))} instead of {sorted(scenario.causes)}")
    if tuple(undone) != scenario.undone:
        problems.append(f"undone {undone} instead of {list(scenario.undone)}")
    return Result(scenario=scenario, ended=ended, undone=undone, problems=problems)


def _causes(ended: Ended) -> set[str]:
    return {ended.refusal_type, ended.cause.value if ended.cause else ""}


def summary(report: Report) -> list[str]:
    """Return what to print at the end."""
    lines = [""]
    for ending in Ending:
        found = [result for result in report.results if result.ended.ending is ending]
        if found:
            lines.append(f"{ending.value.capitalize()}:")
            lines += [line for result in found for line in _told(result)]
    lines += ["", *_totals(report.books), "", *(f"PROBLEM: {problem}" for problem in report.problems)]
    verdict = "Everything adds up." if report.well else "Something does NOT add up."
    return [*lines, f"{verdict} {report.seconds:.1f} s"]


def _totals(books: Books) -> list[str]:
    completed, captured = books.in_state("completed"), books.captured()
    goods = sum(row["quantity"] for row in books.reservations if row["state"] == "sold")
    held = sum(row["quantity"] for row in books.reservations if row["state"] == "held")
    return [
        f"Orders completed   {len(completed):3}, worth  {_money(sum(completed.values()))}",
        f"Charged by gateway {len(captured):3}, in all {_money(sum(entry.amount for entry in captured))}",
        f"Payments booked    {len(books.payments):3}, in all {_money(sum(row['amount'] for row in books.payments))}",
        f"Goods sold         {goods:3}, still held {held}",
        f"Authorizations     {len(books.open_authorizations):3} still open",
    ]


def _money(cents: int) -> str:
    return f"{cents // 100:6}.{cents % 100:02}"


def _told(result: Result) -> list[str]:
    scenario = result.scenario
    lines = [f"  {scenario.name:<17} {scenario.story}"]
    if why := reason_of(result.ended):
        lines.append(f"  {'':<17}   because of {why}")
    if result.undone:
        lines.append(f"  {'':<17}   undone: {', then '.join(result.undone)}")
    lines += [f"  {'':<17}   PROBLEM: {problem}" for problem in result.problems]
    return lines
