"""Be the processes of the outbox run: two that publish plain events, two that start sagas too, two that take them.

A process is forked, so that a life begins at once, and touches a file once it is up. Writers stop when there is a
file `stop`; SIGTERM ends any of them in order.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import anyio
import asyncpg

from outbox.relay import RelayTuning
from outbox.shards import ShardTuning
from saga.app import App, Coordinator
from saga.outbox import Outbox
from tests.chaos.outbox_shop import There, reader, shop, stock, till
from tests.chaos.outbox_writing import Writer

PR_SET_PDEATHSIG = 1
PLAIN, SHOP, DESK = ("plain-0", "plain-1"), ("shop-0", "shop-1"), ("desk-0", "desk-1")
NAMES = (*PLAIN, *SHOP, *DESK)
WRITERS = 4
QUICK = RelayTuning(shards=ShardTuning(lease_seconds=3.0))
"""An app has the lease of fifteen seconds, an outbox this one: it is lost while its process is frozen."""


def app_of(name: str, there: There) -> App:
    """Return the app of a process that starts or takes sagas."""
    slot = name.rpartition("-")[2]
    if name in SHOP:
        return App([shop], store=there.shop, transport=there.kafka, slot=slot)
    return App(
        [stock, till, reader],
        store=there.desk,
        transport=there.kafka,
        slot=slot,
        coordinator=Coordinator(plans=there.folder / "plans"),
    )


async def run(name: str, there: There, seed: int) -> None:
    """Be one of the processes until SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            writing = name not in DESK
            pool = await stack.enter_async_context(_pool(there.shop)) if writing else None
            if name in PLAIN:
                outbox = Outbox("shop", store=there.shop, transport=there.kafka, tuning=QUICK)
                await stack.enter_async_context(outbox)
            else:
                outbox = Outbox("shop", store=there.shop)  # what it writes is published by the relay of the app
                await stack.enter_async_context(app_of(name, there))
            there.up(name).touch()
            async with anyio.create_task_group() as tasks:
                for number in range(WRITERS if writing else 0):
                    rng = Random(f"{name} {seed} {number}")
                    tasks.start_soon(Writer(outbox, there, rng, sagas=name in SHOP).write_on, pool)
                async for _ in signals:
                    break
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def _pool(url: str) -> AsyncGenerator[Any]:
    """Give connections of the business's own, as long as the database is there at all."""
    pool = asyncpg.create_pool(url, min_size=0, max_size=WRITERS, command_timeout=20.0, timeout=5.0)
    await pool
    try:
        yield pool
    finally:
        pool.terminate()


def live(name: str, there: There, seed: int) -> None:
    """Be the child: its log goes to a file; it dies with whoever has forked it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    with (there.folder / f"{name}.log").open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(name)s %(message)s", force=True)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    anyio.run(run, name, there, seed)
