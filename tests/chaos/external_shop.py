"""Be one life of the shop whose gateway is a process of its own, forked so that a life begins at once.

It says what `embedded_shop` says: `up`, `placed NUMBER SAGA_ID` for every start that has returned, and `ended`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import httpx

from examples.payment.gateway_http import HttpGateway
from examples.payment.orders import place
from examples.payment.payment import use_gateway
from examples.payment.services import SERVICES
from saga.app import App, Coordinator, Tuning
from tests.chaos.basket import Order
from tests.chaos.embedded_shop import PLANS, coordinator_file, place_all, say, shop_file

PR_SET_PDEATHSIG = 1
QUICK = Tuning(beat_seconds=0.3, pending_poll_seconds=0.2)
"""Calls of a life that has ended are taken over within a second, so that the next one has something to resolve."""


async def run(folder: Path, gateway: str, orders: Sequence[Order], first: int, pause_seconds: float) -> None:
    """Place the orders from number `first` on and return when every saga has ended."""
    async with httpx.AsyncClient(base_url=gateway, timeout=5.0) as client:
        use_gateway(HttpGateway(client))
        app = App(
            SERVICES,
            store=f"sqlite:///{shop_file(folder)}",
            transport="memory://",
            coordinator=Coordinator(plans=PLANS, store=f"sqlite:///{coordinator_file(folder)}"),
            tuning=QUICK,
        )
        async with app:
            say("up")
            await place_all(orders, first, pause_seconds)
            for order in orders:
                handle = await place(order.placed, key=order.key)
                await handle.outcome(timeout_seconds=600.0)
            await published(shop_file(folder), coordinator_file(folder))
            say("ended")


async def published(*files: Path) -> None:
    """Return once no outbox holds a row: what lives before this one have left is taken on by the sweep in its time."""
    with anyio.fail_after(120):
        for file in files:
            with closing(sqlite3.connect(file)) as db:
                while db.execute("select count(*) from saga_outbox").fetchone() != (0,):  # noqa: ASYNC110 - its files tell
                    await anyio.sleep(0.2)


def live(told: Connection, folder: Path, gateway: str, orders: Sequence[Order], first: int, pause: float) -> None:
    """Be the child: whatever it says goes to `told`, its log to a file; it dies with whoever has forked it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    os.dup2(told.fileno(), sys.stdout.fileno())
    with (folder / "shop.log").open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    anyio.run(run, folder, gateway, orders, first, pause)
