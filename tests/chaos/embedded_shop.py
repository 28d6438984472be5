"""Run the whole shop in this one process and place orders, until somebody kills it.

`python -m tests.chaos.embedded_shop FOLDER --sagas N --seed S --first I` says on standard output what the
customers know: `up`, then `placed NUMBER SAGA_ID` for every start that has returned, and `ended` once all
orders are placed and no saga is open any more. Then it ends by itself, gracefully.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import anyio

from examples.payment.gateway import Gateway
from examples.payment.gateway_doors import LocalGateway
from examples.payment.orders import place
from examples.payment.payment import use_gateway
from examples.payment.services import SERVICES
from saga.app import App, Coordinator, SagaHandle
from tests.chaos.basket import Order, fill
from tests.chaos.processes import ROOT

PLANS = ROOT / "examples" / "payment" / "plans"
REPAIR_SECONDS = 3.0
AT_ONCE = 8


def shop_file(folder: Path) -> Path:
    """Return the services' database."""
    return folder / "shop.db"


def coordinator_file(folder: Path) -> Path:
    """Return the coordinator's database."""
    return folder / "coordinator.db"


def gateway_file(folder: Path) -> Path:
    """Return what the gateway remembers."""
    return folder / "gateway.db"


async def run(folder: Path, orders: Sequence[Order], first: int, pause_seconds: float) -> None:
    """Place the orders from number `first` on and return when every saga has ended."""
    with closing(Gateway(gateway_file(folder))) as gateway:
        use_gateway(LocalGateway(gateway))
        app = App(
            SERVICES,
            store=f"sqlite:///{shop_file(folder)}",
            transport="memory://",
            coordinator=Coordinator(plans=PLANS, store=f"sqlite:///{coordinator_file(folder)}"),
        )
        async with app, anyio.create_task_group() as tasks:
            say("up")
            tasks.start_soon(repair, gateway)
            handles = await place_all(orders, first, pause_seconds)
            handles += [await place(order.placed, key=order.key) for order in orders[:first]]
            for handle in handles:
                await handle.outcome(timeout_seconds=600.0)
            say("ended")
            tasks.cancel_scope.cancel()


async def place_all(orders: Sequence[Order], first: int, pause_seconds: float) -> list[SagaHandle]:
    """Place orders, some at the same time."""
    handles: list[SagaHandle] = []
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            handle = await place(orders[number].placed, key=orders[number].key)
            say(f"placed {number} {handle.saga_id}")
            handles.append(handle)

    async with anyio.create_task_group() as tasks:
        for number in range(first, len(orders)):
            tasks.start_soon(one, number)
            await anyio.sleep(pause_seconds)
    return handles


async def repair(gateway: Gateway) -> None:
    """Let the card that is down work after a while."""
    await anyio.sleep(REPAIR_SECONDS)
    gateway.repair("card-down")


def say(text: str) -> None:
    """Tell whoever watches; one write, so that a kill never leaves half a line before a whole one."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.embedded_shop", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sagas", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two orders")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    orders = fill(given.sagas, Random(given.seed))
    anyio.run(run, given.folder, orders, given.first, given.pause)


if __name__ == "__main__":
    main()
