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
from saga.app import App, Coordinator, Tuning
from saga.outbox import Outbox
from tests.chaos.outbox_shop import There, reader, shop, stock, till
from tests.chaos.outbox_writing import Writer

PR_SET_PDEATHSIG = 1
PLAIN, SHOP, DESK = ("plain-0", "plain-1"), ("shop-0", "shop-1"), ("desk-0", "desk-1")
NAMES = (*PLAIN, *SHOP, *DESK)
WRITERS = 4
QUICK = RelayTuning(shards=ShardTuning(lease_seconds=3.0))
"""An app has the lease of fifteen seconds, an outbox this one: it is lost while its process is frozen."""
SOON = Tuning(waiting_lease_seconds=10.0)
"""An attempt of a process that was killed is made again after that time and not after a minute."""


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
        tuning=SOON,
    )


async def run(name: str, there: There, seed: int) -> None:
    """Be one of the processes until SIGTERM; it writes also while it still waits for Kafka."""
    writing = name not in DESK
    # What a shop writes is published by the relay of its app.
    outbox = Outbox("shop", store=there.shop, transport=there.kafka if name in PLAIN else None, tuning=QUICK)
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(_pool(there.shop)) if writing else None
            tasks = await stack.enter_async_context(anyio.create_task_group())
            writers = [Writer(outbox, there, Random(f"{name} {seed} {number}")) for number in range(WRITERS)]
            for writer in writers if writing else ():
                tasks.start_soon(writer.write_on, pool)
            async with outbox if name in PLAIN else app_of(name, there):
                for writer in writers:
                    writer.sagas = name in SHOP
                there.up(name).touch()
                async for _ in signals:
                    break
                for writer in writers:
                    writer.stopped = True


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
